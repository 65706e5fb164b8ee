-- Whether a day is closed (engine/wallets/closing.py).

-- transaction --
-- The number of this transaction: those that were opened before it have smaller ones. It must take a number, because a
-- snapshot ends after the last transaction that has ended, not after the last that has begun.
SELECT pg_current_xact_id()::text::bigint

-- oldest --
-- No transaction before this number is open.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- aside --
-- A pending change in quarantine from before a moment. For an unreadable change, only the time of its finding is known.
SELECT quarantine_id FROM quarantine WHERE resolution IS NULL AND (at_ms < $1 OR kind = 'unreadable') LIMIT 1
