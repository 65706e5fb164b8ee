-- send --
-- One statement: the wallet pays if it can, and only then is anything recorded. No row: it could not pay.
-- The wallet's row has the head of the chain over its payments (engine/ledger/chain.py), so its lock orders the chain.
-- The entry has the time of its booking, by Postgres's clock. The packet has Redis's time, by which it expires ($12).
-- $18: the asset (null: the ledger's currency). A user's freezes are in their wallet's row, which whoever sends has locked.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
), paid AS (
    UPDATE accounts SET balance_fen = balance_fen - $3::bigint,
        hash = sha256(coalesce(hash, '') || convert_to(concat_ws(' ', 'send', account_id, $1::bigint, $3::bigint, at_ms), 'UTF8'))
    FROM clock
    WHERE account_id = CASE WHEN $18::text IS NULL
        THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $2)
        ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $2 AND asset = $18) END
        AND balance_fen >= $3::bigint
        AND NOT frozen AND (sending_frozen_until_ms IS NULL OR sending_frozen_until_ms <= $12::bigint)
    RETURNING account_id, hash, at_ms
), custody AS (
    INSERT INTO accounts (account_id, kind, balance_fen, asset) SELECT $1::bigint, 'custody', $3::bigint, $18 FROM paid
), packet AS (
    INSERT INTO packets (packet_id, sender, total_fen, count, split, min_fen, max_fen, greeting, recipients, seed,
        commitment, created_at_ms, expires_at_ms, ack, purpose, label, arrives_at_ms, asset)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18 FROM paid
), transfer AS (
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
    SELECT 'send', account_id, $1, $3, at_ms FROM paid
    RETURNING transfer_id
)
INSERT INTO transfer_hashes (transfer_id, hash) SELECT transfer_id, hash FROM transfer, paid
RETURNING transfer_id

-- why_not_paid --
-- Why the wallet could not pay: too little money, or the sender is frozen.
SELECT frozen OR coalesce(sending_frozen_until_ms > $2, FALSE) FROM accounts WHERE kind = 'wallet' AND owner = $1

-- packet --
SELECT packet_id, sender, split, total_fen, count, min_fen, max_fen, greeting, recipients, ack, purpose, label, seed,
    commitment, packets.created_at_ms, arrives_at_ms, expires_at_ms, state::text, remaining_count, remaining_fen, settled_at_ms,
    asset, scale
FROM packets LEFT JOIN assets USING (asset) WHERE packet_id = $1

-- claims --
SELECT owner AS user_id, amount_fen, slot, at_ms AS claimed_at_ms
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1 AND slot > $2
ORDER BY slot LIMIT $3

-- luckiest --
SELECT owner AS user_id, amount_fen, slot, at_ms AS claimed_at_ms
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1
ORDER BY amount_fen DESC, slot LIMIT 1

-- sent_by --
-- In the ledger's order, like received packets: a packet has Redis's time, from before its sender's wallet was locked.
SELECT transfer_id, packet_id, state::text, total_fen AS amount_fen, created_at_ms AS at_ms, expires_at_ms
FROM transfers JOIN packets ON packet_id = to_account
WHERE kind = 'send' AND from_account = CASE WHEN $4::text IS NULL
        THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
        ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $4) END
    AND transfer_id < $2
ORDER BY transfer_id DESC LIMIT $3

-- received_by --
-- Shares of packets with numbers from $5 up to, and without, $6, but not from $7 up to, and without, $8: of some of the
-- ledger's volumes.
SELECT transfer_id, packet_id, state::text, amount_fen, at_ms, expires_at_ms
FROM transfers JOIN packets ON packet_id = from_account
WHERE kind = 'claim' AND to_account = CASE WHEN $4::text IS NULL
        THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
        ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $4) END
    AND transfer_id < $2
    AND from_account >= $5 AND from_account < $6 AND (from_account < $7 OR from_account >= $8)
ORDER BY transfer_id DESC LIMIT $3
