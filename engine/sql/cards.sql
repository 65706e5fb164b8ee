-- Cards to collect (engine/cards/).

-- new_number --
SELECT nextval(pg_get_serial_sequence('card_sets', 'set_id'))

-- is_merchant --
SELECT EXISTS (SELECT FROM profiles WHERE user_id = $1 AND kind = 'merchant')

-- add_pool --
INSERT INTO accounts (account_id, kind) VALUES (nextval('wallet_ids'), 'card_pool') RETURNING account_id

-- add_set --
INSERT INTO card_sets (set_id, owner, name, cards, pool_fen, split, min_fen, payout, claim_seconds, grants_a_user_max,
    ends_at_ms, draws_at_ms, seed, commitment, pool_account, created_at_ms)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- add_card --
-- A card: its asset, its accounts, and what is published of it. $10: in how many accounts what is offered lies, and what is
-- spent. Returns the accounts of its issuer and of what is set aside for grants.
WITH made AS MATERIALIZED (
    SELECT place, nextval('wallet_ids') AS account_id FROM generate_series(0, 2 * $10::integer + 1) AS place
), asset AS (
    INSERT INTO assets (asset, scale, name, issuer, created_at_ms, sole_sender)
    SELECT $3, 0, $4, account_id, $8, $9 FROM made WHERE place = 0
), account AS (
    INSERT INTO accounts (account_id, kind, asset)
    SELECT account_id, (
        CASE WHEN place = 0 THEN 'issuer' WHEN place < $10::integer + 2 THEN 'card_escrow' ELSE 'card_spent' END
    )::account_kind, $3 FROM made
)
INSERT INTO card_kinds (set_id, card, asset, name, is_wild, count, granted_count, reserve_account, escrow_accounts,
    spent_accounts)
SELECT $1, $2, $3, $4, $5, $6, $7, min(account_id) FILTER (WHERE place = 1),
    array_agg(account_id ORDER BY place) FILTER (WHERE place BETWEEN 2 AND $10::integer + 1),
    array_agg(account_id ORDER BY place) FILTER (WHERE place > $10::integer + 1)
FROM made
RETURNING reserve_account, (SELECT account_id FROM made WHERE place = 0) AS issuer

-- set --
SELECT set_id, owner, name, cards, pool_fen, split, min_fen, payout, claim_seconds, grants_a_user_max, ends_at_ms, draws_at_ms,
    seed, commitment, pool_account, created_at_ms
FROM card_sets WHERE set_id = $1

-- kinds --
SELECT card, card_kinds.name, is_wild, card_kinds.asset, count, granted_count, reserve_account, escrow_accounts, spent_accounts, issuer
FROM card_kinds JOIN assets USING (asset) WHERE set_id = $1 ORDER BY card

-- create_wallet --
INSERT INTO accounts (account_id, kind, owner)
SELECT nextval('wallet_ids'), 'wallet', $1 WHERE NOT EXISTS (SELECT FROM accounts WHERE kind = 'wallet' AND owner = $1)
ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING

-- create_holdings --
INSERT INTO accounts (account_id, kind, owner, asset)
SELECT nextval('wallet_ids'), 'holding', $1, asset FROM unnest($2::text[]) AS wanted (asset)
WHERE NOT EXISTS (SELECT FROM accounts WHERE kind = 'holding' AND owner = $1 AND accounts.asset = wanted.asset)
ON CONFLICT (owner, asset) WHERE kind = 'holding' DO NOTHING

-- lock_accounts --
-- The wallets of the users $1, what they hold of the cards $2, and the accounts $3, locked in the order of their ids; and the
-- clock when it began. Their numbers come as one list, so that Postgres looks each of them up, however large the table is.
SELECT account_id, kind::text, owner, asset, balance_fen, frozen, sending_frozen_until_ms, hash,
    (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now_ms
FROM accounts WHERE account_id = ANY ($3::bigint[] || ARRAY(
    SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = ANY ($1::text[])
    UNION ALL
    SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = ANY ($1::text[]) AND asset = ANY ($2::text[])
))
ORDER BY account_id < 1000, account_id FOR UPDATE

-- cannot_receive --
SELECT EXISTS (
    SELECT FROM freezes
    WHERE user_id = $1 AND scope IN ('account', 'receiving') AND lifted_at_ms IS NULL AND (until_ms IS NULL OR until_ms > $2)
)

-- move --
-- One card from each payer to its payee. NULL: the payer has none.
SELECT move_money($1::transfer_kind, payer, payee, 1, $4) AS transfer_id
FROM unnest($2::bigint[], $3::bigint[]) AS moved (payer, payee)

-- holds --
-- And the clock.
SELECT (SELECT balance_fen FROM accounts WHERE kind = 'holding' AND owner = $1 AND asset = $2) AS count,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms

-- lock_state --
-- Completions and payments of shares hold it together. Whoever closes the set waits for them, and they for who closes it.
SELECT state, drawn_at_ms FROM card_sets WHERE set_id = $1 FOR SHARE

-- add_grant --
INSERT INTO card_grants (set_id, number, user_id, card, reason, granted_at_ms, transfer_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- grants_of_user --
SELECT count(*) FROM card_grants WHERE set_id = $1 AND user_id = $2

-- grants --
SELECT number, user_id, card, reason, granted_at_ms FROM card_grants
WHERE set_id = $1 AND number > $2 ORDER BY number LIMIT $3

-- add_completion --
-- No row: the user has completed it before.
INSERT INTO card_completions (set_id, user_id, draw_key, wild, completed_at_ms) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (set_id, user_id) DO NOTHING RETURNING TRUE

-- open_offers --
SELECT count(*) FROM card_offers WHERE from_user = $1 AND state = 'open'

-- add_offer --
INSERT INTO card_offers (set_id, from_user, to_user, give, want, escrow_account, made_at_ms, expires_at_ms, transfer_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING offer_id

-- offer --
SELECT * FROM card_offers WHERE offer_id = $1

-- lock_offer --
SELECT * FROM card_offers WHERE offer_id = $1 FOR UPDATE

-- end_offers --
UPDATE card_offers
SET state = $3, end_transfer_id = ended.transfer_id, ended_at_ms = $4, accepted_by = $5, want_transfer_id = $6
FROM unnest($1::bigint[], $2::bigint[]) AS ended (offer_id, transfer_id)
WHERE card_offers.offer_id = ended.offer_id AND state = 'open'

-- offers_run_out --
-- Some of those whose time is over and that nobody is at work on.
SELECT offer_id, from_user, escrow_account, account_id AS holding
FROM card_offers JOIN card_kinds ON card_kinds.set_id = card_offers.set_id AND card = give
JOIN accounts ON accounts.kind = 'holding' AND owner = from_user AND accounts.asset = card_kinds.asset
WHERE state = 'open' AND expires_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
ORDER BY expires_at_ms LIMIT $1 FOR UPDATE OF card_offers SKIP LOCKED

-- offers_made --
SELECT * FROM card_offers WHERE from_user = $1 AND offer_id < $2 ORDER BY offer_id DESC LIMIT $3

-- offers_received --
SELECT * FROM card_offers WHERE to_user = $1 AND offer_id < $2 ORDER BY offer_id DESC LIMIT $3

-- offers_for_anyone --
SELECT * FROM card_offers WHERE set_id = $1 AND state = 'open' AND to_user IS NULL AND offer_id < $2
ORDER BY offer_id DESC LIMIT $3

-- at_work --
-- Sets that are to be drawn, are being drawn, or whose shares can be claimed no longer.
SELECT set_id FROM card_sets
WHERE state <> 'settled' AND draws_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AND (
    state <> 'drawn'
    OR drawn_at_ms + claim_seconds * 1000::bigint <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
)
ORDER BY draws_at_ms, set_id LIMIT $1

-- lock_set --
SELECT * FROM card_sets WHERE set_id = $1 FOR UPDATE

-- completers --
SELECT count(*) FROM card_completions WHERE set_id = $1

-- close --
UPDATE card_sets SET state = 'drawing', completers = $2 WHERE set_id = $1 AND state = 'collecting'

-- next_completers --
SELECT user_id, draw_key FROM card_completions WHERE set_id = $1 AND draw_key > $2 ORDER BY draw_key LIMIT $3

-- add_shares --
INSERT INTO card_shares (set_id, user_id, number, share_fen, transfer_id, paid_at_ms)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[])

-- note_drawn --
UPDATE card_sets SET drawn = $2, drawn_key = $3 WHERE set_id = $1 AND state = 'drawing'

-- all_drawn --
UPDATE card_sets SET state = 'drawn', drawn_at_ms = $2 WHERE set_id = $1 AND state = 'drawing'

-- settle --
UPDATE card_sets SET state = 'settled', returned_fen = $2 WHERE set_id = $1 AND state = 'drawn'

-- wallets --
SELECT owner, account_id FROM accounts WHERE kind = 'wallet' AND owner = ANY ($1::text[])

-- pay --
-- Accounts are locked already, in the order of their ids.
UPDATE accounts SET balance_fen = balance_fen + share_fen
FROM unnest($1::bigint[], $2::bigint[]) AS paid (account_id, share_fen)
WHERE accounts.account_id = paid.account_id

-- take_from_pool --
UPDATE accounts SET balance_fen = balance_fen - $2, hash = $3 WHERE account_id = $1

-- entry_numbers --
SELECT nextval('transfer_ids') AS transfer_id FROM generate_series(1, $1)

-- add_entries --
INSERT INTO transfers (transfer_id, kind, from_account, to_account, amount_fen, at_ms)
SELECT transfer_id, 'pool_share', $1, to_account, amount_fen, $2
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS paid (transfer_id, to_account, amount_fen)

-- add_hashes --
INSERT INTO transfer_hashes (transfer_id, hash) SELECT * FROM unnest($1::bigint[], $2::bytea[])

-- lock_share --
SELECT number, share_fen, transfer_id, paid_at_ms FROM card_shares WHERE set_id = $1 AND user_id = $2 FOR UPDATE

-- note_paid --
UPDATE card_shares SET transfer_id = $3, paid_at_ms = $4 WHERE set_id = $1 AND user_id = $2

-- shares --
SELECT number, user_id, share_fen, paid_at_ms FROM card_shares
WHERE set_id = $1 AND number > $2 ORDER BY number LIMIT $3

-- progress --
-- What changes of a set, and the clock.
SELECT state, completers, drawn_at_ms, returned_fen, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM card_sets WHERE set_id = $1

-- counts --
-- Of each card: how many its owner has not dropped, are set aside for grants, are offered, and are spent.
SELECT card,
    coalesce((
        SELECT balance_fen FROM accounts
        WHERE kind = 'holding' AND owner = $2 AND accounts.asset = card_kinds.asset
    ), 0) AS with_owner,
    (SELECT balance_fen FROM accounts WHERE account_id = reserve_account) AS set_aside,
    (SELECT sum(balance_fen) FROM accounts WHERE account_id = ANY (escrow_accounts))::bigint AS offered,
    (SELECT sum(balance_fen) FROM accounts WHERE account_id = ANY (spent_accounts))::bigint AS spent
FROM card_kinds WHERE set_id = $1 ORDER BY card

-- of_owner --
SELECT set_id, owner, name, created_at_ms FROM card_sets WHERE owner = $1 AND set_id < $2 ORDER BY set_id DESC LIMIT $3

-- cards_of_user --
SELECT card, coalesce((
    SELECT balance_fen FROM accounts WHERE kind = 'holding' AND owner = $2 AND accounts.asset = card_kinds.asset
), 0) AS count, (
    SELECT count(*) FROM card_offers
    WHERE from_user = $2 AND card_offers.set_id = $1 AND give = card AND state = 'open'
) AS offered
FROM card_kinds WHERE set_id = $1 ORDER BY card

-- part_of_user --
SELECT completed_at_ms, wild, number, share_fen, paid_at_ms
FROM card_completions LEFT JOIN card_shares USING (set_id, user_id) WHERE set_id = $1 AND user_id = $2
