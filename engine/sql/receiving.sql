-- What is received in a day (engine/risk/receiving.py).

-- is_limited --
-- Whether somebody has a limit of their own, or has reached one that may be gone by now.
SELECT EXISTS (SELECT FROM profiles WHERE day_received_fen_max > 0) OR EXISTS (
    SELECT FROM (SELECT until_ms FROM limits_reached ORDER BY change_id DESC LIMIT 1) AS last
    WHERE until_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)
)

-- horizon --
-- The last transfer that can be seen, the oldest transaction that is open, and the clock.
SELECT (SELECT coalesce(max(transfer_id), 0) FROM transfers) AS transfer_id,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms

-- transaction --
-- The number of this transaction: all that were open before it have smaller ones. A snapshot's end does not say that much:
-- it is behind the last that has ended, not behind the last that began.
SELECT pg_current_xact_id()::text::bigint

-- at_or_after --
SELECT transfer_id, at_ms FROM transfers WHERE transfer_id >= $1 ORDER BY transfer_id LIMIT 1

-- claimants --
SELECT max(transfer_id) AS last, array_agg(DISTINCT to_account) FILTER (WHERE kind = 'claim') AS wallets
FROM (SELECT transfer_id, kind, to_account FROM transfers WHERE transfer_id > $1 ORDER BY transfer_id LIMIT $2) AS page

-- wallet --
SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1

-- take_turns --
-- Changes get their numbers in the order in which they are committed.
SELECT pg_advisory_xact_lock(7315)

-- judge --
-- Of these wallets, those whose limit is reached, and was not by the last change of the day, or the other way round.
WITH judged AS (
    SELECT owner AS user_id, limit_fen, received_fen, limit_fen > 0 AND received_fen >= limit_fen AS is_reached
    FROM (
        SELECT account_id, owner,
            coalesce(day_received_fen_max, CASE WHEN profiles.kind = 'merchant' THEN 0 ELSE $2::bigint END) AS limit_fen
        FROM accounts LEFT JOIN profiles ON user_id = owner
        WHERE account_id = ANY ($1::bigint[]) AND accounts.kind = 'wallet'
    ) AS limited, LATERAL (
        SELECT least(coalesce(sum(amount_fen), 0), 9007199254740991)::bigint AS received_fen FROM transfers
        WHERE limit_fen > 0 AND to_account = account_id AND kind = 'claim'
            AND transfer_id >= $3 AND at_ms >= $4 AND at_ms < $5
    ) AS received
)
INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms)
SELECT user_id, is_reached, limit_fen, received_fen, floor(extract(epoch FROM clock_timestamp()) * 1000), $5
FROM judged WHERE is_reached <> coalesce(
    (SELECT last.is_reached FROM limits_reached AS last
    WHERE last.user_id = judged.user_id AND last.until_ms = $5 ORDER BY change_id DESC LIMIT 1),
    FALSE
)
