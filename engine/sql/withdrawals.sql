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
