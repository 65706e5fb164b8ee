-- free_used --
-- A failed withdrawal returns its part of the allowance.
SELECT coalesce(sum(free_fen), 0)::bigint FROM withdrawals WHERE user_id = $1 AND free_fen > 0 AND state <> 'failed'

-- add --
INSERT INTO withdrawals (user_id, amount_fen, fee_fen, free_fen, bank_account, transfer_id, asked_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING withdrawal_id

-- of_user --
SELECT withdrawal_id, user_id, amount_fen, fee_fen, free_fen, bank_account, state, failure, transfer_id, asked_at_ms,
    ended_at_ms
FROM withdrawals WHERE user_id = $1 AND withdrawal_id < $2 ORDER BY withdrawal_id DESC LIMIT $3

-- withdrawal --
SELECT withdrawal_id, user_id, amount_fen, fee_fen, free_fen, bank_account, state, failure, transfer_id, asked_at_ms,
    ended_at_ms
FROM withdrawals WHERE user_id = $1 AND withdrawal_id = $2

-- processing --
SELECT withdrawal_id, amount_fen, bank_account, asked_at_ms FROM withdrawals
WHERE state = 'processing' AND withdrawal_id > $1 ORDER BY withdrawal_id LIMIT $2

-- lock_processing --
-- No row: it has ended.
SELECT user_id, amount_fen, fee_fen FROM withdrawals WHERE withdrawal_id = $1 AND state = 'processing' FOR UPDATE

-- end --
UPDATE withdrawals
SET state = $2, failure = $3, end_transfer_id = $4, fee_transfer_id = $5, ended_at_ms = $6
WHERE withdrawal_id = $1 AND state = 'processing'

-- all --
-- Over all users, newest first. $2: the state; $3 to before $4: when it was asked for.
SELECT withdrawal_id, user_id, amount_fen, fee_fen, right(bank_account, 4) AS bank_account_end, state, failure, asked_at_ms, ended_at_ms
FROM withdrawals
WHERE withdrawal_id < $1 AND ($2::text IS NULL OR state = $2) AND ($5::text IS NULL OR user_id = $5)
    AND asked_at_ms >= $3 AND asked_at_ms < $4
ORDER BY withdrawal_id DESC LIMIT $6

-- to_advance --
SELECT withdrawal_id, amount_fen, bank_account, asked_at_ms FROM withdrawals
WHERE withdrawal_id = $1 AND state = 'processing'

-- processing_count --
SELECT count(*) AS waiting, min(asked_at_ms) AS oldest_ms FROM (
    SELECT asked_at_ms FROM withdrawals WHERE state = 'processing' ORDER BY withdrawal_id LIMIT $1
) AS waiting
