-- sum_of_balances --
-- Of each asset (null: the ledger's currency). As text, like every sum here: in wrong books it may need more than 64 bits.
SELECT asset, sum(balance_fen)::text AS fen FROM accounts GROUP BY asset ORDER BY asset NULLS FIRST

-- has_assets --
SELECT EXISTS (SELECT FROM accounts WHERE asset IS NOT NULL)

-- entries --
-- Here and below: after $1, or after $2 up to $3.
SELECT count(*) FROM transfers WHERE transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3

-- between_assets --
-- Entries between accounts of two assets. Few accounts have one, so they are remembered while the entries are read once.
WITH of_assets AS MATERIALIZED (SELECT account_id, asset FROM accounts WHERE asset IS NOT NULL)
SELECT transfer_id, kind::text, payers.asset AS paid, payees.asset AS received
FROM transfers
LEFT JOIN of_assets AS payers ON payers.account_id = from_account
LEFT JOIN of_assets AS payees ON payees.account_id = to_account
WHERE payers.asset IS DISTINCT FROM payees.asset
    AND (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
ORDER BY transfer_id

-- wrong_custodies --
-- Packets whose custody holds another asset than they promise.
SELECT packet_id, packets.asset AS promised, accounts.asset AS held
FROM packets JOIN accounts ON account_id = packet_id
WHERE packets.asset IS DISTINCT FROM accounts.asset ORDER BY packet_id

-- wrong_balances --
-- Every account whose balance is not the sum of its entries, and every account that is only named in entries. $1: the sums
-- up to there are in audited_balances (0: they are not).
WITH movements AS (
    SELECT to_account AS account_id, amount_fen AS fen FROM transfers WHERE transfer_id > $1::bigint
    UNION ALL
    SELECT from_account, -amount_fen FROM transfers WHERE transfer_id > $1::bigint
    UNION ALL
    SELECT account_id, balance_fen FROM audited_balances WHERE $1::bigint > 0
), sums AS (
    SELECT account_id, sum(fen) AS fen FROM movements GROUP BY account_id
)
SELECT account_id, kind::text, owner, asset, balance_fen, coalesce(fen, 0)::text AS transfers_fen
FROM accounts FULL JOIN sums USING (account_id)
WHERE balance_fen IS DISTINCT FROM coalesce(fen, 0)
ORDER BY account_id

-- accounts --
SELECT count(*) FROM accounts

-- packets_changed --
-- The packets that entries after $1 up to $2 are about. And if $3 is given: those that are not settled or wait in
-- quarantine, or did until then.
SELECT from_account AS packet_id FROM transfers
WHERE transfer_id > $1 AND transfer_id <= $2 AND kind IN ('claim', 'refund', 'write_off')
UNION
SELECT to_account FROM transfers WHERE transfer_id > $1 AND transfer_id <= $2 AND kind = 'send'
UNION
SELECT packet_id FROM packets WHERE $3::bigint IS NOT NULL AND (settled_at_ms IS NULL OR settled_at_ms > $3)
UNION
SELECT packet_id FROM quarantine
WHERE $3::bigint IS NOT NULL AND packet_id IS NOT NULL AND (resolution IS NULL OR resolved_at_ms > $3)

-- packets --
-- Each packet with the money that the ledger moved in and out. $1: only these (null: all). Claims are summed apart, for
-- their index.
SELECT packet_id, state::text, split, total_fen, packets.count, min_fen, max_fen, seed, commitment, remaining_count,
    remaining_fen, settled_at_ms, balance_fen AS custody_fen,
    coalesce(sent.fen, 0) AS sent_fen,
    coalesce(claimed.claims, 0) AS claims, coalesce(claimed.fen, 0) AS claimed_fen,
    coalesce(back.refunds, 0) AS refunds, coalesce(back.refunded_fen, 0) AS refunded_fen,
    coalesce(back.written_off_fen, 0) AS written_off_fen,
    coalesce(aside.claims_written_off, 0) AS claims_written_off, coalesce(aside.open, 0) AS quarantined,
    coalesce(aside.rest_written_off_fen, 0) AS rest_written_off_fen
FROM packets
LEFT JOIN accounts ON account_id = packet_id AND kind = 'custody'
LEFT JOIN (
    SELECT to_account, sum(amount_fen) AS fen FROM transfers
    WHERE kind = 'send' AND ($1::bigint[] IS NULL OR to_account = ANY ($1)) GROUP BY to_account
) AS sent ON sent.to_account = packet_id
LEFT JOIN (
    SELECT from_account, count(*) AS claims, sum(amount_fen) AS fen FROM transfers
    WHERE kind = 'claim' AND ($1::bigint[] IS NULL OR from_account = ANY ($1)) GROUP BY from_account
) AS claimed ON claimed.from_account = packet_id
LEFT JOIN (
    SELECT from_account,
        count(*) FILTER (WHERE kind = 'refund') AS refunds, sum(amount_fen) FILTER (WHERE kind = 'refund') AS refunded_fen,
        sum(amount_fen) FILTER (WHERE kind = 'write_off') AS written_off_fen
    FROM transfers
    WHERE kind <> 'claim' AND kind IN ('refund', 'write_off') AND ($1::bigint[] IS NULL OR from_account = ANY ($1))
    GROUP BY from_account
) AS back ON back.from_account = packet_id
LEFT JOIN (
    SELECT packet_id, count(*) FILTER (WHERE resolution IS NULL) AS open,
        count(*) FILTER (WHERE kind = 'claim' AND resolution = 'written_off') AS claims_written_off,
        sum(moved_fen) FILTER (WHERE kind = 'ending' AND resolution = 'written_off') AS rest_written_off_fen
    FROM quarantine GROUP BY packet_id
) AS aside USING (packet_id)
WHERE $1::bigint[] IS NULL OR packet_id = ANY ($1)
ORDER BY packet_id

-- packets_in_redis --
-- What each packet promised. $1: without those settled before (null: all).
SELECT packet_id, state::text, split, total_fen, count, min_fen, max_fen, seed FROM packets
WHERE $1::bigint IS NULL OR settled_at_ms IS NULL OR settled_at_ms >= $1

-- users_twice --
-- Here and below: of the packets $1 (null: all).
SELECT from_account AS packet_id, owner, count(*) AS claims
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND ($1::bigint[] IS NULL OR from_account = ANY ($1))
GROUP BY from_account, owner HAVING count(*) > 1

-- slots_twice --
SELECT from_account AS packet_id, slot, count(*) AS claims
FROM transfers WHERE kind = 'claim' AND ($1::bigint[] IS NULL OR from_account = ANY ($1))
GROUP BY from_account, slot HAVING count(*) > 1

-- claims_of_many --
SELECT from_account AS packet_id, owner AS user_id, slot, amount_fen
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = ANY($1)

-- lanes --
-- Each lane with the changes that its batches, and later retries of set-aside ones, have applied; and with the ledger's
-- entries for them. A packet's number names its lane. Of the lanes $1, batches and entries after the positions $2 (below
-- zero: all) are counted, as far as they are after the entry $5. Packets are counted as a whole: $3 and $4 say how many
-- earlier batches opened and closed.
WITH walked AS MATERIALIZED (
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS walked (lane, after, opened, closed)
)
SELECT lanes.lane, lanes.position,
    coalesce(said.claims, 0) + coalesce(later.claims, 0) AS claims_said, coalesce(held.claims, 0) AS claims_held,
    coalesce(said.refunds, 0) + coalesce(later.refunds, 0) AS refunds_said, coalesce(held.refunds, 0) AS refunds_held,
    walked.opened + coalesce(said.opened, 0) + coalesce(later.opened, 0) AS opened_said,
    coalesce(packets.opened, 0) AS opened_held,
    walked.closed + coalesce(said.closed, 0) + coalesce(later.closed, 0) AS closed_said,
    coalesce(packets.closed, 0) AS closed_held,
    walked.opened + coalesce(said.opened, 0) AS opened, walked.closed + coalesce(said.closed, 0) AS closed, lanes.hash
FROM lanes JOIN walked USING (lane)
LEFT JOIN (
    SELECT lane, count(*) FILTER (WHERE kind = 'claim' AND position > after) AS claims,
        count(*) FILTER (WHERE kind = 'opening') AS opened,
        count(*) FILTER (
            WHERE kind = 'ending' AND amount_fen > 0 AND resolution = 'retried' AND position > after
        ) AS refunds,
        count(*) FILTER (WHERE kind = 'ending' AND state <> 'exhausted') AS closed
    FROM quarantine JOIN walked USING (lane) WHERE took_effect GROUP BY lane
) AS later USING (lane)
LEFT JOIN (
    SELECT batches.lane, sum(claims) AS claims, sum(refunds) AS refunds, sum(batches.opened) AS opened,
        sum(batches.closed) AS closed
    FROM batches JOIN walked ON batches.lane = walked.lane AND position > after GROUP BY batches.lane
) AS said USING (lane)
LEFT JOIN (
    SELECT lane, count(*) FILTER (WHERE kind = 'claim') AS claims, count(*) FILTER (WHERE kind = 'refund') AS refunds
    FROM transfers JOIN walked ON lane = from_account / 100000000000000 % 1000
    WHERE kind IN ('claim', 'refund') AND transfer_id > $5 AND (position > after OR after < 0) GROUP BY 1
) AS held USING (lane)
LEFT JOIN (
    SELECT (packet_id / 100000000000000 % 1000)::smallint AS lane,
        count(*) FILTER (WHERE state <> 'funded') AS opened,
        count(*) FILTER (WHERE state IN ('expired', 'retracted')) AS closed
    FROM packets GROUP BY 1
) AS packets USING (lane)
ORDER BY lane

-- batch_gaps --
-- Batches with a gap to the one before, and checkpoints without a batch that leads up to them. Of the lanes $1, after the
-- positions $2.
WITH walked AS MATERIALIZED (SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS walked (lane, after))
SELECT lane, position, position_before, previous FROM (
    SELECT batches.lane, position, position_before,
        coalesce(lag(position) OVER (PARTITION BY batches.lane ORDER BY position), greatest(after, 0)) AS previous
    FROM batches JOIN walked ON batches.lane = walked.lane AND position > after
) AS joined WHERE position_before <> previous
UNION ALL
SELECT lanes.lane, lanes.position, lanes.position, coalesce(max(batches.position), greatest(after, 0))
FROM lanes JOIN walked USING (lane) LEFT JOIN batches ON batches.lane = lanes.lane AND batches.position > after
GROUP BY lanes.lane, lanes.position, after
HAVING lanes.position <> coalesce(max(batches.position), greatest(after, 0))
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
-- Here and below: with entries after $1, or after $2 up to $3, or still processed.
SELECT count(*) FROM withdrawals
WHERE state = 'processing' OR transfer_id > $1 OR end_transfer_id > $1 OR fee_transfer_id > $1
    OR transfer_id > $2 AND transfer_id <= $3 OR end_transfer_id > $2 AND end_transfer_id <= $3

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
    WHERE is_wanted AND (
        state = 'processing' OR withdrawals.transfer_id > $1 OR end_transfer_id > $1 OR fee_transfer_id > $1
        OR withdrawals.transfer_id > $2 AND withdrawals.transfer_id <= $3
        OR end_transfer_id > $2 AND end_transfer_id <= $3
    )
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
WHERE (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
    AND NOT EXISTS (SELECT FROM withdrawals WHERE withdrawals.transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM withdrawals WHERE end_transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM withdrawals WHERE fee_transfer_id = moved.transfer_id)
ORDER BY transfer_id

-- fundraisers --
-- Fundraisers with entries after $1, or after $2 up to $3, and those that are not settled; with the sums of their gifts and
-- matches, and what their funds hold.
WITH looked AS (
    SELECT fundraiser_id FROM fundraisers WHERE settled_at_ms IS NULL OR $1::bigint < 0
        OR payout_transfer_id > $1 OR payout_transfer_id > $2 AND payout_transfer_id <= $3
    UNION
    SELECT fundraiser_id FROM fundraiser_gifts
    WHERE transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3
        OR return_transfer_id > $1 OR return_transfer_id > $2 AND return_transfer_id <= $3
    UNION
    SELECT fundraiser_id FROM fundraiser_matches
    WHERE transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3
        OR rest_transfer_id > $1 OR rest_transfer_id > $2 AND rest_transfer_id <= $3
        OR matched_transfer_id > $1 OR matched_transfer_id > $2 AND matched_transfer_id <= $3
)
SELECT fundraiser_id, fundraisers.state, gift_count, given_fen, matched_fen, returned_count, returned_fen,
    coalesce(gifts.count, 0) AS gifts, coalesce(gifts.fen, 0) AS gifts_fen, coalesce(gifts.matched, 0) AS gifts_matched_fen,
    coalesce(gifts.returned, 0) AS returned, coalesce(gifts.back_fen, 0) AS back_fen,
    coalesce(matches.fen, 0) AS matches_fen, accounts.balance_fen AS held_fen
FROM looked JOIN fundraisers USING (fundraiser_id)
LEFT JOIN accounts ON accounts.account_id = fundraisers.account_id AND accounts.kind = 'fund'
LEFT JOIN LATERAL (
    SELECT count(*), sum(amount_fen) AS fen, sum(fundraiser_gifts.matched_fen) AS matched, count(return_transfer_id) AS returned,
        sum(amount_fen) FILTER (WHERE return_transfer_id IS NOT NULL) AS back_fen
    FROM fundraiser_gifts WHERE fundraiser_gifts.fundraiser_id = looked.fundraiser_id
) AS gifts ON TRUE
LEFT JOIN LATERAL (
    SELECT sum(fundraiser_matches.matched_fen) AS fen
    FROM fundraiser_matches WHERE fundraiser_matches.fundraiser_id = looked.fundraiser_id
) AS matches ON TRUE
ORDER BY fundraiser_id

-- matches --
-- The matches of the fundraisers $1, with what their accounts hold and have paid to the fundraiser.
SELECT match_id, fundraiser_id, budget_fen, fundraiser_matches.matched_fen, settled_at_ms, balance_fen AS held_fen,
    coalesce((
        SELECT sum(amount_fen) FROM transfers
        WHERE kind = 'match' AND from_account = fundraiser_matches.account_id AND to_account = fundraisers.account_id
    ), 0) AS moved_fen
FROM fundraiser_matches JOIN fundraisers USING (fundraiser_id)
LEFT JOIN accounts ON accounts.account_id = fundraiser_matches.account_id AND accounts.kind = 'fund'
WHERE fundraiser_id = ANY ($1::bigint[])
ORDER BY match_id

-- wrong_gifts --
-- What the rows say was moved and no entry did. Of entries after $1, or after $2 up to $3.
WITH expected AS (
    SELECT fundraiser_id, wanted.transfer_id, wanted.kind, payer, payee, fen
    FROM fundraiser_gifts JOIN fundraisers USING (fundraiser_id)
    LEFT JOIN accounts ON accounts.kind = 'wallet' AND accounts.owner = giver
    CROSS JOIN LATERAL (VALUES
        (transfer_id, 'gift', accounts.account_id, fundraisers.account_id, amount_fen),
        (return_transfer_id, 'gift_return', fundraisers.account_id, accounts.account_id, amount_fen)
    ) AS wanted (transfer_id, kind, payer, payee, fen)
    UNION ALL
    SELECT fundraiser_id, wanted.transfer_id, wanted.kind, payer, payee, fen
    FROM fundraiser_matches JOIN fundraisers USING (fundraiser_id)
    LEFT JOIN accounts ON accounts.kind = 'wallet' AND accounts.owner = merchant
    CROSS JOIN LATERAL (VALUES
        (transfer_id, 'match_budget', accounts.account_id, fundraiser_matches.account_id, budget_fen),
        (rest_transfer_id, 'match_return', fundraiser_matches.account_id, accounts.account_id,
            budget_fen - fundraiser_matches.matched_fen),
        (matched_transfer_id, 'match_return', fundraisers.account_id, accounts.account_id, fundraiser_matches.matched_fen)
    ) AS wanted (transfer_id, kind, payer, payee, fen)
    UNION ALL
    SELECT fundraiser_id, payout_transfer_id, 'fund_payout', fundraisers.account_id, accounts.account_id, given_fen + matched_fen
    FROM fundraisers LEFT JOIN accounts ON accounts.kind = 'wallet' AND accounts.owner = beneficiary
)
SELECT fundraiser_id, expected.kind, fen, expected.transfer_id
FROM expected LEFT JOIN transfers ON transfers.transfer_id = expected.transfer_id AND from_account < 1100000000000000000
WHERE (expected.transfer_id > $1 OR expected.transfer_id > $2 AND expected.transfer_id <= $3)
    AND (transfers.kind::text, from_account, to_account, amount_fen) IS DISTINCT FROM (expected.kind, payer, payee, fen)
ORDER BY expected.transfer_id

-- stray_gifts --
-- Entries of funds that no gift, match or payout has.
WITH moved AS (
    SELECT transfers.* FROM accounts JOIN transfers ON to_account = account_id WHERE accounts.kind = 'fund'
    UNION ALL
    SELECT transfers.* FROM accounts JOIN transfers ON from_account = account_id
    WHERE accounts.kind = 'fund' AND transfers.kind <> 'claim'
)
SELECT DISTINCT transfer_id, kind::text, amount_fen FROM moved
WHERE (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
    AND NOT EXISTS (SELECT FROM fundraiser_gifts WHERE fundraiser_gifts.transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM fundraiser_gifts WHERE return_transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM fundraiser_matches WHERE fundraiser_matches.transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM fundraiser_matches WHERE rest_transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM fundraiser_matches WHERE matched_transfer_id = moved.transfer_id)
    AND NOT EXISTS (SELECT FROM fundraisers WHERE payout_transfer_id = moved.transfer_id)
    AND NOT EXISTS (
        SELECT FROM fundraiser_matches JOIN fundraisers USING (fundraiser_id)
        WHERE moved.kind = 'match' AND fundraiser_matches.account_id = from_account
            AND fundraisers.account_id = to_account
    )
ORDER BY transfer_id

-- stray_funds --
-- Funds of nobody.
SELECT account_id, balance_fen FROM accounts
WHERE kind = 'fund' AND NOT EXISTS (SELECT FROM fundraisers WHERE fundraisers.account_id = accounts.account_id)
    AND NOT EXISTS (SELECT FROM fundraiser_matches WHERE fundraiser_matches.account_id = accounts.account_id)
ORDER BY account_id
-- coupons --
SELECT count(*) FROM coupons

-- wrong_coupon_holdings --
-- Holdings of coupons, and which coupons these are.
WITH unsent AS (
    SELECT batch_id, sum(count) AS coupons FROM (
        SELECT batch_id, count FROM coupon_free
        UNION ALL
        SELECT batch_id, count - uploaded - never_uploaded FROM coupon_batches WHERE codes = 'uploaded'
    ) AS parts GROUP BY batch_id
), known AS (
    SELECT asset, owner, sum(coupons) AS coupons FROM (
        SELECT asset, holder AS owner, count(*) AS coupons
        FROM coupons JOIN coupon_batches USING (batch_id) WHERE state = 'held' GROUP BY asset, holder
        UNION ALL
        SELECT asset, owner, coupons FROM unsent JOIN coupon_batches USING (batch_id)
    ) AS parts GROUP BY asset, owner
), counted AS (
    SELECT accounts.asset, accounts.owner, balance_fen AS units
    FROM accounts JOIN coupon_batches ON coupon_batches.asset = accounts.asset WHERE accounts.kind = 'holding'
)
SELECT asset, owner, coalesce(units, 0) AS units, coalesce(coupons, 0) AS coupons
FROM known FULL JOIN counted USING (asset, owner)
WHERE coalesce(units, 0) <> coalesce(coupons, 0) ORDER BY asset, owner

-- wrong_coupon_claims --
-- Packets of coupons of which more or fewer coupons were given than the ledger has claims.
WITH packets_of_coupons AS MATERIALIZED (SELECT DISTINCT packet_id FROM coupon_ranges), claimed AS (
    SELECT from_account AS packet_id, count(*) AS claims FROM transfers JOIN packets_of_coupons ON packet_id = from_account
    WHERE kind = 'claim' GROUP BY from_account
), given AS (
    SELECT packet_id, count(*) AS coupons FROM coupons GROUP BY packet_id
)
SELECT packet_id, coalesce(claims, 0) AS claims, coalesce(coupons, 0) AS coupons FROM claimed FULL JOIN given USING (packet_id)
WHERE claims IS DISTINCT FROM coupons ORDER BY packet_id

-- coupon_batches --
-- Each batch's coupons by where they are, and what its issuer's entries say.
WITH packets_of_batches AS MATERIALIZED (
    SELECT DISTINCT batch_id, packet_id FROM coupon_ranges
), free AS (
    SELECT batch_id, sum(count) AS unsent FROM coupon_free GROUP BY batch_id
), packets AS (
    SELECT batch_id, sum(balance_fen) AS in_packets FROM packets_of_batches JOIN accounts ON account_id = packet_id
    GROUP BY batch_id
), lost AS (
    SELECT batch_id, sum(amount_fen) AS written_off FROM packets_of_batches JOIN transfers ON from_account = packet_id
    WHERE kind = 'write_off' AND kind <> 'claim' GROUP BY batch_id
), given AS (
    SELECT batch_id, count(*) FILTER (WHERE state = 'held') AS held, count(*) FILTER (WHERE state = 'redeemed') AS redeemed,
        count(*) FILTER (WHERE state = 'void') AS void, count(*) FILTER (WHERE state = 'expired') AS expired
    FROM coupons GROUP BY batch_id
), entries AS (
    SELECT batch_id, sum(amount_fen) FILTER (WHERE kind = 'redeem') AS redeem,
        sum(amount_fen) FILTER (WHERE kind = 'coupon_void') AS coupon_void,
        sum(amount_fen) FILTER (WHERE kind = 'coupon_expire') AS coupon_expire
    FROM coupon_batches JOIN assets USING (asset) JOIN transfers ON to_account = issuer GROUP BY batch_id
)
SELECT batch_id, count, (
        SELECT coalesce(sum(amount_fen), 0) FROM transfers
        WHERE from_account = issuer AND kind = 'issue' AND kind <> 'claim'
    )::bigint AS issued,
    CASE codes WHEN 'uploaded' THEN count - uploaded - never_uploaded ELSE 0 END AS not_uploaded,
    coalesce(unsent, 0)::bigint AS unsent, coalesce(in_packets, 0)::bigint AS in_packets, coalesce(held, 0) AS held,
    coalesce(redeemed, 0) AS redeemed, coalesce(void, 0) AS void,
    coalesce(expired, 0) + unsent_expired + never_uploaded AS expired, coalesce(written_off, 0)::bigint AS written_off,
    coalesce(redeem, 0)::bigint AS redeem, coalesce(coupon_void, 0)::bigint AS coupon_void,
    coalesce(coupon_expire, 0)::bigint AS coupon_expire
FROM coupon_batches JOIN assets USING (asset)
LEFT JOIN free USING (batch_id) LEFT JOIN packets USING (batch_id) LEFT JOIN lost USING (batch_id)
LEFT JOIN given USING (batch_id) LEFT JOIN entries USING (batch_id)
ORDER BY batch_id

-- free_and_given --
SELECT batch_id, number FROM coupon_free JOIN coupons USING (batch_id)
WHERE number >= first_number AND number < first_number + coupon_free.count ORDER BY batch_id, number LIMIT 1000
-- card_sets --
SELECT set_id FROM card_sets ORDER BY set_id

-- wrong_cards --
-- Cards of which another number is there than was published, or is set aside, or is in escrow, than grants and offers say.
SELECT card_kinds.set_id, card, count, -issuers.balance_fen AS issued, granted_count - coalesce(granted.grants, 0) AS to_grant,
    reserves.balance_fen AS set_aside, coalesce(open.offers, 0) AS offered, escrows.fen::text AS in_escrow
FROM card_kinds JOIN assets USING (asset)
LEFT JOIN accounts AS issuers ON issuers.account_id = issuer
LEFT JOIN accounts AS reserves ON reserves.account_id = reserve_account
LEFT JOIN LATERAL (
    SELECT coalesce(sum(balance_fen), 0) AS fen FROM accounts WHERE account_id = ANY (escrow_accounts)
) AS escrows ON TRUE
LEFT JOIN (SELECT set_id, card, count(*) AS grants FROM card_grants GROUP BY set_id, card) AS granted USING (set_id, card)
LEFT JOIN (
    SELECT set_id, give AS card, count(*) AS offers FROM card_offers WHERE state = 'open' GROUP BY set_id, give
) AS open USING (set_id, card)
WHERE issuers.balance_fen IS DISTINCT FROM -count::bigint
    OR reserves.balance_fen IS DISTINCT FROM granted_count - coalesce(granted.grants, 0)
    OR escrows.fen <> coalesce(open.offers, 0)
ORDER BY card_kinds.set_id, card

-- wrong_completions --
-- Sets of which other cards are spent than were completed. Here and below: those that are not settled, or whose pool has
-- entries after $1, or after $2 up to $3.
WITH looked AS MATERIALIZED (
    SELECT * FROM card_sets WHERE state <> 'settled' OR EXISTS (
        SELECT FROM transfers WHERE from_account = pool_account AND kind <> 'claim'
            AND (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
    )
), spent AS (
    SELECT set_id, sum(balance_fen) AS cards, coalesce(sum(balance_fen) FILTER (WHERE is_wild), 0) AS wild
    FROM looked JOIN card_kinds USING (set_id) JOIN accounts ON account_id = ANY (spent_accounts) GROUP BY set_id
), completed AS (
    SELECT set_id, count(*) AS completions, sum(wild) AS wild
    FROM looked JOIN card_completions USING (set_id) GROUP BY set_id
)
SELECT set_id, coalesce(completions, 0) AS completions, (looked.cards * coalesce(completions, 0))::text AS due,
    coalesce(spent.cards, 0)::text AS spent, coalesce(completed.wild, 0) AS wild, coalesce(spent.wild, 0)::text AS wild_spent
FROM looked LEFT JOIN spent USING (set_id) LEFT JOIN completed USING (set_id)
WHERE coalesce(spent.cards, 0) <> looked.cards * coalesce(completions, 0)
    OR coalesce(spent.wild, 0) <> coalesce(completed.wild, 0)
ORDER BY set_id

-- wrong_pools --
-- Sets whose pool holds another amount than has not been paid out, or whose shares are not of all completers and the pool.
WITH looked AS MATERIALIZED (
    SELECT * FROM card_sets WHERE state <> 'settled' OR EXISTS (
        SELECT FROM transfers WHERE from_account = pool_account AND kind <> 'claim'
            AND (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
    )
), shared AS (
    SELECT set_id, count(*) AS shares, sum(share_fen) AS fen,
        coalesce(sum(share_fen) FILTER (WHERE transfer_id IS NOT NULL), 0) AS paid_fen,
        count(*) FILTER (WHERE card_completions.user_id IS NULL) AS strangers
    FROM looked JOIN card_shares USING (set_id) LEFT JOIN card_completions USING (set_id, user_id) GROUP BY set_id
), completed AS (
    SELECT set_id, count(*) AS completions FROM looked JOIN card_completions USING (set_id) GROUP BY set_id
)
SELECT set_id, state, pool_fen, balance_fen AS held_fen, coalesce(paid_fen, 0)::text AS paid_fen,
    coalesce(returned_fen, 0) AS returned_fen, coalesce(shares, 0) AS shares, coalesce(fen, 0)::text AS shares_fen,
    coalesce(completers, completions, 0) AS completers, coalesce(completions, 0) AS completions,
    coalesce(strangers, 0) AS strangers
FROM looked LEFT JOIN accounts ON account_id = pool_account LEFT JOIN shared USING (set_id)
LEFT JOIN completed USING (set_id)
WHERE balance_fen IS DISTINCT FROM pool_fen - coalesce(paid_fen, 0) - coalesce(returned_fen, 0)
    OR strangers > 0 OR coalesce(shares, 0) <> drawn
    OR completers IS NOT NULL AND completers <> coalesce(completions, 0)
    OR state IN ('drawn', 'settled') AND (drawn <> completers OR completers > 0 AND fen <> pool_fen)
ORDER BY set_id

-- wrong_card_entries --
-- Grants, offers and shares with entries after $1, or after $2 up to $3, which do not match them.
WITH expected AS (
    SELECT 'grant ' || number || ' of card set ' || set_id AS what, transfer_id, 'card_grant' AS kind,
        reserve_account AS payer, account_id AS payee, 1::bigint AS fen
    FROM card_grants JOIN card_kinds USING (set_id, card)
    LEFT JOIN accounts ON kind = 'holding' AND owner = user_id AND accounts.asset = card_kinds.asset
    UNION ALL
    SELECT 'card offer ' || offer_id, wanted.transfer_id, wanted.kind, payer, payee, 1
    FROM card_offers
    JOIN card_kinds AS given ON given.set_id = card_offers.set_id AND given.card = give
    JOIN card_kinds AS other ON other.set_id = card_offers.set_id AND other.card = want
    LEFT JOIN accounts AS giver ON giver.kind = 'holding' AND giver.owner = from_user AND giver.asset = given.asset
    LEFT JOIN accounts AS taker ON taker.kind = 'holding' AND taker.owner = accepted_by AND taker.asset = given.asset
    LEFT JOIN accounts AS payer_of_other
        ON payer_of_other.kind = 'holding' AND payer_of_other.owner = accepted_by AND payer_of_other.asset = other.asset
    LEFT JOIN accounts AS payee_of_other
        ON payee_of_other.kind = 'holding' AND payee_of_other.owner = from_user AND payee_of_other.asset = other.asset
    CROSS JOIN LATERAL (VALUES
        (transfer_id, 'card_offer', giver.account_id, escrow_account, TRUE),
        (end_transfer_id, 'card_exchange', escrow_account, taker.account_id, state = 'accepted'),
        (want_transfer_id, 'card_gift', payer_of_other.account_id, payee_of_other.account_id, state = 'accepted'),
        (end_transfer_id, 'card_return', escrow_account, giver.account_id, state NOT IN ('open', 'accepted'))
    ) AS wanted (transfer_id, kind, payer, payee, is_wanted)
    WHERE is_wanted
    UNION ALL
    SELECT 'share ' || number || ' of card set ' || set_id, transfer_id, 'pool_share', pool_account, account_id, share_fen
    FROM card_shares JOIN card_sets USING (set_id)
    LEFT JOIN accounts ON kind = 'wallet' AND accounts.owner = user_id
    WHERE transfer_id IS NOT NULL
)
SELECT what, expected.transfer_id, expected.kind
FROM expected LEFT JOIN transfers USING (transfer_id)
WHERE (expected.transfer_id > $1 OR expected.transfer_id > $2 AND expected.transfer_id <= $3)
    AND (transfers.kind::text, from_account, to_account, amount_fen) IS DISTINCT FROM (expected.kind, payer, payee, fen)
ORDER BY what

-- sets_drawn --
-- Sets whose shares were drawn or paid, and that are not settled or have such entries.
SELECT set_id FROM card_sets WHERE drawn > 0 AND (state <> 'settled' OR EXISTS (
    SELECT FROM transfers WHERE from_account = pool_account AND kind <> 'claim'
        AND (transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3)
))
ORDER BY set_id

-- sets_granted --
SELECT DISTINCT set_id FROM card_grants
WHERE transfer_id > $1 OR transfer_id > $2 AND transfer_id <= $3 ORDER BY set_id

-- drawn_shares --
SELECT number, user_id, share_fen, draw_key FROM card_shares LEFT JOIN card_completions USING (set_id, user_id)
WHERE set_id = $1 AND number >= $2 ORDER BY number LIMIT $3

-- operator_log --
-- The columns as engine/operators/chain.py has them.
SELECT number, at_ms, operator, role, session_id, address, action, subject_kind, subject_id, arguments, reason, outcome, told,
    approval_id, about, hash
FROM operator_log ORDER BY number

-- operator_log_head --
SELECT number, hash FROM operator_log_head

-- approvals_past_the_log --
-- The row "asked" is written before a decision, so a decision that has none did not come through the console.
SELECT approval_id, state, decided_by FROM approvals
WHERE state <> 'waiting' AND NOT EXISTS (
    SELECT FROM operator_log
    WHERE subject_kind = 'approval' AND subject_id = approvals.approval_id::text AND outcome = 'asked'
        AND operator = decided_by
) ORDER BY approval_id

-- orders --
-- How many orders of WeChat Pay's calls have a packet. $1: only of these packets (null: all).
SELECT count(*) FROM wechatpay_orders WHERE packet_id IS NOT NULL AND ($1::bigint[] IS NULL OR packet_id = ANY ($1))

-- wrong_orders --
-- Orders whose packet is not what they say, and those that have none and should. $1: only of these packets (null: all).
-- to_user_fen: what the order's user was given of it; null: the packet has not settled.
SELECT * FROM (
    SELECT order_id, mch_id, api, number, orders.state, amount_fen, account, packet_id, sender, total_fen,
        coalesce(sent.entries, 0) AS entries, coalesce(sent.fen, 0) AS sent_fen, settled_at_ms IS NOT NULL AS is_settled,
        coalesce((
            SELECT sum(claims.amount_fen) FROM transfers AS claims JOIN accounts ON account_id = claims.to_account
            WHERE claims.kind = 'claim' AND claims.from_account = packet_id
                AND accounts.kind = 'wallet' AND owner = appid || ':' || openid
        ), 0) AS to_user_fen
    FROM wechatpay_orders AS orders LEFT JOIN packets USING (packet_id) LEFT JOIN LATERAL (
        SELECT count(*) AS entries, sum(sends.amount_fen) AS fen FROM transfers AS sends
        WHERE sends.kind = 'send' AND sends.to_account = packet_id
    ) AS sent ON TRUE
    WHERE CASE WHEN $1::bigint[] IS NULL THEN packet_id IS NOT NULL OR orders.state IN ('paid', 'given')
        ELSE packet_id = ANY ($1) END
) AS looked
WHERE total_fen IS DISTINCT FROM amount_fen OR sender IS DISTINCT FROM account OR state = 'asked' OR entries <> 1
    OR sent_fen <> amount_fen OR is_settled AND state = 'given' AND to_user_fen <> amount_fen
    OR is_settled AND state = 'refused' AND to_user_fen <> 0
ORDER BY order_id

-- wrong_order_sums --
-- Days in which a merchant has counted more than its orders are: what was refused is taken back from the count.
SELECT mch_id, api, begins_at_ms, counted_fen, ordered_fen FROM (
    SELECT spans.mch_id, spans.api, begins_at_ms, spans.amount_fen AS counted_fen,
        coalesce(sum(orders.amount_fen), 0)::bigint AS ordered_fen
    FROM wechatpay_spans AS spans LEFT JOIN wechatpay_orders AS orders ON orders.mch_id = spans.mch_id
        AND orders.api = spans.api AND state <> 'refused'
        AND asked_at_ms >= begins_at_ms AND asked_at_ms < begins_at_ms + 86400000
    WHERE span = 'day'
    GROUP BY spans.mch_id, spans.api, begins_at_ms, spans.amount_fen
) AS days
WHERE counted_fen > ordered_fen
ORDER BY mch_id, api, begins_at_ms
