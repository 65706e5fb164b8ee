-- A wallet's entries take their numbers under the lock of its row, so their order is that in which it was paid and paid.
-- Their times come from two clocks, and a claim's is from before it is booked: they need not rise with the numbers.

-- account --
SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1

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
-- What a wallet held before an entry: by its movements, not by its balance, which is today's. As text: of
-- books that are wrong it may be more than 64 bits hold.
SELECT (coalesce((SELECT sum(amount_fen) FROM transfers WHERE to_account = $1 AND transfer_id < $2), 0)
    - coalesce((SELECT sum(amount_fen) FROM transfers
                WHERE from_account = $1 AND kind <> 'claim' AND transfer_id < $2), 0))::text

-- movements --
-- At most $4 of those after one entry and before another.
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
