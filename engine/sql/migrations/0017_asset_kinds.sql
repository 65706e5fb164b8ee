-- Words that the next migration uses (Postgres takes a new one only in a later transaction).

ALTER TYPE account_kind ADD VALUE 'holding';  -- what a user has of an asset that is not the ledger's currency
ALTER TYPE account_kind ADD VALUE 'issuer';   -- the outside world of such an asset: it owes what all others hold

ALTER TYPE transfer_kind ADD VALUE 'issue';   -- issuer -> holding
