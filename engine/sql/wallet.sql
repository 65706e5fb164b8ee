-- balance --
SELECT balance_fen FROM accounts WHERE kind = 'wallet' AND owner = $1

-- create --
INSERT INTO accounts (account_id, kind, owner) VALUES (nextval('wallet_ids'), 'wallet', $1)
ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING

-- deposit --
-- The transfer's number is taken after the bank's row is locked, so numbers are in the order of the bank's chain.
WITH clock AS (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
), wallet AS (
    UPDATE accounts SET balance_fen = balance_fen + $2::bigint WHERE kind = 'wallet' AND owner = $1
    RETURNING account_id, balance_fen
), bank AS (
    UPDATE accounts SET balance_fen = accounts.balance_fen - $2::bigint,
        hash = sha256(coalesce(hash, '') || convert_to(concat_ws(' ', 'deposit', 1, wallet.account_id, $2::bigint, at_ms), 'UTF8'))
    FROM wallet, clock WHERE accounts.account_id = 1
    RETURNING hash
), transfer AS (
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
    SELECT 'deposit', 1, account_id, $2, at_ms FROM wallet, clock, bank
    RETURNING transfer_id
), chained AS (
    INSERT INTO transfer_hashes (transfer_id, hash) SELECT transfer_id, hash FROM transfer, bank
)
SELECT transfer_id, balance_fen FROM transfer, wallet

-- transfers --
WITH mine AS (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
(SELECT transfer_id, kind::text, amount_fen, at_ms, from_account AS other FROM transfers, mine
 WHERE to_account = account_id AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3)
UNION ALL
(SELECT transfer_id, kind::text, -amount_fen, at_ms, to_account AS other FROM transfers, mine
 WHERE from_account = account_id AND kind <> 'claim' AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3)
ORDER BY transfer_id DESC LIMIT $3
