-- The statements of `hongbao reconcile` for a day: $1 is the day's first millisecond, $2 the first after it.
-- Sums are not cast to BIGINT: the same money moves repeatedly, so a day's sum may need more than 64 bits.

-- scale --
SELECT scale FROM assets WHERE asset = $1

-- packets_page --
-- Packets that Redis may hold and that can have claims of the day. A packet's number begins with its lane's.
SELECT packet_id, asset, count FROM packets
WHERE packet_id > $3 AND created_at_ms < $2 AND (ended_at_ms IS NULL OR ended_at_ms >= $1)
ORDER BY packet_id LIMIT $4

-- claims --
-- Of some packets.
SELECT from_account AS packet_id, owner AS user_id, slot, amount_fen
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = ANY($3) AND at_ms >= $1 AND at_ms < $2

-- claims_aside --
-- Claims in quarantine that are not in the ledger.
SELECT packet_id, user_id, slot, amount_fen FROM quarantine
WHERE packet_id = ANY($3) AND kind = 'claim' AND resolution IS DISTINCT FROM 'retried' AND at_ms >= $1 AND at_ms < $2

-- batches --
-- Each batch with changes of the day, as a whole: the changes it applied (with later retries), and the ledger's entries
-- at its positions. The day's positions are those between the last one before it and the first one after it. A batch
-- without an entry of the day is returned only if the two differ.
WITH moved AS (
    SELECT (from_account / 100000000000000 % 1000)::smallint AS lane, position, kind, at_ms
    FROM transfers WHERE kind IN ('claim', 'refund')
), bounds AS (
    SELECT lane, max(position) FILTER (WHERE at_ms < $1) AS last_before, min(position) FILTER (WHERE at_ms >= $2) AS first_after
    FROM moved GROUP BY lane
), touched AS (
    SELECT lane, position, position_before, claims, refunds FROM batches JOIN bounds USING (lane)
    WHERE position > coalesce(last_before, 0) AND position_before < coalesce(first_after, 9007199254740991)
), span AS (
    SELECT lane, min(position_before) AS low, max(position) AS high FROM touched GROUP BY lane
), held AS (
    SELECT moved.lane, batch.position, count(*) FILTER (WHERE kind = 'claim') AS claims,
        count(*) FILTER (WHERE kind = 'refund') AS refunds,
        count(*) FILTER (WHERE at_ms >= $1 AND at_ms < $2) AS of_day
    FROM moved JOIN span USING (lane) CROSS JOIN LATERAL (
        SELECT batches.position FROM batches
        WHERE batches.lane = moved.lane AND batches.position >= moved.position ORDER BY batches.position LIMIT 1
    ) AS batch
    WHERE moved.position > low AND moved.position <= high GROUP BY 1, 2
), later AS (
    SELECT quarantine.lane, batch.position, count(*) FILTER (WHERE kind = 'claim') AS claims,
        count(*) FILTER (WHERE kind = 'ending' AND amount_fen > 0) AS refunds
    FROM quarantine JOIN span USING (lane) CROSS JOIN LATERAL (
        SELECT batches.position FROM batches
        WHERE batches.lane = quarantine.lane AND batches.position >= quarantine.position ORDER BY batches.position LIMIT 1
    ) AS batch
    WHERE resolution = 'retried' AND quarantine.position > low AND quarantine.position <= high GROUP BY 1, 2
)
SELECT lane, position, position_before, touched.claims + coalesce(later.claims, 0) AS claims_said,
    coalesce(held.claims, 0) AS claims_held, touched.refunds + coalesce(later.refunds, 0) AS refunds_said,
    coalesce(held.refunds, 0) AS refunds_held
FROM touched LEFT JOIN held USING (lane, position) LEFT JOIN later USING (lane, position)
WHERE of_day > 0 OR touched.claims + coalesce(later.claims, 0) <> coalesce(held.claims, 0)
    OR touched.refunds + coalesce(later.refunds, 0) <> coalesce(held.refunds, 0)
ORDER BY lane, position

-- sends --
-- The totals of packets that are of the day or were paid in it, and the payments for them: a packet has Redis's time, its
-- payment Postgres's, and midnight may be between the two.
WITH of_day AS (
    SELECT packet_id FROM packets WHERE created_at_ms >= $1 AND created_at_ms < $2
    UNION
    SELECT to_account FROM transfers WHERE kind = 'send' AND at_ms >= $1 AND at_ms < $2
), paid AS (
    SELECT to_account AS packet_id, sum(amount_fen) AS paid_fen
    FROM transfers JOIN of_day ON packet_id = to_account WHERE kind = 'send' GROUP BY 1
)
SELECT packet_id, asset, total_fen AS due_fen, paid_fen
FROM of_day LEFT JOIN packets USING (packet_id) LEFT JOIN paid USING (packet_id)

-- endings --
-- The unclaimed amounts of packets that ended that day (without write-offs), and the refunds.
SELECT packet_id, packets.asset, due_fen, paid_fen
FROM (
    SELECT packet_id, remaining_fen - coalesce((
        SELECT sum(moved_fen) FROM quarantine
        WHERE quarantine.packet_id = packets.packet_id AND kind = 'ending' AND resolution = 'written_off'
    ), 0) AS due_fen
    FROM packets WHERE ended_at_ms >= $1 AND ended_at_ms < $2 AND remaining_fen > 0
) AS ended
FULL JOIN (
    SELECT from_account AS packet_id, sum(amount_fen) AS paid_fen FROM transfers
    WHERE kind = 'refund' AND at_ms >= $1 AND at_ms < $2 GROUP BY 1
) AS returned USING (packet_id)
LEFT JOIN packets USING (packet_id)
WHERE due_fen IS DISTINCT FROM 0 OR paid_fen IS NOT NULL

-- kinds --
-- The day's entries by kind and asset (null: the ledger's currency): what left accounts of the paying kind, and what reached
-- accounts of the receiving kind. $6: whether these kinds are those of the currency.
SELECT transfers.kind::text AS kind, coalesce(payers.asset, payees.asset) AS asset,
    count(*) FILTER (WHERE payers.kind::text = payer) AS left_count,
    coalesce(sum(amount_fen) FILTER (WHERE payers.kind::text = payer), 0) AS left_fen,
    count(*) FILTER (WHERE payees.kind::text = payee) AS reached_count,
    coalesce(sum(amount_fen) FILTER (WHERE payees.kind::text = payee), 0) AS reached_fen
FROM transfers
LEFT JOIN accounts AS payers ON payers.account_id = from_account
LEFT JOIN accounts AS payees ON payees.account_id = to_account
LEFT JOIN unnest($3::text[], $4::text[], $5::text[], $6::boolean[]) AS proper (kind, payer, payee, is_currency)
    ON proper.kind = transfers.kind::text AND is_currency = (coalesce(payers.asset, payees.asset) IS NULL)
WHERE at_ms >= $1 AND at_ms < $2 GROUP BY transfers.kind, 2 ORDER BY 2 NULLS FIRST, transfers.kind

-- improper --
SELECT transfer_id, transfers.kind::text AS kind, amount_fen, from_account, payers.kind::text AS payer, to_account,
    payees.kind::text AS payee, payers.asset AS payer_asset, payees.asset AS payee_asset
FROM transfers
LEFT JOIN accounts AS payers ON payers.account_id = from_account
LEFT JOIN accounts AS payees ON payees.account_id = to_account
LEFT JOIN unnest($3::text[], $4::text[], $5::text[], $6::boolean[]) AS proper (kind, payer, payee, is_currency)
    ON proper.kind = transfers.kind::text AND is_currency = (coalesce(payers.asset, payees.asset) IS NULL)
WHERE at_ms >= $1 AND at_ms < $2 AND (
    payers.kind::text IS DISTINCT FROM payer OR payees.kind::text IS DISTINCT FROM payee
    OR payers.asset IS DISTINCT FROM payees.asset
)
ORDER BY transfer_id

-- balances --
-- Each account that moved that day: its balance, and the sum of all its entries.
WITH moved AS (
    SELECT from_account AS account_id FROM transfers WHERE at_ms >= $1 AND at_ms < $2
    UNION
    SELECT to_account FROM transfers WHERE at_ms >= $1 AND at_ms < $2
), sums AS (
    SELECT account_id, sum(fen) AS fen FROM (
        SELECT to_account AS account_id, amount_fen AS fen FROM transfers
        UNION ALL
        SELECT from_account, -amount_fen FROM transfers
    ) AS movements GROUP BY account_id
)
SELECT account_id, kind::text, owner, asset, balance_fen, fen AS transfers_fen
FROM moved JOIN sums USING (account_id) LEFT JOIN accounts USING (account_id) ORDER BY account_id

-- wallets --
-- Users' accounts that moved that day.
SELECT account_id, owner, asset FROM accounts WHERE kind IN ('wallet', 'holding') AND account_id IN (
    SELECT from_account FROM transfers WHERE at_ms >= $1 AND at_ms < $2
    UNION
    SELECT to_account FROM transfers WHERE at_ms >= $1 AND at_ms < $2
)

-- wallet_kinds --
-- What went into and out of all users' accounts that day, by the days of statements: an account's day begins with its first
-- entry that has the day's time or a later one.
WITH entries AS (
    SELECT to_account AS wallet, asset, transfer_id, transfers.kind::text || ' in' AS kind, amount_fen, at_ms
    FROM transfers JOIN accounts ON account_id = to_account WHERE accounts.kind IN ('wallet', 'holding')
    UNION ALL
    SELECT from_account, asset, transfer_id, transfers.kind::text || ' out', amount_fen, at_ms
    FROM transfers JOIN accounts ON account_id = from_account WHERE accounts.kind IN ('wallet', 'holding')
), borders AS (
    SELECT wallet, min(transfer_id) AS first, min(transfer_id) FILTER (WHERE at_ms >= $2) AS after
    FROM entries WHERE at_ms >= $1 GROUP BY wallet
)
SELECT kind, asset, count(*), sum(amount_fen) AS fen FROM entries JOIN borders USING (wallet)
WHERE transfer_id >= first AND (after IS NULL OR transfer_id < after)
GROUP BY kind, asset ORDER BY asset NULLS FIRST, kind

-- withdrawals --
SELECT withdrawal_id, amount_fen, bank_account, state, asked_at_ms FROM withdrawals
WHERE asked_at_ms >= $1 AND asked_at_ms < $2 ORDER BY withdrawal_id
