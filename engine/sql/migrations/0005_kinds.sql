-- Words that the next migration uses (Postgres takes a new one only in a later transaction).

-- payout: money on its way to a bank, until the payout has settled or failed.
ALTER TYPE account_kind ADD VALUE 'payout';

ALTER TYPE transfer_kind ADD VALUE 'withdrawal';         -- wallet -> payout: the amount with its fee
ALTER TYPE transfer_kind ADD VALUE 'withdrawal_return';  -- payout -> wallet: it failed
ALTER TYPE transfer_kind ADD VALUE 'payout';             -- payout -> bank: it settled
ALTER TYPE transfer_kind ADD VALUE 'fee';                -- payout -> fee
ALTER TYPE transfer_kind ADD VALUE 'correction';         -- wallet -> wallet: what a dispute decided
