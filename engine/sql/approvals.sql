-- Actions that wait for a second operator (engine/operators/approvals.py).

-- ask --
INSERT INTO approvals (action, subject_kind, subject_id, arguments, arguments_hash, reason, asked_by, asked_at_ms,
    expires_at_ms)
SELECT $1, $2, $3, $4, $5, $6, $7, at_ms, at_ms + $8::bigint
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms) AS clock RETURNING approval_id

-- lock --
SELECT action, arguments, arguments_hash, reason, asked_by, expires_at_ms, state FROM approvals
WHERE approval_id = $1 FOR UPDATE

-- roles_now --
-- Of some operators, those who can sign in.
SELECT name, role FROM operators WHERE name = ANY($1::text[]) AND disabled_at_ms IS NULL AND password_hash IS NOT NULL

-- decide --
UPDATE approvals SET state = $2, decided_by = $3, decided_reason = $4, result = $5,
    decided_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE approval_id = $1

-- wait_for_disk --
-- An action may have set this off (deposits do, for they are many).
SELECT set_config('synchronous_commit', 'on', TRUE)

-- one --
SELECT approval_id, action, subject_kind, subject_id, arguments, encode(arguments_hash, 'hex') AS hash, reason, asked_by,
    asked_at_ms, expires_at_ms, CASE WHEN state = 'waiting'
        AND expires_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint THEN 'expired' ELSE state END AS state,
    decided_by, decided_at_ms, decided_reason, result
FROM approvals WHERE approval_id = $1

-- page --
-- Below $1, at most $2. $3: only those that wait and can be approved.
SELECT approval_id, action, subject_kind, subject_id, arguments, encode(arguments_hash, 'hex') AS hash, reason, asked_by,
    asked_at_ms, expires_at_ms, CASE WHEN state = 'waiting'
        AND expires_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint THEN 'expired' ELSE state END AS state,
    decided_by, decided_at_ms, decided_reason, result
FROM approvals
WHERE approval_id < $1 AND (NOT $3::boolean OR state = 'waiting'
    AND expires_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ORDER BY approval_id DESC LIMIT $2

-- count_waiting --
SELECT count(*) FROM approvals
WHERE state = 'waiting' AND expires_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- count_to_decide --
-- Those that wait, of the actions $1, that another operator than $2 has asked for. Counted up to $3.
SELECT count(*) FROM (
    SELECT FROM approvals
    WHERE state = 'waiting' AND expires_at_ms > floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint
        AND action = ANY ($1::text[]) AND asked_by <> $2
    LIMIT $3
) AS to_decide
