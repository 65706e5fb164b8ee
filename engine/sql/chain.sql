-- The rows for the audit of the hash chains (engine/ledger/chain.py), each in the order of the chains.

-- lanes --
SELECT lane, position, chained_from, hash FROM lanes ORDER BY lane

-- lanes_of_batches --
-- Which lanes have batches, by one look into the index each.
WITH RECURSIVE found AS (
    SELECT min(lane) AS lane FROM batches
    UNION ALL
    SELECT (SELECT min(lane) FROM batches WHERE lane > found.lane) FROM found WHERE lane IS NOT NULL
)
SELECT lane FROM found WHERE lane IS NOT NULL

-- batches --
-- Here and below: of the lanes $1, after the positions $2, up to the positions $3.
SELECT batches.lane, position, position_before, opened, claims, closed, refunds, quarantined, hash
FROM batches JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
    ON batches.lane = walked.lane AND position > after AND position <= up_to
ORDER BY batches.lane, position

-- claims --
-- As the persister copies them (claim_rows.COLUMNS). A packet's number names its lane. Entries that a retry wrote after the
-- end of the part of history are found through their rows in quarantine.
SELECT kind, from_account, to_account, amount_fen, at_ms, coalesce(slot, -1), position FROM (
    SELECT lane, kind, from_account, to_account, amount_fen, at_ms, slot, position
    FROM transfers JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
        ON lane = from_account / 100000000000000 % 1000
    WHERE kind = 'claim' AND transfer_id > $4::bigint AND transfer_id <= $5::bigint
        AND position > after AND position <= up_to
    UNION ALL
    SELECT quarantine.lane, transfers.kind, from_account, to_account, transfers.amount_fen, transfers.at_ms,
        transfers.slot, transfers.position
    FROM quarantine JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
        ON quarantine.lane = walked.lane AND position > after AND position <= up_to
    JOIN transfers ON from_account = packet_id AND transfers.slot = quarantine.slot
        AND transfers.position = quarantine.position
    WHERE resolution = 'retried' AND transfers.kind = 'claim' AND transfer_id > $5::bigint
) AS found
ORDER BY lane, position

-- refunds --
SELECT lane, position, from_account, to_account, amount_fen, at_ms FROM (
    SELECT lane, transfer_id, position, from_account, to_account, amount_fen, at_ms
    FROM transfers JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
        ON lane = from_account / 100000000000000 % 1000
    WHERE kind = 'refund' AND transfer_id > $4 AND transfer_id <= $5 AND position > after AND position <= up_to
    UNION ALL
    SELECT quarantine.lane, transfer_id, transfers.position, from_account, to_account, transfers.amount_fen,
        transfers.at_ms
    FROM quarantine JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
        ON quarantine.lane = walked.lane AND position > after AND position <= up_to
    JOIN transfers ON from_account = packet_id AND transfers.position = quarantine.position
    WHERE resolution = 'retried' AND transfers.kind = 'refund' AND transfer_id > $5
) AS found
ORDER BY lane, position, transfer_id

-- asides --
-- $4: also those of lanes that are not there.
SELECT quarantine.lane, position, packet_id, quarantine.kind, user_id, slot, amount_fen, at_ms, reason, quarantine.state,
    quarantine.remaining_count, resolution, account_id
FROM quarantine
LEFT JOIN unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS walked (lane, after, up_to)
    ON quarantine.lane = walked.lane
LEFT JOIN packets USING (packet_id)
LEFT JOIN LATERAL (
    SELECT account_id FROM accounts WHERE packets.asset IS NULL AND kind = 'wallet' AND owner = user_id
    UNION ALL
    SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = user_id AND accounts.asset = packets.asset
) AS account ON TRUE
WHERE (position > after OR after = 0) AND position <= up_to
    OR $4 AND NOT EXISTS (SELECT FROM lanes WHERE lanes.lane = quarantine.lane)
ORDER BY quarantine.lane, position, quarantine_id

-- strays --
-- Claims and refunds that cannot belong to a batch: without a lane, without a position, or with a position from before
-- this part of history although they were written later (except for changes that were set aside before and retried later).
-- After $3 up to $5 an entry may be of this part; after $4 it is of no earlier one.
SELECT transfer_id, transfers.kind::text, from_account
FROM transfers LEFT JOIN unnest($1::smallint[], $2::bigint[]) AS walked (lane, after)
    ON lane = from_account / 100000000000000 % 1000
WHERE transfers.kind IN ('claim', 'refund')
    AND transfer_id > greatest($3::bigint, (SELECT transfer_id FROM chained_after)) AND transfer_id <= $5::bigint
    AND (lane IS NULL OR transfers.position IS NULL OR transfers.position <= after AND transfer_id > $4::bigint)
    AND NOT EXISTS (
        SELECT FROM quarantine
        WHERE packet_id = from_account AND quarantine.position = transfers.position AND resolution = 'retried' AND (
            quarantine.kind = 'claim' AND transfers.kind = 'claim' AND quarantine.slot = transfers.slot
            OR quarantine.kind = 'ending' AND transfers.kind = 'refund' AND quarantine.amount_fen = transfers.amount_fen
        )
    )
ORDER BY transfer_id

-- not_retried --
-- Changes from before this part of history that count as retried, and are not in the ledger as they were set aside.
SELECT lane, position FROM quarantine
JOIN unnest($1::smallint[], $2::bigint[]) AS walked (lane, after) USING (lane)
LEFT JOIN packets USING (packet_id)
LEFT JOIN LATERAL (
    SELECT account_id FROM accounts WHERE packets.asset IS NULL AND kind = 'wallet' AND owner = user_id
    UNION ALL
    SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = user_id AND accounts.asset = packets.asset
) AS account ON TRUE
WHERE resolution = 'retried' AND position <= after AND (
    quarantine.kind = 'claim' AND NOT EXISTS (
        SELECT FROM transfers
        WHERE kind = 'claim' AND from_account = packet_id AND slot = quarantine.slot
            AND (position, to_account, amount_fen, at_ms)
                = (quarantine.position, account_id, quarantine.amount_fen, quarantine.at_ms)
    )
    OR quarantine.kind = 'ending' AND amount_fen > 0 AND NOT EXISTS (
        SELECT FROM transfers
        WHERE kind = 'refund' AND from_account = packet_id
            AND (position, amount_fen) = (quarantine.position, quarantine.amount_fen)
    )
)
ORDER BY lane, position

-- batch_hash --
SELECT hash FROM batches WHERE lane = $1 AND position = $2

-- transfers --
-- Entries outside batches, by paying account: those after $1, where each chain was as audited_balances says ($1 0: where
-- it begins). `stored` null: it has no hash. `kind` null: only its hash is left.
SELECT transfer_id, transfers.kind::text, from_account, to_account, amount_fen, at_ms, transfer_hashes.hash AS stored,
    accounts.hash AS head, TRUE AS is_last, audited.hash AS before
FROM (
    SELECT * FROM transfers
    WHERE kind <> 'claim' AND kind <> 'refund'
        AND transfer_id > greatest($1::bigint, (SELECT transfer_id FROM chained_after))
) AS transfers
FULL JOIN (SELECT * FROM transfer_hashes WHERE transfer_id > $1) AS transfer_hashes USING (transfer_id)
LEFT JOIN accounts ON account_id = from_account
LEFT JOIN (SELECT * FROM audited_balances WHERE $1 > 0) AS audited ON audited.account_id = from_account
ORDER BY from_account NULLS FIRST, transfer_id

-- transfers_between --
-- The same between $1 and $2. The chain was where the account's last entry before has left it. `is_last`: none comes later.
WITH between AS MATERIALIZED (
    SELECT * FROM transfers
    WHERE kind <> 'claim' AND kind <> 'refund' AND transfer_id <= $2
        AND transfer_id > greatest($1::bigint, (SELECT transfer_id FROM chained_after))
), payers AS MATERIALIZED (
    SELECT payer, (
        SELECT hash FROM transfers JOIN transfer_hashes USING (transfer_id)
        WHERE from_account = payer AND kind <> 'claim' AND kind <> 'refund' AND transfer_id <= $1
        ORDER BY transfer_id DESC LIMIT 1
    ) AS before, NOT EXISTS (
        SELECT FROM transfers
        WHERE from_account = payer AND kind <> 'claim' AND kind <> 'refund' AND transfer_id > $2
    ) AS is_last
    FROM (SELECT DISTINCT from_account AS payer FROM between) AS payers
)
SELECT transfer_id, between.kind::text, from_account, to_account, amount_fen, at_ms, transfer_hashes.hash AS stored,
    accounts.hash AS head, coalesce(is_last, TRUE) AS is_last, before
FROM between
FULL JOIN (SELECT * FROM transfer_hashes WHERE transfer_id > $1 AND transfer_id <= $2) AS transfer_hashes
    USING (transfer_id)
LEFT JOIN payers ON payer = from_account
LEFT JOIN accounts ON account_id = from_account
ORDER BY from_account NULLS FIRST, transfer_id

-- heads_alone --
-- Accounts with a head of a chain, but without any of its entries.
SELECT account_id FROM accounts WHERE hash IS NOT NULL AND NOT EXISTS (
    SELECT FROM transfers WHERE from_account = account_id AND kind NOT IN ('claim', 'refund')
) ORDER BY account_id

-- heads_moved --
-- Accounts with another head than at the last audit, although nothing was paid from them after $1 outside batches.
SELECT account_id FROM accounts FULL JOIN audited_balances USING (account_id)
WHERE accounts.hash IS DISTINCT FROM audited_balances.hash AND NOT EXISTS (
    SELECT FROM transfers
    WHERE from_account = account_id AND kind <> 'claim' AND kind <> 'refund' AND transfer_id > $1
) ORDER BY account_id

-- last_of_bank --
SELECT transfer_id, hash FROM transfer_hashes JOIN transfers USING (transfer_id)
WHERE from_account = 1 ORDER BY transfer_id DESC LIMIT 1

-- hash_of_transfer --
SELECT hash FROM transfer_hashes WHERE transfer_id = $1

-- last_of_log --
SELECT number, hash FROM operator_log ORDER BY number DESC LIMIT 1

-- hash_of_log_row --
SELECT hash FROM operator_log WHERE number = $1
