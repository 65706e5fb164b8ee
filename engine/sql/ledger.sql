-- The persister's statements, in the order in which one transaction runs them.

-- lock_lane --
SELECT position, hash FROM lanes WHERE lane = $1 AND ($2::text IS NULL OR epoch || '@' || run_id = $2) FOR UPDATE

-- wallets --
SELECT owner, account_id FROM accounts WHERE kind = 'wallet' AND owner = ANY ($1::text[])

-- create_wallets --
INSERT INTO accounts (account_id, kind, owner)
SELECT nextval('wallet_ids'), 'wallet', owner FROM unnest($1::text[]) AS owner ORDER BY owner COLLATE "C"
ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING
RETURNING owner, account_id

-- assets --
SELECT packet_id, asset FROM packets WHERE packet_id = ANY ($1::bigint[])

-- holdings --
SELECT owner, account_id FROM accounts WHERE kind = 'holding' AND asset = $2 AND owner = ANY ($1::text[])

-- create_holdings --
INSERT INTO accounts (account_id, kind, owner, asset)
SELECT nextval('wallet_ids'), 'holding', owner, $2 FROM unnest($1::text[]) AS owner ORDER BY owner COLLATE "C"
ON CONFLICT (owner, asset) WHERE kind = 'holding' DO NOTHING
RETURNING owner, account_id

-- senders --
-- Each by itself. In a join, Postgres would collect all wallets first, if its statistics say that there are few.
SELECT packet_id, CASE
    WHEN asset IS NULL THEN (SELECT account_id FROM accounts WHERE owner = sender AND kind = 'wallet')
    ELSE (SELECT account_id FROM accounts WHERE owner = sender AND kind = 'holding' AND accounts.asset = packets.asset)
END AS account_id
FROM packets WHERE packet_id = ANY ($1::bigint[])

-- move_balances --
-- Accounts come in the order of their ids and, on the persister's connection (PLANNED), are locked in that order, so that
-- two lanes that pay the same wallets do not deadlock. They come as text: Postgres parses it faster than the client can
-- make arrays of tens of thousands of numbers.
UPDATE accounts SET balance_fen = balance_fen + delta_fen
FROM unnest($1::text::bigint[], $2::text::bigint[]) AS change (account_id, delta_fen)
WHERE accounts.account_id = change.account_id

-- open_packets --
UPDATE packets SET state = 'open' WHERE packet_id = ANY ($1::bigint[]) AND state = 'funded'

-- end_packets --
-- One whose custody is empty is settled as well: the claims and refunds of the same transaction come before.
-- The state is compared with a value of the batch's row. If it were compared with a constant, Postgres would look for all
-- packets that are open, if its statistics say that there are few, and compare each with each packet of the batch.
UPDATE packets
SET state = ended.state::packet_state, remaining_count = ended.remaining_count, remaining_fen = ended.remaining_fen,
    ended_at_ms = ended.at_ms,
    settled_at_ms = CASE WHEN balance_fen = 0 THEN floor(extract(epoch FROM clock_timestamp()) * 1000) END
FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[])
    AS ended (packet_id, state, remaining_count, remaining_fen, at_ms)
JOIN accounts ON account_id = ended.packet_id
WHERE packets.packet_id = ended.packet_id
    AND packets.state = CASE WHEN ended.packet_id IS NOT NULL THEN 'open'::packet_state END

-- uncount_packets --
-- A retracted packet no longer counts in its day of sending (China's). The next sending counts that day again: not all
-- sendings are counted, so nothing may be subtracted (limits.sql). The refund has locked the sender's wallet, and a
-- sending locks it before it counts. So nothing of the sender's is counted meanwhile.
DELETE FROM day_totals USING packets
WHERE packet_id = ANY ($1::bigint[]) AND subject = ANY (ARRAY['user:' || sender, 'label:' || label])
    AND day = DATE '1970-01-01' + ((created_at_ms + 28800000) / 86400000)::integer

-- give_coupons --
-- The coupons that shares are, written with their claims: each has one row for good.
INSERT INTO coupons (batch_id, number, holder, packet_id, given_at_ms)
SELECT batch_id, first_number + slot - first_slot, user_id, claim.packet_id, at_ms
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[]) AS claim (packet_id, slot, user_id, at_ms)
CROSS JOIN LATERAL (
    SELECT batch_id, first_slot, first_number FROM coupon_ranges
    WHERE coupon_ranges.packet_id = claim.packet_id AND first_slot <= slot ORDER BY first_slot DESC LIMIT 1
) AS ranges

-- free_coupons --
SELECT free_coupons(packet_id, shares_left) FROM unnest($1::bigint[], $2::integer[]) AS ended (packet_id, shares_left)

-- set_aside --
INSERT INTO quarantine (lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason, state, remaining_count)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- record_batch --
INSERT INTO batches (lane, position, position_before, opened, claims, closed, refunds, quarantined, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- move_checkpoint --
-- The notice goes out with the commit, to processes that wait for it before they acknowledge claims.
WITH moved AS (UPDATE lanes SET position = $2, hash = $3 WHERE lane = $1 RETURNING lane, position, epoch, run_id)
SELECT pg_notify('hongbao_applied', lane || ':' || position || ':' || epoch || '@' || run_id) FROM moved
