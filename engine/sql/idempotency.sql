-- try_lock --
SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))

-- stored --
SELECT request_hash, answer FROM idempotency WHERE principal = $1 AND operation = $2 AND key = $3

-- keep --
INSERT INTO idempotency (principal, operation, key, request_hash, answer, created_at_ms)
VALUES ($1, $2, $3, $4, $5, floor(extract(epoch FROM clock_timestamp()) * 1000))

-- forget --
-- The oldest first. If several processes forget keys, each takes different ones.
WITH old AS (
    SELECT principal, operation, key FROM idempotency
    WHERE created_at_ms < floor(extract(epoch FROM now()) * 1000)::bigint - $1::bigint
    ORDER BY created_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM idempotency USING old
    WHERE (idempotency.principal, idempotency.operation, idempotency.key) = (old.principal, old.operation, old.key)
    RETURNING 1
)
SELECT count(*) FROM forgotten
