-- Words that the next migration uses (Postgres takes a new one only in a later transaction).

ALTER TYPE account_kind ADD VALUE 'fund';  -- what was given to a fundraiser, or a merchant's budget for one

ALTER TYPE transfer_kind ADD VALUE 'gift';          -- wallet -> fund
ALTER TYPE transfer_kind ADD VALUE 'gift_return';   -- fund -> wallet: the goal was missed
ALTER TYPE transfer_kind ADD VALUE 'match_budget';  -- wallet of a merchant -> fund of the match
ALTER TYPE transfer_kind ADD VALUE 'match';         -- fund of the match -> fund of the fundraiser, for a gift
ALTER TYPE transfer_kind ADD VALUE 'match_return';  -- fund -> wallet of the merchant
ALTER TYPE transfer_kind ADD VALUE 'fund_payout';   -- fund -> wallet of the beneficiary
