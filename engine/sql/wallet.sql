-- balance --
SELECT balance_fen FROM accounts WHERE kind = 'wallet' AND owner = $1

-- create --
INSERT INTO accounts (account_id, kind, owner) VALUES (nextval('wallet_ids'), 'wallet', $1)
ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING

-- deposit --
WITH wallet AS (
    UPDATE accounts SET balance_fen = balance_fen + $2::bigint WHERE kind = 'wallet' AND owner = $1
    RETURNING account_id, balance_fen
), bank AS (
    UPDATE accounts SET balance_fen = balance_fen - $2::bigint WHERE account_id = 1
), transfer AS (
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
    SELECT 'deposit', 1, account_id, $2, floor(extract(epoch FROM clock_timestamp()) * 1000) FROM wallet
    RETURNING transfer_id
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
