-- A wallet's entries get their numbers under the lock of its row, so they are in the order of its payments. Their times
-- come from two clocks, and a claim's time is from before its booking: times need not rise with the numbers.

-- account --
SELECT CASE WHEN $2::text IS NULL
    THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
    ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $2) END

-- border --
-- The entry with which a day begins for a wallet ($1): the first one of that moment ($2) or later. NULL: there is none.
SELECT least(
    (SELECT min(transfer_id) FROM transfers WHERE to_account = $1 AND at_ms >= $2),
    (SELECT min(transfer_id) FROM transfers WHERE from_account = $1 AND kind <> 'claim' AND at_ms >= $2)
)

-- last --
SELECT greatest(
    (SELECT max(transfer_id) FROM transfers WHERE to_account = $1),
    (SELECT max(transfer_id) FROM transfers WHERE from_account = $1 AND kind <> 'claim')
)

-- opening --
-- A wallet's balance before an entry, computed from its entries, because the stored balance is today's. As text: in
-- wrong books it may need more than 64 bits.
SELECT (coalesce((SELECT sum(amount_fen) FROM transfers WHERE to_account = $1 AND transfer_id < $2), 0)
    - coalesce((SELECT sum(amount_fen) FROM transfers
                WHERE from_account = $1 AND kind <> 'claim' AND transfer_id < $2), 0))::text

-- movements --
-- At most $4 of the entries between two others.
WITH movements AS (
    (SELECT transfer_id, kind::text, amount_fen, at_ms, from_account AS other FROM transfers
     WHERE to_account = $1 AND transfer_id > $2 AND transfer_id < $3 ORDER BY transfer_id LIMIT $4)
    UNION ALL
    (SELECT transfer_id, kind::text, -amount_fen, at_ms, to_account AS other FROM transfers
     WHERE from_account = $1 AND kind <> 'claim' AND transfer_id > $2 AND transfer_id < $3 ORDER BY transfer_id LIMIT $4)
    ORDER BY transfer_id LIMIT $4
)
SELECT transfer_id, kind, amount_fen, at_ms, other, coalesce(purpose, 'packet') AS purpose
FROM movements LEFT JOIN packets ON packet_id = other
ORDER BY transfer_id
