-- send --
-- One statement for one packet or several: the wallet pays for all if it can, and only then is anything recorded. No row: it
-- could not pay. The wallet's row has the head of the chain over its payments (engine/ledger/chain.py), so its lock orders
-- the chain, which goes through the packets in their order. The entries have the time of their booking, by Postgres's clock.
-- The packets have Redis's time, by which they expire ($2).
-- $3: the asset (null: the ledger's currency). A user's freezes are in their wallet's row, which whoever sends has locked.
-- From $4 on: one array per column of packets. One of recipients ($11) is of the texts of arrays: they may differ in length.
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
), payer AS MATERIALIZED (
    SELECT account_id, hash, sum_fen FROM accounts,
        (SELECT sum(total_fen)::bigint AS sum_fen FROM unnest($5::bigint[]) AS total_fen) AS total
    WHERE account_id = CASE WHEN $3::text IS NULL
        THEN (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
        ELSE (SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $3) END
        AND balance_fen >= sum_fen
        AND NOT frozen AND (sending_frozen_until_ms IS NULL OR sending_frozen_until_ms <= $2::bigint)
    FOR UPDATE OF accounts
), chain (place, transfer_id, hash) AS (
    SELECT 0, 0::bigint, hash FROM payer
    UNION ALL
    SELECT place + 1, nextval('transfer_ids'), sha256(coalesce(chain.hash, '') || convert_to(concat_ws(' ', 'send', account_id,
        ($4::bigint[])[place + 1], ($5::bigint[])[place + 1], at_ms), 'UTF8'))
    FROM chain, payer, clock WHERE place < cardinality($4::bigint[])
), paid AS (
    UPDATE accounts SET balance_fen = balance_fen - sum_fen,
        hash = (SELECT hash FROM chain WHERE place = cardinality($4::bigint[]))
    FROM payer WHERE accounts.account_id = payer.account_id
    RETURNING accounts.account_id
), custody AS (
    INSERT INTO accounts (account_id, kind, balance_fen, asset)
    SELECT packet_id, 'custody', total_fen, $3 FROM paid, unnest($4::bigint[], $5::bigint[]) AS sent (packet_id, total_fen)
), packet AS (
    INSERT INTO packets (sender, created_at_ms, asset, packet_id, total_fen, count, split, min_fen, max_fen, greeting, recipients,
        seed, commitment, expires_at_ms, ack, purpose, label, arrives_at_ms)
    SELECT $1, $2, $3, packet_id, total_fen, count, split, min_fen, max_fen, greeting, recipients::text[], seed, commitment,
        expires_at_ms, ack, purpose, label, arrives_at_ms
    FROM paid, unnest($4::bigint[], $5::bigint[], $6::integer[], $7::text[], $8::bigint[], $9::bigint[], $10::text[],
        $11::text[], $12::bytea[], $13::bytea[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::bigint[])
        AS sent (packet_id, total_fen, count, split, min_fen, max_fen, greeting, recipients, seed, commitment, expires_at_ms,
            ack, purpose, label, arrives_at_ms)
), transfer AS (
    INSERT INTO transfers (transfer_id, kind, from_account, to_account, amount_fen, at_ms)
    SELECT transfer_id, 'send', account_id, ($4::bigint[])[place], ($5::bigint[])[place], at_ms FROM paid, clock, chain
    WHERE place > 0
)
INSERT INTO transfer_hashes (transfer_id, hash) SELECT transfer_id, hash FROM paid, chain WHERE place > 0
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
WHERE transfers.kind = 'claim' AND from_account = $1 AND slot > $2::bigint
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
