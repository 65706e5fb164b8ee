-- Operators and their set-up links (engine/operators/accounts.py).

-- put_link --
INSERT INTO operator_links (operator_id, link_hash, totp_secret, expires_at_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (operator_id) DO UPDATE
    SET link_hash = excluded.link_hash, totp_secret = excluded.totp_secret, expires_at_ms = excluded.expires_at_ms

-- add --
INSERT INTO operators (name, role, created_by, created_at_ms)
VALUES ($1, $2, $3, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ON CONFLICT (name) DO NOTHING RETURNING operator_id

-- count --
SELECT count(*) FROM operators

-- id_of --
SELECT operator_id FROM operators WHERE name = $1 FOR UPDATE

-- lock --
-- Here and below: the lock is held while the hash is computed, so that simultaneous tries are counted one by one.
SELECT operator_id, name, role, language, password_hash, totp_secret, totp_step, wrong_tries, locked_until_ms,
    disabled_at_ms
FROM operators WHERE operator_id = $1 FOR UPDATE

-- lock_name --
SELECT operator_id, name, role, language, password_hash, totp_secret, totp_step, wrong_tries, locked_until_ms,
    disabled_at_ms
FROM operators WHERE name = $1 FOR UPDATE

-- vouched --
SELECT operator_id, name, role, language, password_hash, disabled_at_ms, locked_until_ms,
    coalesce(locked_until_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, FALSE) AS is_locked
FROM operators WHERE name = $1

-- count_right --
UPDATE operators SET wrong_tries = 0, locked_until_ms = NULL, totp_step = $2 WHERE operator_id = $1

-- count_wrong --
UPDATE operators SET wrong_tries = $2, locked_until_ms = $3 WHERE operator_id = $1

-- forget_sign_in --
UPDATE operators
SET password_hash = NULL, totp_secret = NULL, wrong_tries = 0, locked_until_ms = NULL
WHERE operator_id = $1

-- set_up --
UPDATE operators SET password_hash = $2, totp_secret = $3, totp_step = $4, wrong_tries = 0, locked_until_ms = NULL
WHERE operator_id = $1

-- put_password --
UPDATE operators SET password_hash = $2 WHERE operator_id = $1

-- put_role --
UPDATE operators SET role = $2 WHERE operator_id = $1

-- put_language --
UPDATE operators SET language = $2 WHERE operator_id = $1

-- disable --
UPDATE operators SET disabled_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE operator_id = $1 AND disabled_at_ms IS NULL

-- enable --
UPDATE operators SET disabled_at_ms = NULL WHERE operator_id = $1

-- end_sessions --
UPDATE operator_sessions SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE operator_id = $1 AND ended_at_ms IS NULL

-- end_other_sessions --
UPDATE operator_sessions SET ended_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE operator_id = $1 AND session_id <> $2 AND ended_at_ms IS NULL

-- is_any_set_up --
SELECT EXISTS (SELECT FROM operators WHERE password_hash IS NOT NULL AND disabled_at_ms IS NULL)

-- all --
SELECT name, role, password_hash IS NOT NULL AS is_set_up, created_at_ms, created_by, disabled_at_ms, locked_until_ms,
    (SELECT max(seen_at_ms) FROM operator_sessions WHERE operator_sessions.operator_id = operators.operator_id)
        AS seen_at_ms,
    (SELECT count(*) FROM operator_sessions
     WHERE operator_sessions.operator_id = operators.operator_id AND ended_at_ms IS NULL
        AND seen_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1800000) AS sessions
FROM operators ORDER BY name LIMIT $1

-- link --
SELECT operator_id, name, role, language, operator_links.totp_secret AS link_secret
FROM operator_links JOIN operators USING (operator_id)
WHERE link_hash = $1 AND disabled_at_ms IS NULL
    AND expires_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- lock_link --
SELECT operator_id, name, role, language, operator_links.totp_secret AS link_secret
FROM operator_links JOIN operators USING (operator_id)
WHERE link_hash = $1 AND disabled_at_ms IS NULL
    AND expires_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
FOR UPDATE

-- forget_link --
DELETE FROM operator_links WHERE operator_id = $1

-- is_known --
SELECT TRUE FROM operators WHERE name = $1

-- who_may --
-- Operators with one of these roles who can sign in, by name. $2: only this one.
SELECT name FROM operators
WHERE role = ANY ($1::text[]) AND disabled_at_ms IS NULL AND password_hash IS NOT NULL AND ($2::text IS NULL OR name = $2)
ORDER BY name LIMIT $3
