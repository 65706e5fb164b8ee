-- take_turns --
-- Changes get their numbers in the order in which they are committed.
SELECT pg_advisory_xact_lock(7311)

-- add --
INSERT INTO freezes (user_id, scope, reason, frozen_by, frozen_at_ms, until_ms)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING freeze_id

-- is_held --
-- Whether the same freeze, by the same and for the same reason, is in force.
SELECT EXISTS (
    SELECT FROM freezes WHERE user_id = $1 AND lifted_at_ms IS NULL AND scope = $2 AND reason = $3 AND frozen_by = $4
)

-- lift --
-- By its number, those that somebody made, or all of a scope.
UPDATE freezes SET lifted_at_ms = $4, lifted_by = $5, lifted_reason = $6
WHERE user_id = $1 AND lifted_at_ms IS NULL AND scope = $2
    AND ($3::bigint IS NULL OR freeze_id = $3) AND ($7::text IS NULL OR frozen_by = $7)

-- in_force --
SELECT coalesce(bool_or(scope = 'account'), FALSE) AS frozen,
    coalesce(bool_or(scope IN ('account', 'receiving')), FALSE) AS cannot_claim,
    max(CASE WHEN scope = 'sending' THEN coalesce(until_ms, 9007199254740991) END) AS sending_until_ms
FROM freezes
WHERE user_id = $1 AND lifted_at_ms IS NULL AND (until_ms IS NULL OR until_ms > $2)

-- mark --
UPDATE accounts SET frozen = $2, sending_frozen_until_ms = $3 WHERE account_id = $1

-- last_change --
SELECT is_frozen FROM freeze_changes WHERE user_id = $1 ORDER BY change_id DESC LIMIT 1

-- change --
INSERT INTO freeze_changes (user_id, is_frozen) VALUES ($1, $2)

-- newest --
SELECT coalesce(max(change_id), 0) FROM freeze_changes

-- scopes --
SELECT DISTINCT scope FROM freezes
WHERE user_id = $1 AND lifted_at_ms IS NULL
    AND (until_ms IS NULL OR until_ms > floor(extract(epoch FROM clock_timestamp()) * 1000))
ORDER BY scope

-- changes --
SELECT change_id, user_id, is_frozen FROM freeze_changes WHERE change_id > $1 ORDER BY change_id LIMIT $2

-- run_out --
SELECT DISTINCT user_id FROM freezes
WHERE lifted_at_ms IS NULL AND until_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
LIMIT $1

-- end_run_out --
UPDATE freezes SET lifted_at_ms = $2, lifted_by = 'time', lifted_reason = 'its time ran out'
WHERE user_id = $1 AND lifted_at_ms IS NULL AND until_ms <= $2

-- of_user --
SELECT freeze_id, scope, reason, frozen_by, frozen_at_ms, until_ms, lifted_at_ms, lifted_by, lifted_reason
FROM freezes WHERE user_id = $1 ORDER BY freeze_id DESC LIMIT $2

-- all_in_force --
-- Over all users, newest first. $3: `rule`, `dispute` or `operator`, by whom.
SELECT freeze_id, user_id, scope, reason, frozen_by, frozen_at_ms, until_ms FROM freezes
WHERE lifted_at_ms IS NULL AND (until_ms IS NULL OR until_ms > floor(extract(epoch FROM clock_timestamp()) * 1000))
    AND freeze_id < $1 AND ($2::text IS NULL OR scope = $2)
    AND ($3::text IS NULL OR $3 = CASE
        WHEN frozen_by LIKE 'rule:%' THEN 'rule' WHEN frozen_by = 'dispute' THEN 'dispute' ELSE 'operator' END)
    AND ($4::text IS NULL OR user_id = $4)
ORDER BY freeze_id DESC LIMIT $5

-- one --
SELECT freeze_id, user_id, scope, reason, frozen_by, frozen_at_ms, until_ms, lifted_at_ms, lifted_by, lifted_reason
FROM freezes WHERE freeze_id = $1

-- in_force_count --
SELECT count(*) FROM (SELECT FROM freezes WHERE lifted_at_ms IS NULL LIMIT $1) AS held

-- lifted_as --
-- Who has lifted a freeze and why. Whoever is lifting it now is waited for.
SELECT lifted_by, lifted_reason FROM freezes WHERE freeze_id = $1 FOR UPDATE
