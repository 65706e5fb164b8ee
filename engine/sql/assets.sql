-- Assets besides the ledger's currency (engine/wallets/assets.py).

-- asset --
SELECT asset, scale, name, issuer, created_at_ms, sole_sender FROM assets WHERE asset = $1

-- add --
-- An asset and its issuer's account, if it is not there yet.
WITH added AS (
    INSERT INTO assets (asset, scale, name, issuer, created_at_ms)
    VALUES ($1, $2, $3, nextval('wallet_ids'), floor(extract(epoch FROM clock_timestamp()) * 1000))
    ON CONFLICT DO NOTHING RETURNING asset, issuer
)
INSERT INTO accounts (account_id, kind, asset) SELECT issuer, 'issuer', asset FROM added

-- page --
-- What has been issued is what the issuer owes.
SELECT assets.asset, scale, name, created_at_ms, -balance_fen AS issued_fen
FROM assets JOIN accounts ON account_id = issuer
WHERE assets.asset > $1 ORDER BY assets.asset LIMIT $2

-- issued --
SELECT -balance_fen FROM accounts WHERE account_id = $1

-- holdings --
SELECT asset, scale, name, balance_fen FROM accounts JOIN assets USING (asset)
WHERE kind = 'holding' AND owner = $1 AND asset > $2 ORDER BY asset LIMIT $3

-- create_holding --
INSERT INTO accounts (account_id, kind, owner, asset) VALUES (nextval('wallet_ids'), 'holding', $1, $2)
ON CONFLICT (owner, asset) WHERE kind = 'holding' DO NOTHING

-- lock_holding --
SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $2 FOR UPDATE

-- lock_issuer --
SELECT balance_fen FROM accounts WHERE account_id = $1 FOR UPDATE

-- balance --
SELECT balance_fen FROM accounts WHERE account_id = $1
