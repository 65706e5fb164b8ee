-- What moved in each of China's days (engine/auditing/day_movements.py).

-- count --
-- Count the entries after $1 up to $2. An entry is between accounts of one asset, so its payer's tells it.
WITH moved AS (
    SELECT DATE '1970-01-01' + ((at_ms + 28800000) / 86400000)::integer AS day, from_account, kind::text AS kind,
        count(*) AS count, sum(amount_fen) AS fen
    FROM transfers WHERE transfer_id > $1 AND transfer_id <= $2 GROUP BY 1, 2, 3
), sums AS (
    SELECT day, coalesce(asset, '') AS asset, moved.kind, sum(count)::bigint AS count, sum(fen) AS fen
    FROM moved LEFT JOIN accounts ON account_id = from_account GROUP BY 1, 2, 3
)
INSERT INTO day_movements AS counted (day, asset, kind, count, fen) SELECT day, asset, kind, count, fen FROM sums
ON CONFLICT (day, asset, kind) DO UPDATE SET count = counted.count + excluded.count, fen = counted.fen + excluded.fen

-- counted --
SELECT transfer_id FROM day_movements_counted

-- lock --
SELECT transfer_id FROM day_movements_counted FOR UPDATE

-- move_on --
UPDATE day_movements_counted SET transfer_id = $1

-- of_day --
-- A day's sums: what is counted, and the entries after it, of which at most $2 are looked at.
WITH counted AS MATERIALIZED (
    SELECT transfer_id FROM day_movements_counted
), tail AS MATERIALIZED (
    SELECT from_account, kind::text AS kind, amount_fen, at_ms FROM transfers
    WHERE transfer_id > (SELECT transfer_id FROM counted) ORDER BY transfer_id LIMIT $2
), of_tail AS (
    SELECT coalesce(asset, '') AS asset, tail.kind, count(*) AS count, sum(amount_fen) AS fen
    FROM tail LEFT JOIN accounts ON account_id = from_account
    WHERE DATE '1970-01-01' + ((at_ms + 28800000) / 86400000)::integer = $1 GROUP BY 1, 2
)
SELECT asset, kind, sum(count)::bigint AS count, sum(fen) AS fen, (SELECT count(*) FROM tail) AS looked_at
FROM (
    SELECT asset, kind, count, fen FROM day_movements WHERE day = $1
    UNION ALL SELECT asset, kind, count, fen FROM of_tail
) AS both_parts GROUP BY asset, kind ORDER BY asset, kind

-- tail_length --
SELECT count(*) FROM (
    SELECT FROM transfers WHERE transfer_id > (SELECT transfer_id FROM day_movements_counted) LIMIT $1
) AS tail
