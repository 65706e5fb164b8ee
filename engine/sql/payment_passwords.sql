-- create --
INSERT INTO payment_passwords (user_id, hash, set_at_ms) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO NOTHING RETURNING user_id

-- lock --
-- The lock is held while the hash is computed, so that simultaneous tries are counted one by one.
SELECT hash, wrong_tries, locked_until_ms FROM payment_passwords WHERE user_id = $1 FOR UPDATE

-- change --
UPDATE payment_passwords SET hash = $2, set_at_ms = $3 WHERE user_id = $1

-- count --
UPDATE payment_passwords SET wrong_tries = $2, locked_until_ms = $3 WHERE user_id = $1
