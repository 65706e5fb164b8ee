-- note --
INSERT INTO alerts (kind, user_id, at_ms, details, next_try_at_ms)
SELECT $1, $2, at_ms, $3::jsonb, CASE WHEN $4 THEN at_ms END
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms) AS clock
RETURNING alert_id
