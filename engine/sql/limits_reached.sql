-- Users who have received as much as they may, and until when (engine/risk/limits_reached.py).

-- newest --
SELECT coalesce(max(change_id), 0) FROM limits_reached

-- changes --
-- What is over is left out: nobody needs to know it.
SELECT change_id, user_id, CASE WHEN is_reached THEN until_ms ELSE 0 END AS until_ms
FROM limits_reached WHERE change_id > $1 AND until_ms > (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000))
ORDER BY change_id LIMIT $2

-- of_user --
SELECT is_reached, limit_fen, received_fen, at_ms AS reached_at_ms, until_ms
FROM limits_reached WHERE user_id = $1 ORDER BY change_id DESC LIMIT 1

-- forget --
-- Of the $2 oldest, those that were over $1 milliseconds ago. Never the newest: its number says how far a lane may be.
WITH oldest AS (SELECT change_id, until_ms FROM limits_reached ORDER BY change_id LIMIT $2), forgotten AS (
    DELETE FROM limits_reached USING oldest
    WHERE limits_reached.change_id = oldest.change_id
        AND oldest.until_ms < floor(extract(epoch FROM clock_timestamp()) * 1000) - $1::bigint
        AND oldest.change_id < (SELECT max(change_id) FROM limits_reached)
    RETURNING 1
)
SELECT count(*) FROM forgotten
