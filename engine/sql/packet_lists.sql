-- Lists of packets, newest first (engine/packets/lists.py). All of them: $1 the states; $2, $3 the time and the number of the
-- packet before the page; $4 the earliest time; $5, $6 the smallest and the largest total; $7 how many.

-- by_state --
-- One walk per state along packets_by_state, which has the totals, too; merged. Only then the rows are fetched.
WITH found AS MATERIALIZED (
    SELECT found.* FROM unnest($1::text[]) AS wanted (state) CROSS JOIN LATERAL (
        SELECT packet_id, created_at_ms FROM packets
        WHERE packets.state = wanted.state::packet_state AND (created_at_ms, packet_id) < ($2::bigint, $3::bigint)
            AND created_at_ms >= $4::bigint AND total_fen >= $5::bigint AND total_fen <= $6::bigint
        ORDER BY created_at_ms DESC, packet_id DESC LIMIT $7
    ) AS found ORDER BY created_at_ms DESC, packet_id DESC LIMIT $7
)
SELECT packet_id, sender, purpose, label, state::text, asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale, total_fen, count, packets.created_at_ms,
    ended_at_ms, settled_at_ms, remaining_count, remaining_fen
FROM found JOIN packets USING (packet_id) ORDER BY packets.created_at_ms DESC, packet_id DESC

-- of_sender --
SELECT packet_id, sender, purpose, label, state::text, asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale, total_fen, count, created_at_ms, ended_at_ms, settled_at_ms,
    remaining_count, remaining_fen
FROM packets
WHERE state::text = ANY ($1::text[]) AND (created_at_ms, packet_id) < ($2::bigint, $3::bigint)
    AND created_at_ms >= $4::bigint AND total_fen >= $5::bigint AND total_fen <= $6::bigint AND sender = $8
    AND ($9::text IS NULL OR label = $9)
ORDER BY created_at_ms DESC, packet_id DESC LIMIT $7

-- of_label --
SELECT packet_id, sender, purpose, label, state::text, asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale, total_fen, count, created_at_ms, ended_at_ms, settled_at_ms,
    remaining_count, remaining_fen
FROM packets
WHERE state::text = ANY ($1::text[]) AND (created_at_ms, packet_id) < ($2::bigint, $3::bigint)
    AND created_at_ms >= $4::bigint AND total_fen >= $5::bigint AND total_fen <= $6::bigint AND label = $8
ORDER BY created_at_ms DESC, packet_id DESC LIMIT $7

-- labels --
-- A page of labels in their order: each is found by a step along packets_of_label, however many packets it has, and no step
-- is made past the page. Of each, at most $5 packets since $3 are counted.
WITH RECURSIVE walk AS (
    (SELECT label FROM packets WHERE label > $1 AND label >= $2 ORDER BY label LIMIT 1)
    UNION ALL
    SELECT (SELECT packets.label FROM packets WHERE packets.label > walk.label ORDER BY packets.label LIMIT 1)
    FROM walk WHERE starts_with(walk.label, $2)
), page AS (
    SELECT label FROM walk WHERE starts_with(label, $2) LIMIT $4
)
SELECT page.label, labels.day_sent_fen_max, sent_in_day('label:' || page.label, $6, $7, $8) AS day_sent_fen, sums.*
FROM page LEFT JOIN labels USING (label) CROSS JOIN LATERAL (
    SELECT count(*) AS packets, coalesce(sum(count), 0)::bigint AS shares, coalesce(sum(total_fen), 0)::bigint AS sent_fen,
        coalesce(sum(total_fen - remaining_fen), 0)::bigint AS claimed_fen, coalesce(sum(remaining_fen), 0)::bigint AS refunded_fen,
        count(*) FILTER (WHERE state = 'exhausted') AS exhausted,
        coalesce(avg(ended_at_ms - created_at_ms) FILTER (WHERE state = 'exhausted'), -1)::bigint AS sold_out_ms
    FROM (
        SELECT count, total_fen, remaining_fen, state, ended_at_ms, created_at_ms FROM packets
        WHERE packets.label = page.label AND created_at_ms >= $3 AND asset IS NULL
        ORDER BY created_at_ms DESC LIMIT $5
    ) AS counted
) AS sums ORDER BY page.label

-- open_count --
-- Counted up to $1, along packets_live.
SELECT count(*) FROM (SELECT FROM packets WHERE state IN ('funded', 'open') LIMIT $1) AS live

-- refunds_waiting --
-- Packets that have ended, and whose custody is not empty yet, the oldest first.
SELECT packet_id, sender, packets.state::text, packets.asset,
    (SELECT scale FROM assets WHERE assets.asset = packets.asset) AS scale, total_fen, remaining_fen, ended_at_ms, balance_fen AS custody_fen,
    (SELECT count(*) FROM quarantine WHERE quarantine.packet_id = packets.packet_id AND resolution IS NULL) AS quarantined
FROM packets LEFT JOIN accounts ON account_id = packet_id
WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL AND (ended_at_ms, packet_id) > ($1::bigint, $2::bigint)
ORDER BY ended_at_ms, packet_id LIMIT $3

-- refunds_count --
SELECT count(*) AS waiting, min(ended_at_ms) AS oldest_ms FROM (
    SELECT ended_at_ms FROM packets WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL ORDER BY ended_at_ms LIMIT $1
) AS waiting

-- faults_count --
SELECT count(*) FROM (
    SELECT FROM disputes WHERE kind = 'system_fault' AND state = 'upheld' AND returned_fen IS NULL LIMIT $1
) AS waiting
