-- What an operator may mean by a text (engine/search.py).

-- find --
-- $1: the text. $2: the same if it may be a packet's number, $3: if it may be that of a row. $4: how many at most.
-- What begins with the text is found by the indexes' order ("C"): all from it on, up to the first that begins otherwise.
(SELECT 'packet' AS kind, packet_id::text AS id, TRUE AS is_exact FROM packets WHERE packet_id = $2)
UNION ALL
(SELECT 'dispute', dispute_id::text, TRUE FROM disputes WHERE dispute_id = $3)
UNION ALL
(SELECT 'withdrawal', withdrawal_id::text, TRUE FROM withdrawals WHERE withdrawal_id = $3)
UNION ALL
(SELECT 'campaign', campaign_id::text, TRUE FROM campaigns WHERE campaign_id = $3)
UNION ALL
(SELECT 'quarantine', quarantine_id::text, TRUE FROM quarantine WHERE quarantine_id = $3)
UNION ALL
(SELECT 'approval', approval_id::text, TRUE FROM approvals WHERE approval_id = $3)
UNION ALL
(SELECT 'operator', name, TRUE FROM operators WHERE name = $1)
UNION ALL
(SELECT 'label', label, label = $1 FROM labels WHERE label >= $1 AND starts_with(label, $1) ORDER BY label LIMIT 10)
UNION ALL
(SELECT 'label', label, TRUE FROM packets WHERE label = $1 AND NOT EXISTS (SELECT FROM labels WHERE labels.label = $1) LIMIT 1)
UNION ALL
(SELECT 'user', owner, owner = $1 FROM (
    SELECT owner FROM accounts WHERE kind = 'wallet' AND owner >= $1 AND owner < $1 || chr(1114111)
    ORDER BY owner LIMIT 20
) AS users)
ORDER BY 3 DESC, 1, 2 LIMIT $4
