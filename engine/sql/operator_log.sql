-- The operator log (engine/operators/log.py).

-- lock_head --
SELECT number, hash FROM operator_log_head FOR UPDATE

-- add --
INSERT INTO operator_log (number, at_ms, operator, role, session_id, address, action, subject_kind, subject_id, arguments,
    reason, outcome, told, approval_id, about, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- put_head --
UPDATE operator_log_head SET number = $1, hash = $2

-- page --
-- Below the number $1, at most $2 rows.
SELECT number, at_ms, operator, role, session_id, address, action, subject_kind, subject_id, arguments, reason, outcome, told,
    approval_id, about
FROM operator_log
WHERE number < $1 AND ($3::text IS NULL OR operator = $3) AND ($4::text IS NULL OR action = $4)
    AND ($5::text IS NULL OR outcome = $5) AND ($6::text IS NULL OR subject_kind = $6)
    AND ($7::text IS NULL OR subject_id = $7) AND ($8::bigint IS NULL OR at_ms >= $8)
    AND ($9::bigint IS NULL OR at_ms < $9)
ORDER BY number DESC LIMIT $2

-- actions --
-- By one look into the index each.
WITH RECURSIVE found AS (
    SELECT min(action) AS action FROM operator_log
    UNION ALL
    SELECT (SELECT min(action) FROM operator_log WHERE action > found.action) FROM found WHERE action IS NOT NULL
)
SELECT action FROM found WHERE action IS NOT NULL LIMIT 500
