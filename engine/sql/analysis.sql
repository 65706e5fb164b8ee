-- Sums for pictures (engine/analysis/). $1, $2: the first millisecond of the days, and the first after them. $3: the asset (null:
-- the ledger's currency; written so that Postgres can tell how many packets have it). $4, $5: the numbers that packets can
-- have; they spare the volumes that have none of them.

-- bound --
-- How long each of the transaction's questions may take.
SELECT set_config('statement_timeout', $1, TRUE)

-- scale --
SELECT scale FROM assets WHERE asset = $1

-- numbers --
-- The smallest number of packets sent after $1, that of packets that can have entries after $2's days of life, and the first
-- number of packets sent after $3. A volume that was begun before a moment has all packets from then on, or a later one has.
SELECT
    coalesce(max(volume) FILTER (WHERE begun_at_ms <= $2 AND volume > 10), 0) * 100000000000000000 AS first_number,
    coalesce(max(volume) FILTER (WHERE begun_at_ms <= $1 AND volume > 10), 0) * 100000000000000000 AS sent_from,
    coalesce(min(volume) FILTER (WHERE begun_at_ms > $3 AND volume > 10), 92) * 100000000000000000 AS end_number
FROM volumes

-- sold_out --
-- How long packets took until their last share was claimed, by size: quantiles ($6) of those that sold out.
SELECT size, count(*) AS packets, count(*) FILTER (WHERE is_sold_out) AS sold_out,
    percentile_disc($6::float8[]) WITHIN GROUP (ORDER BY took_ms) FILTER (WHERE is_sold_out) AS quantiles_ms
FROM (
    SELECT width_bucket(count, ARRAY[11, 51, 101, 1001]) AS size, state = 'exhausted' AS is_sold_out,
        greatest(ended_at_ms - created_at_ms, 1) AS took_ms
    FROM packets
    WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
        AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose = 'packet' AND state IN ('exhausted', 'expired')
) AS ended
GROUP BY size ORDER BY size

-- unclaimed --
-- What became of packets that have ended, by size.
SELECT width_bucket(count, ARRAY[2, 11, 51, 101, 1001]) AS size, count(*) AS packets,
    count(*) FILTER (WHERE state = 'exhausted') AS sold_out,
    count(*) FILTER (WHERE state = 'expired' AND remaining_count < count) AS partly,
    count(*) FILTER (WHERE state = 'expired' AND remaining_count = count) AS untouched,
    count(*) FILTER (WHERE state = 'retracted') AS retracted,
    sum(total_fen) AS total_fen, sum(remaining_fen) FILTER (WHERE state = 'expired') AS returned_fen
FROM packets
WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose = 'packet' AND ended_at_ms IS NOT NULL
GROUP BY size ORDER BY size

-- settlement --
-- How long after its end a packet's custody was found empty: quantiles ($6).
SELECT count(*) AS packets, count(*) FILTER (WHERE settled_at_ms IS NULL) AS waiting,
    percentile_disc($6::float8[]) WITHIN GROUP (ORDER BY greatest(settled_at_ms - ended_at_ms, 0))
        FILTER (WHERE settled_at_ms IS NOT NULL) AS quantiles_ms
FROM packets
WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND ended_at_ms IS NOT NULL

-- settlement_days --
-- The same by the day of the end in China, counted from 1970. A packet ends at most 100 days after these days.
SELECT (ended_at_ms + 28800000) / 86400000 AS day, count(*) AS packets, count(*) FILTER (WHERE settled_at_ms IS NULL) AS waiting,
    percentile_disc($6::float8[]) WITHIN GROUP (ORDER BY greatest(settled_at_ms - ended_at_ms, 0))
        FILTER (WHERE settled_at_ms IS NOT NULL) AS quantiles_ms
FROM packets
WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND ended_at_ms IS NOT NULL
GROUP BY 1 ORDER BY 1 LIMIT 500

-- busiest --
-- The minute with the most claims. Of equals it is the first.
SELECT at_ms / 60000 AS minute, count(*) AS claims
FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
WHERE transfers.kind = 'claim' AND at_ms >= $1 AND at_ms < $2 AND from_account >= $4 AND from_account < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)
GROUP BY minute ORDER BY claims DESC, minute LIMIT 1

-- storm --
-- Claims and packets that sold out from $6 until before $7, in steps of $8 ms.
SELECT step, sum(packets)::bigint AS of_packets, sum(rain)::bigint AS of_campaigns, sum(transfers)::bigint AS of_transfers,
    sum(sold_out)::bigint AS sold_out
FROM (
    SELECT (at_ms - $6::bigint) / $8::bigint AS step, count(*) FILTER (WHERE purpose = 'packet') AS packets,
        count(*) FILTER (WHERE purpose = 'campaign') AS rain, count(*) FILTER (WHERE purpose = 'transfer') AS transfers,
        0 AS sold_out
    FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
    WHERE transfers.kind = 'claim' AND at_ms >= greatest($1::bigint, $6::bigint) AND at_ms < least($2::bigint, $7::bigint)
        AND from_account >= $4 AND from_account < $5 AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)
    GROUP BY step
    UNION ALL
    SELECT (ended_at_ms - $6::bigint) / $8::bigint, 0, 0, 0, count(*)
    FROM packets
    WHERE ended_at_ms >= greatest($1::bigint, $6::bigint) AND ended_at_ms < least($2::bigint, $7::bigint) AND created_at_ms < $7::bigint AND packet_id >= $4
        AND packet_id < $5 AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose <> 'transfer' AND state = 'exhausted'
    GROUP BY 1
) AS counted
GROUP BY step ORDER BY step

-- storm_span --
-- The first and the last claim from $6 until before $7.
SELECT min(at_ms) AS first_ms, max(at_ms) AS last_ms
FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
WHERE transfers.kind = 'claim' AND at_ms >= greatest($1::bigint, $6::bigint) AND at_ms < least($2::bigint, $7::bigint) AND from_account >= $4
    AND from_account < $5 AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)

-- shares --
-- Claimed shares of lucky packets, as multiples of their packet's mean above the minimum: how many are in each tenth of a mean
-- (41: four and more), by the packet's size. Left out: packets where whole fen or the largest share would show.
SELECT CASE WHEN count <= 20 THEN count ELSE 20 + width_bucket(count, ARRAY[21, 51, 101, 1001]) END AS size,
    width_bucket((amount_fen - min_fen)::float8 * count / surplus, 0, 4, 40) AS place, count(*) AS claims, avg(count)::float8 AS mean_count
FROM transfers JOIN (
    SELECT packet_id, count, min_fen, max_fen, total_fen - count * min_fen AS surplus FROM packets
    WHERE split = 'lucky' AND purpose <> 'transfer' AND count >= 2 AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)
        AND packet_id >= $4 AND packet_id < $5
) AS lucky ON packet_id = from_account
WHERE transfers.kind = 'claim' AND at_ms >= $1 AND at_ms < $2 AND from_account >= $4 AND from_account < $5
    AND surplus >= 20::bigint * count AND (max_fen - min_fen) >= least(surplus, 10 * surplus / count)
GROUP BY 1, 2 ORDER BY 1, 2

-- luckiest --
-- In which tenth of the queue the largest share was (of equals the first), how often chance alone would have it there, and the
-- variance of that. Only lucky packets of ten shares or more that sold out: of others nobody knows the largest.
WITH emptied AS (
    SELECT packet_id, count::bigint AS count FROM packets
    WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
        AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND state = 'exhausted' AND split = 'lucky' AND purpose = 'packet' AND count >= 10
), best AS (
    SELECT from_account AS packet_id, -(max(ARRAY[amount_fen, -slot]))[2] AS slot
    FROM transfers JOIN emptied ON packet_id = from_account
    WHERE kind = 'claim' AND from_account >= $4 AND from_account < $5 GROUP BY from_account
)
SELECT tenth, count(*) FILTER (WHERE slot * 10 / count = tenth) AS packets, sum(chance) AS expected,
    sum(chance * (1 - chance)) AS variance, count(*) AS of_packets
FROM best JOIN emptied USING (packet_id) CROSS JOIN generate_series(0, 9) AS tenth
CROSS JOIN LATERAL (SELECT (((tenth + 1) * count + 9) / 10 - (tenth * count + 9) / 10)::float8 / count AS chance) AS law
GROUP BY tenth ORDER BY tenth

-- refunds --
-- What went back to senders, by the hour in China and by the size of the amount: below 10^2, 10^3, 10^4, 10^5, and above.
SELECT (at_ms + 28800000) / 3600000 % 24 AS hour, width_bucket(amount_fen, ARRAY[100, 1000, 10000, 100000]::bigint[]) AS size,
    count(*) AS refunds, sum(amount_fen) AS fen
FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
WHERE kind = 'refund' AND at_ms >= $1 AND at_ms < $2 AND from_account >= $4 AND from_account < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)
GROUP BY 1, 2 ORDER BY 1, 2

-- activity_claims --
-- Claims by day and hour in China. A day is counted from 1 January 1970.
SELECT (at_ms + 28800000) / 86400000 AS day, (at_ms + 28800000) / 3600000 % 24 AS hour, count(*) AS claims, sum(amount_fen) AS fen
FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
WHERE kind = 'claim' AND at_ms >= $1 AND at_ms < $2 AND from_account >= $4 AND from_account < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose <> 'transfer'
GROUP BY 1, 2 ORDER BY 1, 2

-- activity_sends --
SELECT (created_at_ms + 28800000) / 86400000 AS day, (created_at_ms + 28800000) / 3600000 % 24 AS hour, count(*) AS packets,
    sum(total_fen) AS fen
FROM packets
WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
    AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose = 'packet'
GROUP BY 1, 2 ORDER BY 1, 2

-- sending --
-- How what was sent is spread over those who sent: of each hundredth of them, the poorest first, how much all up to it sent.
WITH users AS (
    SELECT sum(total_fen) AS fen FROM packets
    WHERE created_at_ms >= $1 AND created_at_ms < $2 AND packet_id >= $4 AND packet_id < $5
        AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose = 'packet' AND state <> 'retracted'
    GROUP BY sender
), ranked AS (
    SELECT fen, row_number() OVER (ORDER BY fen) AS place, sum(fen) OVER (ORDER BY fen ROWS UNBOUNDED PRECEDING) AS up_to FROM users
), whole AS (
    SELECT count(*) AS users, sum(fen) AS fen, sum(place * fen) AS weighted FROM ranked
)
SELECT place, up_to::float8 / whole.fen::float8 AS part, users, whole.fen,
    (2 * weighted / (users * whole.fen) - (users + 1)::numeric / users)::float8 AS gini
FROM ranked CROSS JOIN whole WHERE place * 100 / users > (place - 1) * 100 / users ORDER BY place

-- receiving --
-- The same of what was claimed.
WITH users AS (
    SELECT sum(amount_fen) AS fen
    FROM transfers JOIN packets ON packet_id = from_account AND packet_id >= $4 AND packet_id < $5
    WHERE kind = 'claim' AND at_ms >= $1 AND at_ms < $2 AND from_account >= $4 AND from_account < $5
        AND (asset = $3 OR $3::text IS NULL AND asset IS NULL) AND purpose <> 'transfer'
    GROUP BY to_account
), ranked AS (
    SELECT fen, row_number() OVER (ORDER BY fen) AS place, sum(fen) OVER (ORDER BY fen ROWS UNBOUNDED PRECEDING) AS up_to FROM users
), whole AS (
    SELECT count(*) AS users, sum(fen) AS fen, sum(place * fen) AS weighted FROM ranked
)
SELECT place, up_to::float8 / whole.fen::float8 AS part, users, whole.fen,
    (2 * weighted / (users * whole.fen) - (users + 1)::numeric / users)::float8 AS gini
FROM ranked CROSS JOIN whole WHERE place * 100 / users > (place - 1) * 100 / users ORDER BY place

-- campaigns --
-- The newest campaigns ($6 at most) with a wave in these days that give the asset: what they put up, what was won, by how many
-- users, and what came back. of_campaigns: how many there are in all.
WITH chosen AS (
    SELECT campaign_id, name, odds_millionths, count(*) OVER () AS of_campaigns FROM campaigns
    WHERE EXISTS (
        SELECT FROM campaign_waves
        WHERE campaign_waves.campaign_id = campaigns.campaign_id AND starts_at_ms >= $1 AND starts_at_ms < $2
    ) AND EXISTS (
        SELECT FROM campaign_prizes
        WHERE campaign_prizes.campaign_id = campaigns.campaign_id AND (asset = $3 OR $3::text IS NULL AND asset IS NULL)
    )
    ORDER BY campaign_id DESC LIMIT $6
), parts AS (
    SELECT campaign_id, packet_id, count, total_fen, remaining_count, remaining_fen
    FROM chosen JOIN campaign_buckets USING (campaign_id) JOIN packets USING (packet_id)
    WHERE (asset = $3 OR $3::text IS NULL AND asset IS NULL)
), won AS (
    SELECT campaign_id, count(*) AS shares, count(DISTINCT to_account) AS users, sum(amount_fen) AS fen
    FROM parts JOIN transfers ON from_account = packet_id
    WHERE kind = 'claim' AND from_account >= $4 AND from_account < $5 GROUP BY campaign_id
), put_up AS (
    SELECT campaign_id, sum(count) AS shares, sum(total_fen) AS fen, sum(remaining_count) AS returned_shares,
        sum(remaining_fen) AS returned_fen, count(*) FILTER (WHERE remaining_count IS NULL) AS open_parts
    FROM parts GROUP BY campaign_id
)
SELECT campaign_id, name, odds_millionths, of_campaigns, put_up.shares, put_up.fen, coalesce(won.shares, 0) AS won_shares,
    coalesce(won.users, 0) AS winners, coalesce(won.fen, 0) AS won_fen, coalesce(returned_shares, 0) AS returned_shares,
    coalesce(returned_fen, 0) AS returned_fen, open_parts
FROM chosen JOIN put_up USING (campaign_id) LEFT JOIN won USING (campaign_id) ORDER BY campaign_id DESC
