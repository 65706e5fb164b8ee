-- Fund-raising (engine/fundraising/). Whoever moves money of a fund locks wallets first, in the order of their ids, then the
-- fundraiser's row, then funds (move_money). So nobody waits for a wallet while others wait for what he has locked.

-- open_of_owner --
SELECT count(*) FROM fundraisers WHERE owner = $1 AND state = 'open'

-- add --
WITH account AS (
    INSERT INTO accounts (account_id, kind) VALUES (nextval('wallet_ids'), 'fund') RETURNING account_id
)
INSERT INTO fundraisers (owner, beneficiary, title, story, goal_fen, mode, account_id, created_at_ms, ends_at_ms)
SELECT $1, $2, $3, $4, $5, $6, account_id, $7, $8 FROM account
RETURNING fundraiser_id

-- fundraiser --
SELECT fundraiser_id, owner, beneficiary, title, story, goal_fen, mode, created_at_ms, ends_at_ms, is_ended_early, state,
    gift_count, given_fen, matched_fen, returned_count, returned_fen, decided_at_ms, settled_at_ms,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM fundraisers WHERE fundraiser_id = $1

-- of_owner --
SELECT fundraiser_id, owner, title, goal_fen, given_fen, matched_fen, state, ends_at_ms, created_at_ms,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM fundraisers
WHERE ($1::text IS NULL OR owner = $1) AND fundraiser_id < $2 ORDER BY fundraiser_id DESC LIMIT $3

-- lock --
-- Who waits for a row that changes again and again may be overtaken for seconds. So they stand in a queue before it (lock 7318).
-- The clock is that of after the wait: a part of a statement by itself is done before what needs it.
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(7318, ($1::bigint % 2147483647)::integer)
), locked AS MATERIALIZED (
    SELECT beneficiary, account_id, state, ends_at_ms, given_fen, matched_fen, match_count
    FROM turn, fundraisers WHERE fundraiser_id = $1 FOR UPDATE OF fundraisers
)
SELECT *, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms FROM locked

-- lock_wallets --
SELECT owner, account_id FROM accounts WHERE kind = 'wallet' AND owner = ANY ($1::text[]) ORDER BY account_id FOR UPDATE

-- share --
-- A user's share of a packet.
SELECT transfers.amount_fen, packets.asset FROM transfers JOIN packets ON packet_id = from_account
WHERE transfers.kind = 'claim' AND from_account = $1
    AND to_account = (
        SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $2 AND packets.asset IS NULL
        UNION ALL
        SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = $2 AND accounts.asset = packets.asset
    )

-- is_given_on --
SELECT EXISTS (SELECT FROM fundraiser_gifts WHERE packet_id = $1 AND giver = $2)

-- give --
-- Move a gift from the wallet $9 to the fund $10 and record it, in one statement, because everybody who gives waits for it. No
-- row: the wallet holds too little.
WITH moved AS MATERIALIZED (
    SELECT move_money('gift', $9, $10, $3, $8) AS transfer_id
), counted AS (
    UPDATE fundraisers
    SET gift_count = gift_count + 1, given_fen = given_fen + $3::bigint, matched_fen = matched_fen + $4::bigint
    FROM moved WHERE fundraiser_id = $1 AND transfer_id IS NOT NULL
)
INSERT INTO fundraiser_gifts (fundraiser_id, giver, amount_fen, matched_fen, is_anonymous, message, packet_id, given_at_ms,
    transfer_id)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, transfer_id FROM moved WHERE transfer_id IS NOT NULL
RETURNING gift_id, transfer_id

-- merchant_kind --
SELECT coalesce((SELECT kind FROM profiles WHERE user_id = $1), 'person')

-- new_fund --
INSERT INTO accounts (account_id, kind) VALUES (nextval('wallet_ids'), 'fund') RETURNING account_id

-- add_match --
WITH counted AS (UPDATE fundraisers SET match_count = match_count + 1 WHERE fundraiser_id = $1)
INSERT INTO fundraiser_matches (fundraiser_id, merchant, percent, budget_fen, account_id, created_at_ms, transfer_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING match_id

-- matches --
SELECT match_id, merchant, percent, budget_fen, matched_fen, account_id, created_at_ms
FROM fundraiser_matches WHERE fundraiser_id = $1 ORDER BY match_id

-- count_matched --
UPDATE fundraiser_matches SET matched_fen = matched_fen + $2 WHERE match_id = $1

-- end --
UPDATE fundraisers SET ends_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000), is_ended_early = TRUE
WHERE fundraiser_id = $1 AND state = 'open' AND ends_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)

-- to_decide --
SELECT fundraiser_id FROM fundraisers
WHERE state = 'open' AND ends_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)
ORDER BY ends_at_ms LIMIT $1

-- decide --
-- One row: a gift that is being given has locked it, and is in the sums by then or was refused.
UPDATE fundraisers
SET state = CASE WHEN mode = 'keep_what_comes' OR given_fen + matched_fen >= goal_fen THEN 'paying' ELSE 'returning' END,
    decided_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)
WHERE fundraiser_id = $1 AND state = 'open' AND ends_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)
RETURNING state

-- to_settle --
SELECT fundraiser_id, state FROM fundraisers
WHERE state IN ('paying', 'returning') AND fundraiser_id > $1 ORDER BY fundraiser_id LIMIT $2

-- parties --
-- Whom the end of a fundraiser pays besides givers: that never changes after it was decided.
SELECT beneficiary AS owner FROM fundraisers WHERE fundraiser_id = $1
UNION
SELECT merchant FROM fundraiser_matches WHERE fundraiser_id = $1

-- set_paid_out --
UPDATE fundraisers SET state = 'paid_out', payout_transfer_id = $2, settled_at_ms = $3 WHERE fundraiser_id = $1

-- end_match --
UPDATE fundraiser_matches SET rest_transfer_id = $2, matched_transfer_id = $3 WHERE match_id = $1

-- gifts_to_return --
-- Those that another sweeper returns at this moment are left to it.
SELECT gift_id, giver, amount_fen FROM fundraiser_gifts
WHERE fundraiser_id = $1 AND return_transfer_id IS NULL ORDER BY gift_id LIMIT $2 FOR UPDATE SKIP LOCKED

-- return_gifts --
UPDATE fundraiser_gifts SET return_transfer_id = move_money('gift_return', $2, due.account_id, amount_fen, $3)
FROM unnest($1::bigint[], $4::bigint[]) AS due (gift_id, account_id)
WHERE fundraiser_gifts.gift_id = due.gift_id AND return_transfer_id IS NULL
RETURNING fundraiser_gifts.amount_fen, return_transfer_id

-- count_returned --
UPDATE fundraisers SET returned_count = returned_count + $2, returned_fen = returned_fen + $3 WHERE fundraiser_id = $1

-- are_all_returned --
SELECT NOT EXISTS (SELECT FROM fundraiser_gifts WHERE fundraiser_id = $1 AND return_transfer_id IS NULL)

-- set_returned --
UPDATE fundraisers SET state = 'returned', settled_at_ms = $2 WHERE fundraiser_id = $1

-- gifts --
SELECT gift_id, giver, amount_fen, fundraiser_gifts.matched_fen, is_anonymous, message, given_at_ms, return_transfer_id, state
FROM fundraiser_gifts JOIN fundraisers USING (fundraiser_id)
WHERE fundraiser_id = $1 AND gift_id < $2 ORDER BY gift_id DESC LIMIT $3

-- gift --
SELECT gift_id, fundraiser_id, giver, amount_fen, fundraiser_gifts.matched_fen, is_anonymous, message, packet_id, given_at_ms,
    transfer_id, return_transfer_id, title, beneficiary, mode, state, settled_at_ms, payout_transfer_id
FROM fundraiser_gifts JOIN fundraisers USING (fundraiser_id)
WHERE fundraiser_id = $1 AND gift_id = $2

-- entries --
-- Wallets and funds pay in the first of the ledger's volumes.
SELECT transfer_id::text, kind::text, amount_fen, at_ms FROM transfers
WHERE transfer_id = ANY ($1::bigint[]) AND from_account < 1100000000000000000 ORDER BY transfers.transfer_id
