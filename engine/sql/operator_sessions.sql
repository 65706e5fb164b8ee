-- Sessions of the console (engine/operators/sessions.py).

-- may_begin --
-- Whether the operator $1 can sign in with the password whose hash has the SHA-256 $2. The lock orders this and whatever
-- ends their sessions.
SELECT TRUE FROM operators
WHERE operator_id = $1 AND disabled_at_ms IS NULL AND sha256(convert_to(password_hash, 'UTF8')) = $2
FOR UPDATE

-- begin --
-- $5: whether the operator has just given a code.
WITH clock AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms)
INSERT INTO operator_sessions (token_hash, operator_id, address, agent, begun_at_ms, seen_at_ms, proved_at_ms)
SELECT $1, $2, $3, $4, at_ms, at_ms, CASE WHEN $5 THEN at_ms ELSE 0 END FROM clock RETURNING session_id

-- end_oldest --
UPDATE operator_sessions SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE ended_at_ms IS NULL AND operator_id = $1 AND session_id NOT IN (
    SELECT session_id FROM operator_sessions WHERE operator_id = $1 AND ended_at_ms IS NULL
    ORDER BY session_id DESC LIMIT $2
)

-- of --
-- $2, $3: how long one holds without use, and at all. $4: for how long a proof counts.
WITH clock AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms)
SELECT session_id, operator_id, name, role, language, at_ms < proved_at_ms + $4::bigint AS is_proved
FROM operator_sessions JOIN operators USING (operator_id) CROSS JOIN clock
WHERE token_hash = $1 AND ended_at_ms IS NULL AND disabled_at_ms IS NULL AND password_hash IS NOT NULL
    AND at_ms < seen_at_ms + $2::bigint AND at_ms < begun_at_ms + $3::bigint

-- note_use --
-- At most every few seconds: a look must not cost a write.
UPDATE operator_sessions SET seen_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE session_id = $1 AND seen_at_ms < floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 10000

-- note_proof --
UPDATE operator_sessions SET proved_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE session_id = $1

-- end --
UPDATE operator_sessions SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE session_id = $1 AND ended_at_ms IS NULL

-- end_of --
UPDATE operator_sessions SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE session_id = $2 AND ended_at_ms IS NULL
    AND operator_id = (SELECT operator_id FROM operators WHERE name = $1)
RETURNING session_id

-- open_of --
WITH clock AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms)
SELECT session_id, address, agent, begun_at_ms, seen_at_ms FROM operator_sessions CROSS JOIN clock
WHERE operator_id = (SELECT operator_id FROM operators WHERE name = $1) AND ended_at_ms IS NULL
    AND at_ms < seen_at_ms + $2::bigint AND at_ms < begun_at_ms + $3::bigint
ORDER BY session_id DESC LIMIT $4
