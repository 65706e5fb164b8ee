-- What is known of users and of labels (engine/risk/profiles.py).

-- put --
INSERT INTO profiles (user_id, kind, addresses, transaction_fen_max, day_sent_fen_max, day_received_fen_max,
    changed_by, changed_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (user_id) DO UPDATE SET kind = excluded.kind, addresses = excluded.addresses,
    transaction_fen_max = excluded.transaction_fen_max, day_sent_fen_max = excluded.day_sent_fen_max,
    day_received_fen_max = excluded.day_received_fen_max, changed_by = excluded.changed_by,
    changed_at_ms = excluded.changed_at_ms

-- profile --
SELECT kind, addresses, transaction_fen_max, day_sent_fen_max, day_received_fen_max, changed_by, changed_at_ms
FROM profiles WHERE user_id = $1

-- put_label --
INSERT INTO labels (label, day_sent_fen_max, changed_by, changed_at_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (label) DO UPDATE SET day_sent_fen_max = excluded.day_sent_fen_max, changed_by = excluded.changed_by,
    changed_at_ms = excluded.changed_at_ms

-- debts --
SELECT debt_id, dispute_id, creditor, amount_fen, at_ms FROM debts WHERE debtor = $1 ORDER BY debt_id DESC LIMIT $2

-- forget --
-- Have a day counted anew: sendings are counted only while there is a limit.
DELETE FROM day_totals WHERE subject = $1
