-- opening --
-- What a wallet held before a moment: by its movements, not by its balance, which is today's. As text: of books that are
-- wrong it may be more than 64 bits hold.
WITH mine AS (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
SELECT (coalesce((SELECT sum(amount_fen) FROM transfers, mine WHERE to_account = account_id AND at_ms < $2), 0)
    - coalesce((SELECT sum(amount_fen) FROM transfers, mine
                WHERE from_account = account_id AND kind <> 'claim' AND at_ms < $2), 0))::text

-- movements --
WITH mine AS (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1), movements AS (
    SELECT transfer_id, kind::text, amount_fen, at_ms, from_account AS other FROM transfers, mine
    WHERE to_account = account_id AND at_ms >= $2 AND at_ms < $3
    UNION ALL
    SELECT transfer_id, kind::text, -amount_fen, at_ms, to_account AS other FROM transfers, mine
    WHERE from_account = account_id AND kind <> 'claim' AND at_ms >= $2 AND at_ms < $3
    ORDER BY at_ms, transfer_id LIMIT $4
)
SELECT transfer_id, kind, amount_fen, at_ms, other, coalesce(purpose, 'packet') AS purpose
FROM movements LEFT JOIN packets ON packet_id = other
ORDER BY at_ms, transfer_id
