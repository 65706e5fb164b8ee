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

-- listed --
-- Newest first. $4: those that nobody has acknowledged, or those that somebody has. $5: those that are delivered, or not.
-- $8: assigned to this operator; $9: only those that are assigned to nobody.
SELECT alert_id, kind, user_id, at_ms, details, tries, next_try_at_ms, delivered_at_ms, last_error, acknowledged_at_ms,
    acknowledged_by, acknowledged_note, assigned_to
FROM alerts
WHERE alert_id < $1 AND alert_id > 0 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR user_id = $3)
    AND ($4::boolean IS NULL OR (acknowledged_at_ms IS NULL) = $4)
    AND ($5::boolean IS NULL OR (delivered_at_ms IS NOT NULL) = $5)
    AND at_ms >= $6 AND at_ms < $7
    AND ($8::text IS NULL OR assigned_to = $8) AND (NOT $9::boolean OR assigned_to IS NULL)
ORDER BY alert_id DESC LIMIT $10

-- waiting --
-- The same of those that nobody has acknowledged: in its own statement, so that it always goes along alerts_waiting.
SELECT alert_id, kind, user_id, at_ms, details, tries, next_try_at_ms, delivered_at_ms, last_error, acknowledged_at_ms,
    acknowledged_by, acknowledged_note, assigned_to
FROM alerts
WHERE alert_id < $1 AND alert_id > 0 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR user_id = $3)
    AND acknowledged_at_ms IS NULL AND ($4::boolean IS NULL OR (delivered_at_ms IS NOT NULL) = $4)
    AND at_ms >= $5 AND at_ms < $6
    AND ($7::text IS NULL OR assigned_to = $7) AND (NOT $8::boolean OR assigned_to IS NULL)
ORDER BY alert_id DESC LIMIT $9

-- waiting_count --
SELECT count(*) FROM (SELECT FROM alerts WHERE acknowledged_at_ms IS NULL LIMIT $1) AS waiting

-- acknowledge --
-- Those that somebody has acknowledged before stay as they are.
UPDATE alerts SET acknowledged_by = $2, acknowledged_note = $3,
    acknowledged_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)
WHERE alert_id = ANY ($1::bigint[]) AND acknowledged_at_ms IS NULL
RETURNING alert_id

-- deliver_again --
UPDATE alerts SET tries = 0, delivered_at_ms = NULL, last_error = NULL,
    next_try_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE alert_id = ANY ($1::bigint[])
RETURNING alert_id

-- assign --
-- Those that somebody has acknowledged stay as they are. $2 null: to nobody.
UPDATE alerts SET assigned_to = $2 WHERE alert_id = ANY ($1::bigint[]) AND acknowledged_at_ms IS NULL
RETURNING alert_id
