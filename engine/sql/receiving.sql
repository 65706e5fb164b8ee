-- What is received in a day (engine/risk/receiving.py).

-- is_limited --
SELECT EXISTS (SELECT FROM profiles WHERE day_received_fen_max > 0)

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

-- reached --
-- Of these wallets, those that have received as much as they may, and are not frozen for it.
SELECT owner AS user_id, limit_fen, received_fen FROM (
    SELECT account_id, owner,
        coalesce(day_received_fen_max, CASE WHEN profiles.kind = 'merchant' THEN 0 ELSE $2::bigint END) AS limit_fen
    FROM accounts LEFT JOIN profiles ON user_id = owner
    WHERE account_id = ANY ($1::bigint[]) AND accounts.kind = 'wallet' AND NOT EXISTS (
        SELECT FROM freezes
        WHERE freezes.user_id = owner AND scope = 'receiving' AND lifted_at_ms IS NULL AND frozen_by = $6
    )
) AS limited, LATERAL (
    SELECT least(coalesce(sum(amount_fen), 0), 9007199254740991)::bigint AS received_fen FROM transfers
    WHERE to_account = account_id AND kind = 'claim' AND transfer_id >= $3 AND at_ms >= $4 AND at_ms < $5
) AS received
WHERE limit_fen > 0 AND received_fen >= limit_fen
