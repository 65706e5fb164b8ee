-- Whether a day is closed (engine/wallets/closing.py).

-- transaction --
-- The number of this transaction: those that were open before it have smaller ones. It takes one to know, for a snapshot's
-- end is behind the last that has ended, not behind the last that began.
SELECT pg_current_xact_id()::text::bigint

-- oldest --
-- No transaction before this one is open.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- aside --
-- A change of before a moment that waits in quarantine. Of one that nobody could read only the time it was found is known.
SELECT quarantine_id FROM quarantine WHERE resolution IS NULL AND (at_ms < $1 OR kind = 'unreadable') LIMIT 1
