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
