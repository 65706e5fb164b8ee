-- balance --
SELECT balance_fen FROM accounts WHERE kind = 'wallet' AND owner = $1

-- deposit --
-- deposit_many is in migrations/0010_deposits.sql.
SELECT outcome, request_hash, answer, left_fen FROM deposit_many($1, $2, $3, $4, $5, $6)

-- flush --
-- A commit that waits for the disk, and so for everything that was written before it.
SELECT pg_logical_emit_message(TRUE, 'hongbao', '')

-- transfers --
WITH mine AS (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
(SELECT transfer_id, kind::text, amount_fen, at_ms, from_account AS other FROM transfers, mine
 WHERE to_account = account_id AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3)
UNION ALL
(SELECT transfer_id, kind::text, -amount_fen, at_ms, to_account AS other FROM transfers, mine
 WHERE from_account = account_id AND kind <> 'claim' AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3)
ORDER BY transfer_id DESC LIMIT $3
