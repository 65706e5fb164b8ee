-- What an operator may mean by a text (engine/search.py).

-- find --
-- $1: the text. $2: the same if it may be a packet's number, $3: if it may be that of a row. $4: how many at most.
-- id: of its page, which may be that of whose it is. name: what the text was compared with, if that is not the id.
-- What begins with the text is found by the indexes' order ("C"): all from it on, up to the first that begins otherwise.
(SELECT 'packet' AS kind, packet_id::text AS id, NULL::text AS name, TRUE AS is_exact FROM packets WHERE packet_id = $2)
UNION ALL
(SELECT 'dispute', dispute_id::text, NULL, TRUE FROM disputes WHERE dispute_id = $3)
UNION ALL
(SELECT 'withdrawal', withdrawal_id::text, NULL, TRUE FROM withdrawals WHERE withdrawal_id = $3)
UNION ALL
(SELECT 'campaign', campaign_id::text, NULL, TRUE FROM campaigns WHERE campaign_id = $3)
UNION ALL
(SELECT 'quarantine', quarantine_id::text, NULL, TRUE FROM quarantine WHERE quarantine_id = $3)
UNION ALL
(SELECT 'approval', approval_id::text, NULL, TRUE FROM approvals WHERE approval_id = $3)
UNION ALL
(SELECT 'operator', name, NULL, TRUE FROM operators WHERE name = $1)
UNION ALL
(SELECT 'label', label, NULL, label = $1 FROM labels WHERE label >= $1 AND starts_with(label, $1) ORDER BY label LIMIT 10)
UNION ALL
(SELECT 'label', label, NULL, TRUE FROM packets WHERE label = $1 AND NOT EXISTS (SELECT FROM labels WHERE labels.label = $1) LIMIT 1)
UNION ALL
(SELECT 'user', owner, NULL, owner = $1 FROM (
    SELECT owner FROM accounts WHERE kind = 'wallet' AND owner >= $1 AND owner < $1 || chr(1114111)
    ORDER BY owner LIMIT 20
) AS users)
UNION ALL
(SELECT 'merchant', account, mch_id, TRUE FROM wechatpay_merchants WHERE mch_id = $1)
UNION ALL
(SELECT 'order', packet_id::text, number, TRUE FROM wechatpay_orders WHERE number = $1 AND packet_id IS NOT NULL
    ORDER BY order_id DESC LIMIT 10)
UNION ALL
(SELECT 'unpaid_order', account, number, TRUE FROM wechatpay_orders WHERE number = $1 AND packet_id IS NULL
    ORDER BY order_id DESC LIMIT 10)
UNION ALL
(SELECT 'campaign', campaign_id::text, name, lower(name COLLATE "C") = lower($1 COLLATE "C") FROM campaigns
    WHERE lower(name COLLATE "C") >= lower($1 COLLATE "C") AND lower(name COLLATE "C") < lower($1 COLLATE "C") || chr(1114111)
    ORDER BY lower(name COLLATE "C"), campaign_id LIMIT 10)
UNION ALL
(SELECT 'coupon_batch', owner, name, lower(name COLLATE "C") = lower($1 COLLATE "C") FROM coupon_batches
    WHERE lower(name COLLATE "C") >= lower($1 COLLATE "C") AND lower(name COLLATE "C") < lower($1 COLLATE "C") || chr(1114111)
    ORDER BY lower(name COLLATE "C"), batch_id LIMIT 5)
UNION ALL
(SELECT 'fundraiser', owner, title, lower(title COLLATE "C") = lower($1 COLLATE "C") FROM fundraisers
    WHERE lower(title COLLATE "C") >= lower($1 COLLATE "C") AND lower(title COLLATE "C") < lower($1 COLLATE "C") || chr(1114111)
    ORDER BY lower(title COLLATE "C"), fundraiser_id LIMIT 5)
UNION ALL
(SELECT 'display', user_id, name, lower(name COLLATE "C") = lower($1 COLLATE "C") FROM displays
    WHERE lower(name COLLATE "C") >= lower($1 COLLATE "C") AND lower(name COLLATE "C") < lower($1 COLLATE "C") || chr(1114111)
    ORDER BY lower(name COLLATE "C"), user_id LIMIT 5)
ORDER BY 4 DESC, 1, 3 NULLS FIRST, 2 LIMIT $4
