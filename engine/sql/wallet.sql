-- balance --
SELECT balance_fen FROM accounts WHERE account_id = CASE WHEN $2::text IS NULL
    THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
    ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $2) END

-- deposit --
-- deposit_many is in migrations/0010_deposits.sql.
SELECT outcome, request_hash, answer, left_fen FROM deposit_many($1, $2, $3, $4, $5, $6)

-- flush --
-- A commit that waits for the disk, and so for everything that was written before it.
SELECT pg_logical_emit_message(TRUE, 'hongbao', '')

-- transfers --
-- Of payers from $5 up to, and without, $6, but not from $7 up to, and without, $8: some of the ledger's volumes.
-- The account is one value and not a join. Otherwise Postgres may walk along all entries until it meets enough of them.
WITH mine AS MATERIALIZED (
    SELECT CASE WHEN $4::text IS NULL
        THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
        ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $4) END AS account_id
)
(SELECT transfer_id, kind::text, amount_fen, at_ms, from_account AS other FROM transfers
 WHERE to_account = (SELECT account_id FROM mine) AND transfer_id < $2
    AND from_account >= $5 AND from_account < $6 AND (from_account < $7 OR from_account >= $8)
 ORDER BY transfer_id DESC LIMIT $3)
UNION ALL
(SELECT transfer_id, kind::text, -amount_fen, at_ms, to_account AS other FROM transfers
 WHERE from_account = (SELECT account_id FROM mine) AND kind <> 'claim' AND transfer_id < $2
    AND from_account >= $5 AND from_account < $6 AND (from_account < $7 OR from_account >= $8)
 ORDER BY transfer_id DESC LIMIT $3)
ORDER BY transfer_id DESC LIMIT $3

-- users --
-- Users with a wallet, in the order of their ids (bytes): those from $1 on that are after $2 and before $3.
SELECT owner AS user_id, balance_fen, frozen, sending_frozen_until_ms FROM accounts
WHERE kind = 'wallet' AND owner >= $1 AND owner > $2 AND owner < $3 ORDER BY owner LIMIT $4

-- holdings --
-- What a user has besides money.
SELECT asset, name, scale, balance_fen FROM accounts JOIN assets USING (asset)
WHERE kind = 'holding' AND owner = $1 AND asset > $2 AND balance_fen > 0 ORDER BY asset LIMIT $3
