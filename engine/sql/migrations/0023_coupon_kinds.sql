-- Words that the next migration uses (Postgres takes a new one only in a later transaction).

ALTER TYPE transfer_kind ADD VALUE 'redeem';           -- holding -> issuer: a coupon was redeemed
ALTER TYPE transfer_kind ADD VALUE 'coupon_void';      -- holding -> issuer: its issuer has declared it void
ALTER TYPE transfer_kind ADD VALUE 'coupon_expire';    -- holding -> issuer: its time was over
ALTER TYPE transfer_kind ADD VALUE 'coupon_transfer';  -- holding -> holding: it was passed on
