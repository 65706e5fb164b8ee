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
-- Wallets and users are looked up as arrays, by which the planner takes the index that has them first. It would take one
-- by kind, which is far larger than what is asked of it: so no kind stands where the planner looks for an index.
-- The day's entries are in the first of the ledger's volumes and in those that were open in it, so that each wallet is not
-- looked up in all of them. The limit is about money: an account of another asset is nobody's wallet, and is not judged.
WITH limited AS MATERIALIZED (
    SELECT account_id, owner AS user_id,
        coalesce(day_received_fen_max, CASE WHEN profiles.kind = 'merchant' THEN 0 ELSE $2::bigint END) AS limit_fen
    FROM accounts LEFT JOIN profiles ON user_id = owner WHERE account_id = ANY ($1::bigint[]) AND asset IS NULL
), received AS MATERIALIZED (
    SELECT to_account, least(sum(amount_fen) FILTER (WHERE kind = 'claim'), 9007199254740991)::bigint AS received_fen
    FROM transfers
    WHERE to_account = ANY (ARRAY(SELECT account_id FROM limited WHERE limit_fen > 0))
        AND transfer_id >= $3 AND at_ms >= $4 AND at_ms < $5
        AND (from_account < 1100000000000000000 OR from_account >= 100000000000000000 * (
            SELECT min(volume) FROM volumes WHERE volume > 10 AND (last_transfer_id IS NULL OR last_transfer_id >= $3)
        ))
    GROUP BY to_account
), known AS MATERIALIZED (
    SELECT DISTINCT ON (user_id) user_id, is_reached FROM limits_reached
    WHERE user_id = ANY (ARRAY(SELECT user_id FROM limited)) AND until_ms = $5 ORDER BY user_id, change_id DESC
), judged AS (
    SELECT user_id, limit_fen, coalesce(received_fen, 0) AS received_fen,
        limit_fen > 0 AND coalesce(received_fen, 0) >= limit_fen AS is_reached
    FROM limited LEFT JOIN received ON to_account = account_id
)
INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms)
SELECT user_id, judged.is_reached, limit_fen, received_fen,
    (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)), $5
FROM judged LEFT JOIN known USING (user_id) WHERE judged.is_reached <> coalesce(known.is_reached, FALSE)
