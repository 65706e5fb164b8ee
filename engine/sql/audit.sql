-- sum_of_balances --
-- As text, like every sum here: in wrong books it may need more than 64 bits.
SELECT coalesce(sum(balance_fen), 0)::text FROM accounts

-- wrong_balances --
-- Every account whose balance is not the sum of its entries, and every account that is only named in entries.
WITH movements AS (
    SELECT to_account AS account_id, amount_fen AS fen FROM transfers
    UNION ALL
    SELECT from_account, -amount_fen FROM transfers
), sums AS (
    SELECT account_id, sum(fen) AS fen FROM movements GROUP BY account_id
)
SELECT account_id, kind::text, owner, balance_fen, coalesce(fen, 0)::text AS transfers_fen
FROM accounts FULL JOIN sums USING (account_id)
WHERE balance_fen IS DISTINCT FROM coalesce(fen, 0)
ORDER BY account_id

-- accounts --
SELECT count(*) FROM accounts

-- packets --
-- Each packet with the money that the ledger moved in and out.
SELECT packet_id, state::text, split, total_fen, packets.count, min_fen, max_fen, seed, commitment, remaining_count,
    remaining_fen, settled_at_ms, balance_fen AS custody_fen,
    coalesce(sent.fen, 0) AS sent_fen,
    coalesce(out.claims, 0) AS claims, coalesce(out.claimed_fen, 0) AS claimed_fen,
    coalesce(out.refunds, 0) AS refunds, coalesce(out.refunded_fen, 0) AS refunded_fen,
    coalesce(out.written_off_fen, 0) AS written_off_fen,
    coalesce(aside.claims_written_off, 0) AS claims_written_off, coalesce(aside.open, 0) AS quarantined,
    coalesce(aside.rest_written_off_fen, 0) AS rest_written_off_fen
FROM packets
LEFT JOIN accounts ON account_id = packet_id AND kind = 'custody'
LEFT JOIN (SELECT to_account, sum(amount_fen) AS fen FROM transfers WHERE kind = 'send' GROUP BY to_account) AS sent
    ON sent.to_account = packet_id
LEFT JOIN (
    SELECT from_account,
        count(*) FILTER (WHERE kind = 'claim') AS claims, sum(amount_fen) FILTER (WHERE kind = 'claim') AS claimed_fen,
        count(*) FILTER (WHERE kind = 'refund') AS refunds, sum(amount_fen) FILTER (WHERE kind = 'refund') AS refunded_fen,
        sum(amount_fen) FILTER (WHERE kind = 'write_off') AS written_off_fen
    FROM transfers WHERE kind IN ('claim', 'refund', 'write_off') GROUP BY from_account
) AS out ON out.from_account = packet_id
LEFT JOIN (
    SELECT packet_id, count(*) FILTER (WHERE resolution IS NULL) AS open,
        count(*) FILTER (WHERE kind = 'claim' AND resolution = 'written_off') AS claims_written_off,
        sum(moved_fen) FILTER (WHERE kind = 'ending' AND resolution = 'written_off') AS rest_written_off_fen
    FROM quarantine GROUP BY packet_id
) AS aside USING (packet_id)
ORDER BY packet_id

-- users_twice --
SELECT from_account AS packet_id, owner, count(*) AS claims
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' GROUP BY from_account, owner HAVING count(*) > 1

-- slots_twice --
SELECT from_account AS packet_id, slot, count(*) AS claims
FROM transfers WHERE kind = 'claim' GROUP BY from_account, slot HAVING count(*) > 1

-- claims_of --
SELECT owner AS user_id, slot, amount_fen
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1

-- claims_of_many --
SELECT from_account AS packet_id, owner AS user_id, slot, amount_fen
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = ANY($1)

-- lanes --
-- Each lane with the changes that its batches, and later retries of set-aside ones, have applied; and with the ledger's
-- entries for them. A packet's number names its lane.
SELECT lane, epoch, position,
    coalesce(said.claims, 0) + coalesce(later.claims, 0) AS claims_said, coalesce(held.claims, 0) AS claims_held,
    coalesce(said.refunds, 0) + coalesce(later.refunds, 0) AS refunds_said, coalesce(held.refunds, 0) AS refunds_held,
    coalesce(said.opened, 0) + coalesce(later.opened, 0) AS opened_said, coalesce(packets.opened, 0) AS opened_held,
    coalesce(said.closed, 0) + coalesce(later.closed, 0) AS closed_said, coalesce(packets.closed, 0) AS closed_held
FROM lanes
LEFT JOIN (
    SELECT lane, count(*) FILTER (WHERE kind = 'claim') AS claims, count(*) FILTER (WHERE kind = 'opening') AS opened,
        count(*) FILTER (WHERE kind = 'ending' AND amount_fen > 0 AND resolution = 'retried') AS refunds,
        count(*) FILTER (WHERE kind = 'ending' AND state <> 'exhausted') AS closed
    FROM quarantine WHERE took_effect GROUP BY lane
) AS later USING (lane)
LEFT JOIN (
    SELECT lane, sum(claims) AS claims, sum(refunds) AS refunds, sum(opened) AS opened, sum(closed) AS closed
    FROM batches GROUP BY lane
) AS said USING (lane)
LEFT JOIN (
    SELECT (from_account / 100000000000000 % 1000)::smallint AS lane,
        count(*) FILTER (WHERE kind = 'claim') AS claims, count(*) FILTER (WHERE kind = 'refund') AS refunds
    FROM transfers WHERE kind IN ('claim', 'refund') GROUP BY 1
) AS held USING (lane)
LEFT JOIN (
    SELECT (packet_id / 100000000000000 % 1000)::smallint AS lane,
        count(*) FILTER (WHERE state <> 'funded') AS opened,
        count(*) FILTER (WHERE state IN ('expired', 'retracted')) AS closed
    FROM packets GROUP BY 1
) AS packets USING (lane)
ORDER BY lane

-- batch_gaps --
-- Batches with a gap to the one before, and checkpoints without a batch that leads up to them.
SELECT lane, position, position_before, previous FROM (
    SELECT lane, position, position_before,
        coalesce(lag(position) OVER (PARTITION BY lane ORDER BY position), 0) AS previous
    FROM batches
) AS joined WHERE position_before <> previous
UNION ALL
SELECT lanes.lane, lanes.position, lanes.position, coalesce(max(batches.position), 0)
FROM lanes LEFT JOIN batches USING (lane)
GROUP BY lanes.lane, lanes.position HAVING lanes.position <> coalesce(max(batches.position), 0)
ORDER BY 1, 2

-- quarantine --
SELECT quarantine_id, lane, position, packet_id, kind, reason FROM quarantine
WHERE resolution IS NULL ORDER BY quarantine_id

-- quarantined_claims --
-- Claims that were set aside and are not in the ledger: Redis gave them, so they count as given.
SELECT packet_id, user_id, slot, amount_fen FROM quarantine
WHERE packet_id = ANY($1) AND kind = 'claim' AND resolution IS DISTINCT FROM 'retried'

-- payout_account --
-- The payout account's balance, and the sum of the open withdrawals.
SELECT balance_fen AS held_fen, coalesce(processing.fen, 0) AS processing_fen
FROM accounts, (SELECT sum(amount_fen + fee_fen) AS fen FROM withdrawals WHERE state = 'processing') AS processing
WHERE account_id = 4

-- withdrawals --
SELECT count(*) FROM withdrawals

-- wrong_withdrawals --
-- Withdrawals whose entries do not match their state: out of the wallet, then to the bank with the fee, or back.
WITH expected AS (
    SELECT withdrawal_id, state, wanted.transfer_id, wanted.kind, payer, payee, fen
    FROM withdrawals
    LEFT JOIN accounts ON accounts.kind = 'wallet' AND owner = user_id
    CROSS JOIN LATERAL (VALUES
        (transfer_id, 'withdrawal', account_id, 4, amount_fen + fee_fen, TRUE),
        (end_transfer_id, 'payout', 4, 1, amount_fen, state = 'settled'),
        (end_transfer_id, 'withdrawal_return', 4, account_id, amount_fen + fee_fen, state = 'failed'),
        (fee_transfer_id, 'fee', 4, 2, fee_fen, state = 'settled' AND fee_fen > 0)
    ) AS wanted (transfer_id, kind, payer, payee, fen, is_wanted)
    WHERE is_wanted
)
SELECT withdrawal_id, state, expected.kind, fen, expected.transfer_id
FROM expected LEFT JOIN transfers USING (transfer_id)
WHERE (transfers.kind::text, from_account, to_account, amount_fen) IS DISTINCT FROM (expected.kind, payer, payee, fen)
ORDER BY withdrawal_id, expected.kind

-- stray_payouts --
-- Entries of the payout account that belong to no withdrawal.
SELECT transfer_id, kind::text, amount_fen FROM (
    SELECT * FROM transfers WHERE to_account = 4
    UNION ALL
    SELECT * FROM transfers WHERE from_account = 4 AND kind <> 'claim'
) AS moved
WHERE NOT EXISTS (SELECT FROM withdrawals WHERE withdrawals.transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM withdrawals WHERE end_transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM withdrawals WHERE fee_transfer_id = moved.transfer_id)
ORDER BY transfer_id
