-- Rebuilding a lane of Redis from the ledger.

-- lock --
SELECT epoch, position FROM lanes WHERE lane = $1 FOR UPDATE

-- begin --
INSERT INTO recoveries (lane, epoch_before, epoch, position, reason, changes_lost, started_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, floor(extract(epoch FROM clock_timestamp()) * 1000))
RETURNING recovery_id

-- new_epoch --
UPDATE lanes SET epoch = $2, run_id = $3 WHERE lane = $1

-- end --
UPDATE recoveries
SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000), packets = $2, claims = $3, shares_left = $4
WHERE recovery_id = $1

-- open_packets --
SELECT packet_id, split, total_fen, count, min_fen, max_fen, seed, recipients, arrives_at_ms, expires_at_ms, ack,
    purpose = 'transfer' AS is_transfer
FROM packets WHERE state = 'open' AND packet_id / 100000000000000 % 1000 = $1::bigint AND packet_id > $2
ORDER BY packet_id LIMIT $3

-- frozen --
-- Users who may not claim.
SELECT user_id FROM freeze_changes
GROUP BY user_id HAVING (array_agg(is_frozen ORDER BY change_id DESC))[1]
ORDER BY user_id

-- frozen_version --
SELECT coalesce(max(change_id), 0) FROM freeze_changes

-- claims --
-- The claims of these packets. Claims in quarantine count as given, whatever became of them: a user was answered
-- that they have the share, and it must not be given to another user.
SELECT from_account AS packet_id, slot, owner AS user_id, amount_fen, at_ms, FALSE AS set_aside
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = ANY ($1::bigint[])
UNION ALL
SELECT packet_id, slot, user_id, amount_fen, at_ms, TRUE
FROM quarantine
WHERE kind = 'claim' AND packet_id = ANY ($1::bigint[]) AND slot IS NOT NULL AND NOT EXISTS (
    SELECT FROM transfers
    WHERE transfers.kind = 'claim' AND from_account = quarantine.packet_id AND transfers.slot = quarantine.slot
)
ORDER BY packet_id, slot

-- history --
SELECT recovery_id, lane, position, reason, changes_lost, started_at_ms, ended_at_ms, packets, claims, shares_left
FROM recoveries WHERE recovery_id < $1 AND ($2::integer IS NULL OR lane = $2) ORDER BY recovery_id DESC LIMIT $3
