-- The rows for the audit of the hash chains (engine/ledger/chain.py), each in the order of the chains.

-- lanes --
SELECT lane, position, chained_from, hash FROM lanes ORDER BY lane

-- batches --
SELECT lane, batches.position, position_before, opened, claims, closed, refunds, quarantined, batches.hash
FROM batches LEFT JOIN lanes USING (lane)
WHERE batches.position > chained_from OR chained_from IS NULL
ORDER BY lane, batches.position

-- claims --
-- As the persister copies them (claim_rows.COLUMNS). A packet's number names its lane.
SELECT transfers.kind, from_account, to_account, amount_fen, at_ms, coalesce(slot, -1), transfers.position
FROM transfers JOIN lanes ON lane = from_account / 100000000000000 % 1000
WHERE transfers.kind = 'claim' AND transfers.position > chained_from
ORDER BY lane, transfers.position

-- refunds --
SELECT lane, transfers.position, from_account, to_account, amount_fen, at_ms
FROM transfers JOIN lanes ON lane = from_account / 100000000000000 % 1000
WHERE transfers.kind = 'refund' AND transfers.position > chained_from
ORDER BY lane, transfers.position, transfer_id

-- asides --
SELECT lane, quarantine.position, packet_id, quarantine.kind, user_id, slot, amount_fen, at_ms, reason, state,
    remaining_count, resolution, account_id
FROM quarantine
LEFT JOIN lanes USING (lane)
LEFT JOIN accounts ON accounts.kind = 'wallet' AND owner = user_id
WHERE quarantine.position > chained_from OR coalesce(chained_from, 0) = 0
ORDER BY lane, quarantine.position, quarantine_id

-- strays --
-- Claims and refunds that cannot belong to a batch: without a lane, without a position, or with a position from before
-- the chain began although they were written later (except for changes that were set aside before and retried later).
SELECT transfer_id, transfers.kind::text, from_account
FROM transfers LEFT JOIN lanes ON lane = from_account / 100000000000000 % 1000
WHERE transfers.kind IN ('claim', 'refund') AND transfer_id > (SELECT transfer_id FROM chained_after)
    AND (lane IS NULL OR transfers.position IS NULL OR transfers.position <= chained_from)
    AND NOT EXISTS (
        SELECT FROM quarantine
        WHERE packet_id = from_account AND quarantine.position = transfers.position AND resolution = 'retried'
    )
ORDER BY transfer_id

-- batch_hash --
SELECT hash FROM batches WHERE lane = $1 AND position = $2

-- transfers --
-- Entries outside batches, by paying account. `stored` null: it has no hash. `kind` null: only its hash is left.
SELECT transfer_id, transfers.kind::text, from_account, to_account, amount_fen, at_ms, transfer_hashes.hash AS stored,
    accounts.hash AS head
FROM (
    SELECT * FROM transfers
    WHERE kind NOT IN ('claim', 'refund') AND transfer_id > (SELECT transfer_id FROM chained_after)
) AS transfers
FULL JOIN transfer_hashes USING (transfer_id)
LEFT JOIN accounts ON account_id = from_account
ORDER BY from_account NULLS FIRST, transfer_id

-- heads_alone --
-- Accounts with a head of a chain, but without any of its entries.
SELECT account_id FROM accounts WHERE hash IS NOT NULL AND NOT EXISTS (
    SELECT FROM transfers WHERE from_account = account_id AND kind NOT IN ('claim', 'refund')
) ORDER BY account_id

-- last_of_bank --
SELECT transfer_id, hash FROM transfer_hashes JOIN transfers USING (transfer_id)
WHERE from_account = 1 ORDER BY transfer_id DESC LIMIT 1

-- hash_of_transfer --
SELECT hash FROM transfer_hashes WHERE transfer_id = $1
