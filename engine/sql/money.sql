-- Moves money without a lane's event. move_money itself is in migrations/0006_rules.sql.

-- create_wallet --
INSERT INTO accounts (account_id, kind, owner) VALUES (nextval('wallet_ids'), 'wallet', $1)
ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING

-- lock_wallet --
SELECT account_id, balance_fen, frozen, sending_frozen_until_ms FROM accounts
WHERE kind = 'wallet' AND owner = $1 FOR UPDATE

-- move --
SELECT move_money($1::transfer_kind, $2, $3, $4, $5)

-- now_ms --
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
