-- Words that the next migration uses (Postgres takes a new one only in a later transaction).

ALTER TYPE account_kind ADD VALUE 'card_escrow';  -- cards that are offered, or set aside for grants
ALTER TYPE account_kind ADD VALUE 'card_spent';   -- cards that complete sets were made of
ALTER TYPE account_kind ADD VALUE 'card_pool';    -- the money that the completers of a set share

ALTER TYPE transfer_kind ADD VALUE 'card_reserve';   -- holding -> card_escrow: the owner sets it aside for grants
ALTER TYPE transfer_kind ADD VALUE 'card_grant';     -- card_escrow -> holding: drawn for a user
ALTER TYPE transfer_kind ADD VALUE 'card_gift';      -- holding -> holding: given, or the other side of an exchange
ALTER TYPE transfer_kind ADD VALUE 'card_offer';     -- holding -> card_escrow: offered in exchange
ALTER TYPE transfer_kind ADD VALUE 'card_exchange';  -- card_escrow -> holding: to whoever accepted the offer
ALTER TYPE transfer_kind ADD VALUE 'card_return';    -- card_escrow -> holding: the offer has ended without an exchange
ALTER TYPE transfer_kind ADD VALUE 'card_spend';     -- holding -> card_spent: a part of a complete set
ALTER TYPE transfer_kind ADD VALUE 'pool_fund';      -- wallet -> card_pool
ALTER TYPE transfer_kind ADD VALUE 'pool_share';     -- card_pool -> wallet: a completer's share
ALTER TYPE transfer_kind ADD VALUE 'pool_return';    -- card_pool -> wallet of the owner: what nobody has taken
