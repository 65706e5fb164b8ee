-- The sandbox provider's own books.

-- submit --
-- It ends by the provider's clock. It belongs to the day in the order.
INSERT INTO sandbox_payouts (reference, amount_fen, bank_account, state, asked_at_ms, ends_at_ms)
SELECT $1, $2, $3, 'processing', $4, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $5
ON CONFLICT (reference) DO NOTHING

-- payouts --
-- One payout by its reference, or those of a day (reference NULL). An ordered payout ends when its time has come. This is
-- computed, so reading changes nothing.
SELECT reference, amount_fen, bank_account, asked_at_ms,
    CASE WHEN NOT is_due THEN state WHEN fails THEN 'failed' ELSE 'settled' END AS state,
    CASE WHEN is_due AND fails THEN 'the bank does not know the account' ELSE failure END AS failure
FROM sandbox_payouts, LATERAL (
    SELECT state = 'processing' AND ends_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000) AS is_due,
        bank_account LIKE '%0000' AS fails
) AS ended
WHERE reference = $1 OR (asked_at_ms >= $2 AND asked_at_ms < $3) ORDER BY asked_at_ms, reference
