-- A large ledger for benchmarks.lookups. What begins with a dollar sign is put in by Python.

-- packets --
INSERT INTO accounts (account_id, kind, owner, balance_fen)
SELECT 1000 + n, 'wallet', 'user' || lpad(n::text, 8, '0'), 1000 FROM generate_series(0, $users - 1) AS n;

INSERT INTO packets (packet_id, sender, split, total_fen, count, min_fen, max_fen, greeting, recipients, seed, commitment,
    created_at_ms, expires_at_ms, state, remaining_count, remaining_fen, ended_at_ms, settled_at_ms, label)
SELECT $first + (n % 16) * 100000000000000 + n, 'user' || lpad((n % $users)::text, 8, '0'), 'lucky', 1000 + n % 5000, 8, 1,
    900, '', '{}', sha256(n::text::bytea), ''::bytea, at_ms, at_ms + 86400000,
    CASE WHEN n > $packets - 2000 THEN 'open' WHEN n % 997 = 0 THEN 'retracted' WHEN n % 3 = 0 THEN 'expired' ELSE 'exhausted'
        END::packet_state,
    CASE WHEN n <= $packets - 2000 THEN CASE WHEN n % 3 = 0 THEN 1 ELSE 0 END END,
    CASE WHEN n <= $packets - 2000 THEN CASE WHEN n % 3 = 0 THEN 100 ELSE 0 END END,
    CASE WHEN n <= $packets - 2000 THEN at_ms + 60000 END,
    CASE WHEN n <= $packets - 2000 AND n % 5003 <> 0 THEN at_ms + 61000 END,
    CASE WHEN n % 4 = 0 THEN 'label' || lpad((n % 499)::text, 4, '0') END
FROM (SELECT n, $now_ms - ($packets - n) * $step_ms::bigint AS at_ms FROM generate_series(1, $packets) AS n) AS packet;

INSERT INTO accounts (account_id, kind, balance_fen) SELECT packet_id, 'custody', 0 FROM packets;

-- entries --
INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot, position)
SELECT kind::transfer_kind, CASE WHEN kind = 'send' THEN wallet ELSE packet_id END,
    CASE WHEN kind = 'send' THEN packet_id WHEN kind = 'refund' THEN wallet ELSE 1000 + (n * 31 + step * 7919) % $users END,
    100, at_ms + step * 1000, CASE WHEN kind = 'claim' THEN step - 1 END, CASE WHEN kind <> 'send' THEN n * 9 + step END
FROM generate_series(1, $packets) AS n CROSS JOIN generate_series(0, 9) AS step CROSS JOIN LATERAL (
    SELECT $first + (n % 16) * 100000000000000 + n AS packet_id, 1000 + n % $users AS wallet,
        $now_ms - ($packets - n) * $step_ms::bigint AS at_ms,
        CASE step WHEN 0 THEN 'send' WHEN 9 THEN 'refund' ELSE 'claim' END AS kind
) AS packet
ON CONFLICT DO NOTHING;

-- work --
INSERT INTO freezes (user_id, scope, reason, frozen_by, frozen_at_ms, lifted_at_ms, lifted_by)
SELECT 'user' || lpad((n % $users)::text, 8, '0'), CASE n % 3 WHEN 0 THEN 'account' WHEN 1 THEN 'sending' ELSE 'receiving' END,
    'seen', CASE n % 3 WHEN 0 THEN 'rule:large_movement' WHEN 1 THEN 'dispute' ELSE 'root' END, $now_ms - n,
    CASE WHEN n % 20 <> 0 THEN $now_ms END, CASE WHEN n % 20 <> 0 THEN 'root' END
FROM generate_series(1, $packets / 10) AS n;

INSERT INTO withdrawals (user_id, amount_fen, fee_fen, free_fen, bank_account, state, failure, transfer_id, end_transfer_id,
    asked_at_ms, ended_at_ms)
SELECT 'user' || lpad((n % $users)::text, 8, '0'), 100, 0, 0, '6222020000001234', state, CASE WHEN state = 'failed' THEN 'x' END,
    n, CASE WHEN state <> 'processing' THEN n END, $now_ms - ($packets / 3 - n) * 1000::bigint,
    CASE WHEN state <> 'processing' THEN $now_ms END
FROM generate_series(1, $packets / 3) AS n, LATERAL (
    SELECT CASE WHEN n > $packets / 3 - 100 THEN 'processing' WHEN n % 10007 = 0 THEN 'failed' ELSE 'settled' END AS state
) AS its;

INSERT INTO disputes (kind, packet_id, complainant, counterparty, amount_fen, transaction_at_ms, evidence, filed_at_ms,
    earliest_at_ms, deadline_at_ms, state, decided_at_ms, decided_by)
SELECT CASE n % 2 WHEN 0 THEN 'fraud' ELSE 'minor' END, $first + n, 'user' || lpad((n % $users)::text, 8, '0'),
    'user' || lpad(((n + 1) % $users)::text, 8, '0'), 2000, $now_ms, '[]', $now_ms - n, $now_ms, $now_ms + n,
    CASE WHEN n % 50 = 0 THEN 'open' WHEN n % 3 = 0 THEN 'upheld' ELSE 'rejected' END,
    CASE WHEN n % 50 <> 0 THEN $now_ms - n END, CASE WHEN n % 50 <> 0 THEN 'root' END
FROM generate_series(1, $packets / 20) AS n;

INSERT INTO alerts (alert_id, kind, user_id, at_ms, details, acknowledged_at_ms, acknowledged_by) OVERRIDING SYSTEM VALUE
SELECT n, CASE WHEN n % 1009 = 0 THEN 'burst' ELSE 'large_movement' END, 'user' || lpad((n % $users)::text, 8, '0'),
    $now_ms - ($packets - n), '{}', CASE WHEN n % 100 <> 0 THEN $now_ms END, CASE WHEN n % 100 <> 0 THEN 'root' END
FROM generate_series(1, $packets / 2) AS n;

INSERT INTO quarantine (lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, resolution, resolved_at_ms,
    resolved_by)
SELECT n % 16, n, $first + n, 'claim', 'bob', 0, 5, $now_ms, 'broken', CASE WHEN n % 100 <> 0 THEN 'retried' END,
    CASE WHEN n % 100 <> 0 THEN $now_ms END, CASE WHEN n % 100 <> 0 THEN 'root' END
FROM generate_series(1, $packets / 5) AS n;

INSERT INTO notes (subject_kind, subject, written_at_ms, written_by, note)
SELECT 'user', 'user' || lpad((n % $users)::text, 8, '0'), $now_ms, 'root', 'x' FROM generate_series(1, $packets / 10) AS n;

INSERT INTO reconciliations (day, run, started_at_ms, ended_at_ms, run_by, is_provisional, difference_count, comparisons)
SELECT DATE '2025-01-01' + n, 1, 1, 1, 'daily', FALSE, 0, '[]' FROM generate_series(1, 365) AS n;
