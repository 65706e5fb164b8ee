-- What waits for a person, a bank or the sweeper, and the last checks (engine/waiting.py). Counts stop at a bound ($2): each is one look at an index.

-- counts --
-- $1: now. A packet's refund waits if the packet has ended and its custody has not been emptied.
SELECT
    (SELECT count(*) FROM (SELECT FROM disputes WHERE state = 'open' LIMIT $2) AS found) AS disputes_open,
    (SELECT count(*) FROM (SELECT FROM disputes WHERE state = 'open' AND deadline_at_ms <= $1 LIMIT $2) AS found)
        AS disputes_overdue,
    (SELECT count(*) FROM (SELECT FROM packets WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL LIMIT $2) AS found)
        AS refunds,
    (SELECT min(ended_at_ms) FROM packets WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL) AS refunds_since_ms,
    (SELECT count(*) FROM (SELECT FROM withdrawals WHERE state = 'processing' LIMIT $2) AS found) AS withdrawals,
    (SELECT asked_at_ms FROM withdrawals WHERE state = 'processing' ORDER BY withdrawal_id LIMIT 1) AS withdrawals_since_ms,
    (SELECT count(*) FROM (SELECT FROM approvals WHERE state = 'waiting' AND expires_at_ms > $1 LIMIT $2) AS found) AS approvals

-- last_runs --
-- The newest audit and the newest reconciliation of a closed day that were kept.
SELECT audit.problem_count, audit.ended_at_ms AS audit_ended_at_ms, reconciled.difference_count,
    reconciled.ended_at_ms AS reconciled_at_ms
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
    SELECT problem_count, ended_at_ms FROM audit_runs ORDER BY audit_run_id DESC LIMIT 1
) AS audit ON TRUE
LEFT JOIN LATERAL (
    SELECT difference_count, ended_at_ms FROM reconciliations
    WHERE NOT is_provisional ORDER BY reconciliation_id DESC LIMIT 1
) AS reconciled ON TRUE
