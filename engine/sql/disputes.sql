-- take_turns --
-- A complainant's disputes are filed and decided one by one, so that they can be counted. This lock comes before the
-- freezes' and the wallets'. Lock 7312, of labels (limits.sql), comes after a wallet's.
SELECT pg_advisory_xact_lock(7313, hashtext($1))

-- transaction --
-- A packet, whether one user has a share of it, and the share of another user. No row: it is unknown.
WITH shares AS (
    SELECT owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account
    WHERE transfers.kind = 'claim' AND from_account = $1 AND accounts.kind = 'wallet' AND owner IN ($2, $3)
)
SELECT sender, total_fen, created_at_ms, asset, EXISTS (SELECT FROM shares WHERE owner = $2) AS has_share,
    (SELECT amount_fen FROM shares WHERE owner = $3) AS their_fen
FROM packets WHERE packet_id = $1

-- open_one --
SELECT dispute_id, kind, evidence FROM disputes
WHERE packet_id = $1 AND complainant = $2 AND coalesce(counterparty, '') = coalesce($3, '') AND state = 'open'

-- is_decided --
-- Whether a dispute about it was upheld before: nobody pays for the same share twice.
SELECT EXISTS (SELECT FROM disputes WHERE packet_id = $1 AND counterparty = $2 AND state = 'upheld')

-- filed_since --
SELECT count(*) FROM disputes WHERE complainant = $1 AND kind <> 'system_fault' AND filed_at_ms >= $2

-- file --
INSERT INTO disputes (kind, packet_id, complainant, counterparty, amount_fen, transaction_at_ms, evidence, filed_at_ms,
    earliest_at_ms, deadline_at_ms, deadline_is_provisional, earliest_days, deadline_days, freeze_id)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14) RETURNING dispute_id

-- dispute --
SELECT disputes.dispute_id::text, kind, packet_id::text AS number, complainant, counterparty, disputes.amount_fen,
    transaction_at_ms, evidence, filed_at_ms, earliest_at_ms, deadline_at_ms,
    deadline_is_provisional AND state = 'open' AS deadline_is_provisional, state, decided_at_ms, decision_reason,
    transfer_id::text, debt_id::text, returned_fen
FROM disputes LEFT JOIN debts USING (dispute_id) WHERE disputes.dispute_id = $1

-- lock --
SELECT kind, packet_id, complainant, counterparty, amount_fen, freeze_id, state FROM disputes
WHERE dispute_id = $1 FOR UPDATE

-- wallet --
SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1

-- owe --
INSERT INTO debts (dispute_id, debtor, creditor, amount_fen, at_ms) VALUES ($1, $2, $3, $4, $5)

-- decide --
UPDATE disputes
SET state = $2, decided_at_ms = $3, decided_by = $4, decision_reason = $5, transfer_id = $6
WHERE dispute_id = $1 AND state = 'open'

-- to_return --
-- Upheld system faults whose returned amount is not known yet: one of them, or those after a number.
-- remaining_fen: NULL until the packet has ended in the ledger.
SELECT dispute_id, packet_id, remaining_fen FROM disputes JOIN packets USING (packet_id)
WHERE kind = 'system_fault' AND disputes.state = 'upheld' AND returned_fen IS NULL
    AND ($1::bigint IS NULL OR dispute_id = $1) AND dispute_id > $2
ORDER BY dispute_id LIMIT $3

-- returned --
UPDATE disputes SET returned_fen = $2 WHERE dispute_id = $1 AND returned_fen IS NULL

-- provisional --
-- A page of the open disputes with a provisional deadline.
SELECT dispute_id, kind, filed_at_ms, earliest_days, deadline_days FROM disputes
WHERE deadline_is_provisional AND state = 'open' AND dispute_id > $1 ORDER BY dispute_id LIMIT $2

-- settle_deadline --
-- If a passed deadline moves into the future by the plan, it is reported again when it passes.
UPDATE disputes
SET earliest_at_ms = $2, deadline_at_ms = $3, deadline_is_provisional = FALSE, earliest_days = $4, deadline_days = $5,
    overdue_told = overdue_told AND $3 <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE dispute_id = $1 AND state = 'open' AND deadline_is_provisional

-- tell_overdue --
UPDATE disputes SET overdue_told = TRUE
WHERE dispute_id IN (
    SELECT dispute_id FROM disputes WHERE state = 'open' AND deadline_at_ms <= $1 AND NOT overdue_told
    ORDER BY deadline_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING dispute_id, kind, packet_id, complainant, deadline_at_ms, deadline_is_provisional

-- open_page --
-- Open disputes, the one that is due first first. $3: the kind; $4: a party; $5: those due before this;
-- $6: assigned to this operator; $7: only those that are assigned to nobody.
SELECT dispute_id, kind, packet_id, complainant, counterparty, amount_fen, filed_at_ms, earliest_at_ms, deadline_at_ms,
    deadline_is_provisional, state, decided_at_ms, decided_by, returned_fen,
    assigned_to
FROM disputes
WHERE state = 'open' AND (deadline_at_ms, dispute_id) > ($1::bigint, $2::bigint) AND ($3::text IS NULL OR kind = $3)
    AND ($4::text IS NULL OR complainant = $4 OR counterparty = $4) AND deadline_at_ms < $5
    AND ($6::text IS NULL OR assigned_to = $6) AND (NOT $7::boolean OR assigned_to IS NULL)
ORDER BY deadline_at_ms, dispute_id LIMIT $8

-- decided_page --
-- Decided disputes, the last decision first. $5: the outcome.
SELECT dispute_id, kind, packet_id, complainant, counterparty, amount_fen, filed_at_ms, earliest_at_ms, deadline_at_ms,
    FALSE AS deadline_is_provisional, state, decided_at_ms, decided_by, returned_fen,
    assigned_to
FROM disputes
WHERE state <> 'open' AND (decided_at_ms, dispute_id) < ($1::bigint, $2::bigint) AND ($3::text IS NULL OR kind = $3)
    AND ($4::text IS NULL OR complainant = $4 OR counterparty = $4) AND ($5::text IS NULL OR state = $5)
    AND ($6::text IS NULL OR assigned_to = $6) AND (NOT $7::boolean OR assigned_to IS NULL)
ORDER BY decided_at_ms DESC, dispute_id DESC LIMIT $8

-- of_party --
-- A user's disputes on either side, newest first.
SELECT dispute_id, kind, packet_id, complainant, counterparty, amount_fen, filed_at_ms, earliest_at_ms, deadline_at_ms,
    deadline_is_provisional AND state = 'open' AS deadline_is_provisional, state, decided_at_ms, decided_by, returned_fen,
    assigned_to
FROM (
    (SELECT * FROM disputes WHERE complainant = $1 ORDER BY filed_at_ms DESC LIMIT $2)
    UNION ALL
    (SELECT * FROM disputes WHERE counterparty = $1 ORDER BY dispute_id DESC LIMIT $2)
) AS either ORDER BY dispute_id DESC LIMIT $2

-- of_packet --
SELECT dispute_id, kind, packet_id, complainant, counterparty, amount_fen, filed_at_ms, earliest_at_ms, deadline_at_ms,
    deadline_is_provisional AND state = 'open' AS deadline_is_provisional, state, decided_at_ms, decided_by, returned_fen,
    assigned_to
FROM disputes WHERE packet_id = $1 ORDER BY dispute_id DESC LIMIT $2

-- due_counts --
-- Counted up to $3: open ones, those due before $2, those overdue at $1.
SELECT count(*) AS open, count(*) FILTER (WHERE deadline_at_ms < $2) AS due_soon,
    count(*) FILTER (WHERE deadline_at_ms <= $1) AS overdue, min(deadline_at_ms) AS first_deadline_at_ms
FROM (SELECT deadline_at_ms FROM disputes WHERE state = 'open' ORDER BY deadline_at_ms LIMIT $3) AS waiting

-- decision --
-- What a decision rests on: who decided or is to, and what the payer's wallet holds now.
SELECT decided_by, assigned_to, freeze_id, (
    SELECT balance_fen FROM accounts WHERE kind = 'wallet' AND owner = counterparty
) AS payer_fen, (
    SELECT packets.state::text FROM packets WHERE packets.packet_id = disputes.packet_id
) AS packet_state, (
    SELECT packets.expires_at_ms FROM packets WHERE packets.packet_id = disputes.packet_id
) AS packet_expires_at_ms
FROM disputes WHERE dispute_id = $1

-- decided_as --
-- Who has decided a dispute and why. Whoever is deciding it now is waited for.
SELECT decided_by, decision_reason FROM disputes WHERE dispute_id = $1 FOR UPDATE

-- assign --
-- $2 null: to nobody.
UPDATE disputes SET assigned_to = $2 WHERE dispute_id = $1 AND state = 'open' RETURNING dispute_id
