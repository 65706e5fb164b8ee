-- Anchors that clean audits keep (engine/auditing/kept.py).

-- last_transfer --
SELECT coalesce(max(transfer_id), 0) FROM transfers

-- transaction --
-- The number of this transaction: those that were opened before it have smaller ones. It must take a number, because a
-- snapshot ends after the last transaction that has ended, not after the last that has begun.
SELECT pg_current_xact_id()::text::bigint

-- oldest --
-- No transaction before this number is open.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- now_ms --
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- may_keep --
SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
    AND has_table_privilege('audits', 'INSERT') AND has_table_privilege('audited_balances', 'INSERT')
    AND has_table_privilege('audited_balances', 'UPDATE') AND has_table_privilege('audited_balances', 'DELETE')

-- newest --
SELECT * FROM audits ORDER BY audit_id DESC LIMIT 1

-- anchors --
SELECT * FROM audits WHERE audit_id = ANY ($1::bigint[]) ORDER BY audit_id

-- part_to_walk --
-- Of the parts of history between two anchors, the one that was walked longest ago: its anchors (`before` null: it begins
-- with the first entry). The first part may be very long: it is left out if it has more entries than $1.
WITH parts AS (
    SELECT audit_id, transfer_id, lanes, lag(audit_id) OVER ordered AS before,
        lag(transfer_id) OVER ordered AS transfer_id_before, lag(lanes) OVER ordered AS lanes_before
    FROM audits WHERE audit_id >= (SELECT max(audit_id) FROM audits WHERE begins)
    WINDOW ordered AS (ORDER BY audit_id)
), walked AS (
    SELECT walked_again AS audit_id, max(audit_id) AS by FROM audits WHERE walked_again IS NOT NULL GROUP BY 1
)
SELECT audit_id, before FROM parts LEFT JOIN walked USING (audit_id)
WHERE CASE
    WHEN before IS NULL THEN transfer_id <= $1
    ELSE (transfer_id, lanes) IS DISTINCT FROM (transfer_id_before, lanes_before)
END
ORDER BY greatest(audit_id, by, (SELECT max(audit_id) FROM audits WHERE is_full)), by NULLS FIRST, audit_id
LIMIT 1

-- has_transfer --
SELECT EXISTS (SELECT FROM transfers WHERE transfer_id = $1)

-- counts --
-- How many entries are after $1 up to $2, and how many of those that no batch wrote.
SELECT count(*) AS entries, count(*) FILTER (
    WHERE kind <> 'claim' AND kind <> 'refund' AND transfer_id > (SELECT transfer_id FROM chained_after)
) AS own_entries
FROM transfers WHERE transfer_id > $1 AND transfer_id <= $2

-- balances --
SELECT account_id, balance_fen, encode(hash, 'hex') FROM audited_balances ORDER BY account_id

-- balances_then --
-- As audited_balances will be: the sums of the entries up to $2. $3: those up to $1 are there already.
WITH balances AS (
    SELECT account_id, coalesce(fen, 0) + coalesce(balance_fen, 0) AS balance_fen, coalesce(moved.hash, audited.hash) AS hash
    FROM moved_between($1, $2) AS moved
    FULL JOIN (SELECT * FROM audited_balances WHERE $3::boolean) AS audited USING (account_id)
)
SELECT account_id, balance_fen, encode(hash, 'hex') FROM balances
WHERE balance_fen <> 0 OR hash IS NOT NULL ORDER BY account_id

-- take_turns --
-- Anchors are kept one after another.
SELECT pg_advisory_xact_lock(7317)

-- newest_id --
SELECT max(audit_id) FROM audits

-- move_balances --
-- Bring audited_balances from $1 to $2. Without $3, from nothing.
WITH changed AS MATERIALIZED (
    SELECT account_id, fen + coalesce(balance_fen, 0) AS balance_fen, coalesce(moved.hash, audited.hash) AS hash
    FROM moved_between($1, $2) AS moved
    LEFT JOIN (SELECT * FROM audited_balances WHERE $3::boolean) AS audited USING (account_id)
), emptied AS (
    DELETE FROM audited_balances USING changed
    WHERE audited_balances.account_id = changed.account_id AND changed.balance_fen = 0 AND changed.hash IS NULL
), gone AS (
    DELETE FROM audited_balances
    WHERE NOT $3::boolean AND NOT EXISTS (SELECT FROM changed WHERE changed.account_id = audited_balances.account_id)
)
INSERT INTO audited_balances AS kept (account_id, balance_fen, hash)
SELECT account_id, balance_fen, hash FROM changed WHERE balance_fen <> 0 OR hash IS NOT NULL
ON CONFLICT (account_id) DO UPDATE SET balance_fen = excluded.balance_fen, hash = excluded.hash
WHERE (kept.balance_fen, kept.hash) IS DISTINCT FROM (excluded.balance_fen, excluded.hash)

-- add --
INSERT INTO audits (audit_id, at_ms, begins, is_full, walked_again, transfer_id, last_transfer_id, entries, own_entries,
    lanes, balances_digest, key_id, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $12, $13)
