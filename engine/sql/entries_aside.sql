-- Entries of a lane's stream that were set aside, and the ledger's state of the lane's packets meanwhile.

-- add --
INSERT INTO entries_aside
    (lane, entry_id, fields, changes, changes_found, found, set_aside_by, reason, set_aside_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, floor(extract(epoch FROM clock_timestamp()) * 1000))
RETURNING aside_id

-- page --
SELECT aside_id, lane, entry_id, fields, changes, changes_found, found, set_aside_at_ms, set_aside_by, reason
FROM entries_aside WHERE aside_id > $1 ORDER BY aside_id LIMIT $2

-- live_packets --
-- A lane's packets that have not ended in the ledger.
SELECT packet_id, state::text FROM packets
WHERE state IN ('funded', 'open') AND packet_id / 100000000000000 % 1000 = $1::bigint AND packet_id > $2
ORDER BY packet_id LIMIT $3

-- known_claims --
SELECT slot FROM transfers WHERE kind = 'claim' AND from_account = $1
UNION ALL
SELECT slot FROM quarantine WHERE kind = 'claim' AND packet_id = $1

-- known_others --
-- Openings and endings that were set aside.
SELECT packet_id, kind FROM quarantine WHERE kind IN ('opening', 'ending') AND packet_id = ANY ($1::bigint[])
