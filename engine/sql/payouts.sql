-- The sandbox provider's own books.

-- submit --
-- The clock that it ends by is the provider's; the day it belongs to is that of whoever orders it.
INSERT INTO sandbox_payouts (reference, amount_fen, bank_account, state, asked_at_ms, ends_at_ms)
SELECT $1, $2, $3, 'processing', $4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $5
ON CONFLICT (reference) DO NOTHING

-- end_due --
UPDATE sandbox_payouts
SET state = CASE WHEN bank_account LIKE '%0000' THEN 'failed' ELSE 'settled' END,
    failure = CASE WHEN bank_account LIKE '%0000' THEN 'the bank does not know the account' END
WHERE state = 'processing' AND ends_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)
    AND (reference = $1 OR (asked_at_ms >= $2 AND asked_at_ms < $3))

-- find --
SELECT reference, amount_fen, bank_account, state, failure, asked_at_ms FROM sandbox_payouts WHERE reference = $1

-- of_day --
SELECT reference, amount_fen, bank_account, state, failure, asked_at_ms FROM sandbox_payouts
WHERE asked_at_ms >= $1 AND asked_at_ms < $2 ORDER BY asked_at_ms, reference
