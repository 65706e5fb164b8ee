-- Keys of deposits belong to the wallet, whichever operator brings them, and all keys are forgotten in the end.

-- A deposit under a key that several operators used for the same wallet: the first one's answer stands.
INSERT INTO idempotency (principal, operation, key, request_hash, answer, created_at_ms)
SELECT DISTINCT ON (answer->>'user_id', key) answer->>'user_id', 'deposit_into', key, request_hash, answer, created_at_ms
FROM idempotency WHERE operation = 'deposit'
ORDER BY answer->>'user_id', key, created_at_ms, principal;

DELETE FROM idempotency WHERE operation = 'deposit';

CREATE INDEX idempotency_by_age ON idempotency (created_at_ms);
