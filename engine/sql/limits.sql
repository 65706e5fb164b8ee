-- What stands in a sender's way (engine/risk/limits.py).

-- lock_sender --
-- The wallet is locked first, so that of two sendings of a user the second sees what the first has counted. The lock is a
-- statement of its own: one that waits goes on with what it saw before it waited, and limits may have changed meanwhile.
SELECT FROM accounts WHERE kind = 'wallet' AND owner = $1 FOR UPDATE

-- sender --
SELECT frozen, sending_frozen_until_ms,
    coalesce(profiles.kind, 'person') AS kind, coalesce(addresses, '{}') AS addresses,
    transaction_fen_max, profiles.day_sent_fen_max
FROM accounts LEFT JOIN profiles ON user_id = owner
WHERE accounts.kind = 'wallet' AND owner = $1

-- card --
-- Who alone may send the asset, and until when. NULL: everybody, and for ever.
SELECT sole_sender, ends_at_ms
FROM assets LEFT JOIN card_kinds USING (asset) LEFT JOIN card_sets USING (set_id) WHERE asset = $1

-- label --
SELECT day_sent_fen_max FROM labels WHERE label = $1

-- addresses --
SELECT addresses FROM profiles WHERE user_id = $1

-- take_turns --
-- Sendings to one label, and changes of its limit; after the wallet's lock.
SELECT pg_advisory_xact_lock(7312, hashtext($1))

-- spend --
-- Count a sending in its day if that stays within the limit. The day's first begins with what the packets say was sent
-- before, so a limit that is set in the middle of a day holds for all of it. What its sender took back does not count.
WITH sent AS (
    SELECT sent_in_day($1, $2, $5, $6) AS before_fen
), counted AS (
    INSERT INTO day_totals (subject, day, sent_fen)
    SELECT $1, $2, before_fen + $3::bigint FROM sent WHERE before_fen + $3::bigint <= $4::bigint
    ON CONFLICT (subject, day) DO UPDATE SET sent_fen = day_totals.sent_fen + $3::bigint
    WHERE day_totals.sent_fen + $3::bigint <= $4::bigint
    RETURNING sent_fen
)
SELECT before_fen, EXISTS (SELECT FROM counted) AS is_within FROM sent

-- sent --
SELECT sent_in_day($1, $2, $3, $4)
