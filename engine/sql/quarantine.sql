-- open_by_lane --
SELECT lane, count(*) AS open FROM quarantine WHERE resolution IS NULL GROUP BY lane

-- is_lane --
SELECT EXISTS (SELECT FROM lanes WHERE lane = $1)

-- page --
SELECT quarantine_id, lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, resolution,
    resolved_at_ms, resolved_by, resolution_reason, moved_fen,
    (SELECT asset FROM packets WHERE packets.packet_id = quarantine.packet_id) AS asset,
    (SELECT scale FROM packets JOIN assets USING (asset) WHERE packets.packet_id = quarantine.packet_id) AS scale
FROM quarantine
WHERE quarantine_id > $1 AND ($2 OR resolution IS NULL)
ORDER BY quarantine_id LIMIT $3

-- lock --
-- The row, and its packet in the ledger (nulls: the ledger does not have it).
SELECT quarantine_id, lane, position, quarantine.packet_id, quarantine.kind, user_id, slot, amount_fen, at_ms,
    quarantine.state, quarantine.remaining_count, resolution, packets.state::text AS packet_state, asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale
FROM quarantine LEFT JOIN packets USING (packet_id)
WHERE quarantine_id = $1 FOR UPDATE OF quarantine

-- custody --
SELECT balance_fen FROM accounts WHERE account_id = $1 AND kind = 'custody' FOR UPDATE

-- other_open --
-- Of those that are about money.
SELECT count(*) FROM quarantine
WHERE packet_id = $1 AND resolution IS NULL AND kind <> 'opening' AND quarantine_id <> $2

-- write_off --
-- From the custody into the quarantine account, chained like every entry outside batches (engine/ledger/chain.py). What is
-- not money goes back to its issuer.
WITH goes_to AS MATERIALIZED (
    SELECT coalesce(issuer, 3) AS account FROM accounts LEFT JOIN assets USING (asset) WHERE account_id = $1
), custody AS (
    UPDATE accounts SET balance_fen = balance_fen - $2::bigint, hash = sha256(coalesce(hash, '') || convert_to(
        concat_ws(' ', 'write_off', $1::bigint, goes_to.account, $2::bigint, $3::bigint), 'UTF8'
    ))
    FROM goes_to WHERE account_id = $1 RETURNING hash, goes_to.account
), quarantine_account AS (
    UPDATE accounts SET balance_fen = accounts.balance_fen + $2::bigint FROM custody WHERE account_id = custody.account
), transfer AS (
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, position)
    SELECT 'write_off', $1, account, $2, $3, $4 FROM custody RETURNING transfer_id
)
INSERT INTO transfer_hashes (transfer_id, hash) SELECT transfer_id, hash FROM transfer, custody

-- resolve --
UPDATE quarantine
SET resolution = $2, resolved_at_ms = $3, resolved_by = $4, resolution_reason = $5, moved_fen = $6, took_effect = $7
WHERE quarantine_id = $1

-- settle --
UPDATE packets SET settled_at_ms = $2
FROM accounts
WHERE packet_id = $1 AND ended_at_ms IS NOT NULL AND settled_at_ms IS NULL AND account_id = packet_id AND balance_fen = 0

-- now_ms --
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- listed --
-- For operators. The oldest first; $2: whether open ones or resolved ones (null: both); $3 a lane, $4 a packet, $5 a kind.
SELECT quarantine_id, lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, resolution,
    resolved_at_ms, resolved_by, resolution_reason, moved_fen,
    (SELECT asset FROM packets WHERE packets.packet_id = quarantine.packet_id) AS asset,
    (SELECT scale FROM packets JOIN assets USING (asset) WHERE packets.packet_id = quarantine.packet_id) AS scale
FROM quarantine
WHERE quarantine_id > $1 AND ($2::boolean IS NULL OR (resolution IS NULL) = $2) AND ($3::integer IS NULL OR lane = $3)
    AND ($4::bigint IS NULL OR packet_id = $4) AND ($5::text IS NULL OR kind = $5)
ORDER BY quarantine_id LIMIT $6

-- open_listed --
-- The open ones alone: in its own statement, so that it always goes along quarantine_open_by_number.
SELECT quarantine_id, lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, resolution,
    resolved_at_ms, resolved_by, resolution_reason, moved_fen,
    (SELECT asset FROM packets WHERE packets.packet_id = quarantine.packet_id) AS asset,
    (SELECT scale FROM packets JOIN assets USING (asset) WHERE packets.packet_id = quarantine.packet_id) AS scale
FROM quarantine
WHERE quarantine_id > $1 AND resolution IS NULL AND ($2::integer IS NULL OR lane = $2)
    AND ($3::bigint IS NULL OR packet_id = $3) AND ($4::text IS NULL OR kind = $4)
ORDER BY quarantine_id LIMIT $5

-- listed_one --
SELECT quarantine_id, lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, resolution,
    resolved_at_ms, resolved_by, resolution_reason, moved_fen,
    (SELECT asset FROM packets WHERE packets.packet_id = quarantine.packet_id) AS asset,
    (SELECT scale FROM packets JOIN assets USING (asset) WHERE packets.packet_id = quarantine.packet_id) AS scale
FROM quarantine WHERE quarantine_id = $1

-- open_totals --
-- Counted up to $1. Nothing is added up over two assets: amount_fen is of money.
SELECT count(*) AS rows, coalesce(sum(amount_fen) FILTER (WHERE asset IS NULL), 0)::bigint AS amount_fen,
    count(asset) AS of_assets, min(at_ms) AS oldest_ms
FROM (
    SELECT amount_fen, at_ms, (SELECT asset FROM packets WHERE packets.packet_id = quarantine.packet_id) AS asset
    FROM quarantine WHERE resolution IS NULL ORDER BY quarantine_id LIMIT $1
) AS waiting

-- open_ids --
SELECT quarantine_id FROM quarantine WHERE resolution IS NULL AND quarantine_id > $1 ORDER BY quarantine_id LIMIT $2

-- touched --
-- What a change in quarantine would move: its packet's state and custody, and the balance of its user (of the packet's asset).
SELECT packets.state::text AS packet_state, packets.asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale, custody.balance_fen AS custody_fen, (
    SELECT balance_fen FROM accounts WHERE owner = $2 AND asset IS NOT DISTINCT FROM packets.asset
        AND kind = CASE WHEN packets.asset IS NULL THEN 'wallet' ELSE 'holding' END::account_kind
) AS user_fen, (
    SELECT balance_fen FROM accounts WHERE owner = packets.sender AND asset IS NOT DISTINCT FROM packets.asset
        AND kind = CASE WHEN packets.asset IS NULL THEN 'wallet' ELSE 'holding' END::account_kind
) AS sender_fen
FROM (SELECT $1::bigint AS packet_id) AS named LEFT JOIN packets USING (packet_id)
LEFT JOIN accounts AS custody ON custody.account_id = named.packet_id AND custody.kind = 'custody'

-- resolved_as --
-- Who has resolved a row, and why. Whoever is resolving it now is waited for.
SELECT resolved_by, resolution_reason FROM quarantine WHERE quarantine_id = $1 AND resolution = 'written_off'
FOR UPDATE
