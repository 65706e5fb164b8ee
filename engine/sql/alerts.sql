-- note --
-- It has its own number once it is committed (migrations/0009_lists.sql).
INSERT INTO alerts (alert_id, kind, user_id, at_ms, details, next_try_at_ms) OVERRIDING SYSTEM VALUE
SELECT -nextval('alert_drafts'), $1, $2, at_ms, $3::jsonb, CASE WHEN $4 THEN at_ms END
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms) AS clock

-- page --
SELECT alert_id, kind, user_id, at_ms, details, tries, delivered_at_ms, last_error
FROM alerts WHERE alert_id < $1 ORDER BY alert_id DESC LIMIT $2

-- take --
-- Alerts that are due. Each is reserved for as long as a try may take: if a process dies with one, another takes it.
UPDATE alerts SET tries = tries + 1, next_try_at_ms = at.now_ms + $2::bigint
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS at
WHERE alert_id IN (
    SELECT alert_id FROM alerts WHERE next_try_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    ORDER BY next_try_at_ms LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING alert_id, kind, user_id, at_ms, details, tries, at.now_ms

-- delivered --
UPDATE alerts SET next_try_at_ms = NULL, last_error = NULL,
    delivered_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)
WHERE alert_id = $1

-- failed --
-- $3: the wait before the next try. NULL: there is none.
UPDATE alerts SET last_error = $2,
    next_try_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $3::bigint
WHERE alert_id = $1 AND delivered_at_ms IS NULL
