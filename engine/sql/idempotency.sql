-- try_lock --
SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))

-- stored --
SELECT request_hash, answer FROM idempotency WHERE principal = $1 AND operation = $2 AND key = $3

-- keep --
INSERT INTO idempotency (principal, operation, key, request_hash, answer, created_at_ms)
VALUES ($1, $2, $3, $4, $5, floor(extract(epoch FROM clock_timestamp()) * 1000))
