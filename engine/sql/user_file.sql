-- One user with what the ledger knows of them (engine/backoffice/user_file.py).

-- places --
SELECT network, first_at_ms FROM places WHERE user_id = $1 ORDER BY first_at_ms DESC LIMIT $2

-- owed_to --
SELECT debt_id, dispute_id, debtor, amount_fen, at_ms FROM debts WHERE creditor = $1 ORDER BY debt_id DESC LIMIT $2

-- sent_today --
SELECT sent_in_day('user:' || $1::text, $2, $3, $4)
