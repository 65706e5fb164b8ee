-- Runs of reconciliation and of audits (engine/auditing/runs.py).

-- keep_reconciliation --
-- Two runs of a day take turns, so that each has its own number.
INSERT INTO reconciliations (day, run, started_at_ms, ended_at_ms, run_by, is_provisional, difference_count, comparisons)
SELECT $1, 1 + coalesce((SELECT max(run) FROM reconciliations WHERE day = $1), 0), $2,
    floor(extract(epoch FROM clock_timestamp()) * 1000), $3, $4, $5, $6::jsonb
RETURNING reconciliation_id

-- take_turns --
SELECT pg_advisory_xact_lock(7320)

-- days --
-- Each day's last run, the newest day first. `reasons`: of which of its comparisons somebody has explained the differences.
SELECT last.reconciliation_id, last.day, last.run, last.started_at_ms, last.ended_at_ms, last.run_by, last.is_provisional,
    last.difference_count, (
        SELECT count(*) FROM jsonb_array_elements(last.comparisons) AS one WHERE NOT (one->>'agrees')::boolean
    ) AS differing, (
        SELECT count(DISTINCT comparison) FROM reconciliation_reasons WHERE reconciliation_id = last.reconciliation_id
    ) AS explained
FROM (SELECT DISTINCT day FROM reconciliations WHERE day < $1 AND day >= $2) AS of_day
CROSS JOIN LATERAL (
    SELECT * FROM reconciliations WHERE reconciliations.day = of_day.day ORDER BY run DESC LIMIT 1
) AS last
ORDER BY last.day DESC LIMIT $3

-- of_day --
SELECT reconciliation_id, day, run, started_at_ms, ended_at_ms, run_by, is_provisional, difference_count, comparisons
FROM reconciliations WHERE day = $1 AND run < $2 ORDER BY run DESC LIMIT $3

-- reconciliation --
SELECT reconciliation_id, day, run, started_at_ms, ended_at_ms, run_by, is_provisional, difference_count, comparisons
FROM reconciliations WHERE reconciliation_id = $1

-- has_final --
SELECT EXISTS (SELECT FROM reconciliations WHERE day = $1 AND NOT is_provisional)

-- first_ms --
-- Before this there was no ledger.
SELECT min(begun_at_ms) FROM volumes

-- reasons --
SELECT comparison, reason, explained_by, explained_at_ms FROM reconciliation_reasons
WHERE reconciliation_id = $1 ORDER BY reason_id

-- explain --
INSERT INTO reconciliation_reasons (reconciliation_id, comparison, reason, explained_by, explained_at_ms)
SELECT $1, $2, $3, $4, floor(extract(epoch FROM clock_timestamp()) * 1000)

-- keep_audit --
INSERT INTO audit_runs (started_at_ms, ended_at_ms, run_by, is_full, scope, not_kept, problem_count, findings)
SELECT $1, floor(extract(epoch FROM clock_timestamp()) * 1000), $2, $3, $4, $5, $6, $7::jsonb
RETURNING audit_run_id

-- audit_runs --
SELECT audit_run_id, started_at_ms, ended_at_ms, run_by, is_full, scope, not_kept, problem_count
FROM audit_runs WHERE audit_run_id < $1 ORDER BY audit_run_id DESC LIMIT $2

-- audit_run --
SELECT audit_run_id, started_at_ms, ended_at_ms, run_by, is_full, scope, not_kept, problem_count, findings
FROM audit_runs WHERE audit_run_id = $1

-- heavy --
-- One heavy job at a time, whichever process it is in, for as long as the connection lasts.
SELECT pg_try_advisory_lock(7319)

-- may_keep --
SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
    AND has_table_privilege('reconciliations', 'INSERT') AND has_table_privilege('audit_runs', 'INSERT')
