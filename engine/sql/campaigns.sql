-- Packet rain (engine/campaigns/).

-- grant --
INSERT INTO campaign_grants AS granted (campaign_id, user_id, wins) VALUES ($1, $2, $3)
ON CONFLICT (campaign_id, user_id) DO UPDATE SET wins = granted.wins + excluded.wins
RETURNING wins

-- new_number --
SELECT nextval(pg_get_serial_sequence('campaigns', 'campaign_id'))

-- add --
INSERT INTO campaigns (campaign_id, owner, name, odds_millionths, seed, commitment, created_at_ms,
    who, wave_wins_max, wins_max, interval_ms, guests, label)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- add_waves --
INSERT INTO campaign_waves (campaign_id, wave, starts_at_ms, ends_at_ms)
SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bigint[])

-- add_prizes --
INSERT INTO campaign_prizes (campaign_id, wave, prize, asset, split, total_fen, count)
SELECT $1, * FROM unnest($2::smallint[], $3::smallint[], $4::text[], $5::text[], $6::bigint[], $7::integer[])

-- coupons_until --
-- When the first of a wave's coupons is over. NULL: it has none.
SELECT min(valid_until_ms) FROM campaign_prizes JOIN coupon_batches USING (asset) WHERE campaign_id = $1 AND wave = $2

-- add_buckets --
INSERT INTO campaign_buckets (campaign_id, packet_id, wave, prize, bucket)
SELECT $1, * FROM unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::smallint[])

-- campaign --
SELECT campaign_id, owner, name, odds_millionths, seed, commitment, created_at_ms, who, wave_wins_max, wins_max,
    interval_ms, guests, label
FROM campaigns WHERE campaign_id = $1

-- waves --
SELECT wave, starts_at_ms, ends_at_ms FROM campaign_waves WHERE campaign_id = $1 ORDER BY wave

-- prizes --
SELECT wave, prize, asset, coalesce(scale, 2) AS scale, split, total_fen, count,
    EXISTS (SELECT FROM coupon_batches WHERE coupon_batches.asset = campaign_prizes.asset) AS is_coupon
FROM campaign_prizes LEFT JOIN assets USING (asset) WHERE campaign_id = $1 ORDER BY wave, prize

-- buckets --
SELECT wave, prize, packet_id, count FROM campaign_buckets JOIN packets USING (packet_id)
WHERE campaign_id = $1 ORDER BY wave, bucket

-- changes --
-- What may change of a campaign, and the clock.
SELECT is_paused, ended_at_ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
    ARRAY(SELECT ends_at_ms FROM campaign_waves WHERE campaign_waves.campaign_id = $1 ORDER BY wave) AS ends_ms
FROM campaigns WHERE campaign_id = $1

-- of_owner --
SELECT campaign_id, owner, name, created_at_ms FROM campaigns
WHERE ($1::text IS NULL OR owner = $1) AND campaign_id < $2 ORDER BY campaign_id DESC LIMIT $3

-- lines --
-- Campaigns with what the ledger knows of each, after the campaign $2: the newest first or, of those whose names begin with
-- $4, by their names. left: shares of parts that have ended and that nobody won.
SELECT campaign_id, owner, name, created_at_ms, is_paused, ended_at_ms, odds_millionths,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms,
    waves.count AS waves, waves.starts_at_ms, waves.ends_at_ms,
    prizes.shares, prizes.money_fen, prizes.assets, ended.returned_shares, ended.returned_fen, ended.open_parts
FROM (
    (
        SELECT * FROM campaigns WHERE $4::text IS NULL AND ($1::text IS NULL OR owner = $1) AND campaign_id < $2
        ORDER BY campaign_id DESC LIMIT $3
    ) UNION ALL (
        SELECT * FROM campaigns
        WHERE $4::text IS NOT NULL AND ($1::text IS NULL OR owner = $1) AND (lower(name COLLATE "C"), campaign_id) > (
                coalesce((SELECT lower(name COLLATE "C") FROM campaigns WHERE campaign_id = $2), lower($4 COLLATE "C")), $2
            )
            AND lower(name COLLATE "C") >= lower($4 COLLATE "C") AND lower(name COLLATE "C") < lower($4 COLLATE "C") || chr(1114111)
        ORDER BY lower(name COLLATE "C"), campaign_id LIMIT $3
    )
) AS chosen
CROSS JOIN LATERAL (
    SELECT count(*), min(starts_at_ms) AS starts_at_ms, max(ends_at_ms) AS ends_at_ms FROM campaign_waves
    WHERE campaign_waves.campaign_id = chosen.campaign_id
) AS waves
CROSS JOIN LATERAL (
    SELECT sum(count)::bigint AS shares, coalesce(sum(total_fen) FILTER (WHERE asset IS NULL), 0)::bigint AS money_fen,
        count(DISTINCT asset) AS assets
    FROM campaign_prizes WHERE campaign_prizes.campaign_id = chosen.campaign_id
) AS prizes
CROSS JOIN LATERAL (
    SELECT coalesce(sum(remaining_count), 0)::bigint AS returned_shares,
        coalesce(sum(remaining_fen) FILTER (WHERE asset IS NULL), 0)::bigint AS returned_fen,
        count(*) FILTER (WHERE remaining_count IS NULL) AS open_parts
    FROM campaign_buckets JOIN packets USING (packet_id) WHERE campaign_buckets.campaign_id = chosen.campaign_id
) AS ended
ORDER BY CASE WHEN $4::text IS NULL THEN '' ELSE lower(name COLLATE "C") END,
    CASE WHEN $4::text IS NULL THEN -campaign_id ELSE campaign_id END

-- pause --
UPDATE campaigns SET is_paused = $2 WHERE campaign_id = $1 AND ended_at_ms IS NULL

-- end --
UPDATE campaigns SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)
WHERE campaign_id = $1 AND ended_at_ms IS NULL

-- lock --
SELECT ended_at_ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM campaigns WHERE campaign_id = $1 FOR UPDATE

-- extend --
UPDATE campaign_waves SET ends_at_ms = $3, extended_at_ms = $4 WHERE campaign_id = $1 AND wave = $2

-- extend_packets --
UPDATE packets SET expires_at_ms = $3 FROM campaign_buckets
WHERE campaign_buckets.packet_id = packets.packet_id AND campaign_id = $1 AND wave = $2

-- to_extend --
-- Buckets of waves that were extended and are not over, which are still open by the ledger.
SELECT packet_id, packets.expires_at_ms FROM campaign_waves
JOIN campaign_buckets USING (campaign_id, wave) JOIN packets USING (packet_id)
WHERE extended_at_ms IS NOT NULL AND ends_at_ms > extract(epoch FROM clock_timestamp()) * 1000
    AND packets.state IN ('funded', 'open') AND packet_id > $1
ORDER BY packet_id LIMIT $2

-- to_close --
-- Buckets of campaigns that were ended, which are still open by the ledger.
SELECT packet_id FROM campaigns JOIN campaign_buckets USING (campaign_id) JOIN packets USING (packet_id)
WHERE campaigns.ended_at_ms IS NOT NULL AND packets.state IN ('funded', 'open') AND packet_id > $1
ORDER BY packet_id LIMIT $2

-- ends --
-- What the ledger knows of some buckets. waiting: whether a claim of it waits in quarantine.
SELECT packet_id, state::text, count, total_fen, remaining_count, remaining_fen, settled_at_ms, EXISTS (
    SELECT FROM quarantine
    WHERE quarantine.packet_id = packets.packet_id AND quarantine.kind = 'claim' AND resolution IS NULL
) AS waiting
FROM packets WHERE packet_id = ANY ($1::bigint[])

-- winners --
SELECT slot, owner FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1 AND slot > $2 ORDER BY slot LIMIT $3

-- packets --
SELECT wave, packet_id, packets.split, packets.total_fen, packets.count, min_fen, max_fen, seed, commitment, settled_at_ms, asset, scale
FROM campaign_buckets JOIN packets USING (packet_id) LEFT JOIN assets USING (asset)
WHERE campaign_id = $1 ORDER BY wave, bucket
