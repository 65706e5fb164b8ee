-- Coupons and their batches (engine/coupons). Locks are taken in this order: a coupon, users' accounts, its batch, free
-- numbers, and last the issuer, for which all ends of a batch's coupons take turns.

-- new_batch --
SELECT nextval(pg_get_serial_sequence('coupon_batches', 'batch_id'))

-- owner_kind --
SELECT kind FROM profiles WHERE user_id = $1

-- add_batch --
INSERT INTO coupon_batches (batch_id, asset, owner, name, face, off_fen, from_fen, percent, words, count, codes, key_id,
    is_transferable, valid_from_ms, valid_until_ms, created_at_ms)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- batches --
SELECT batch_id, coupon_batches.asset, owner, coupon_batches.name, face, off_fen, from_fen, percent, words, count, codes,
    key_id, is_transferable, valid_from_ms, valid_until_ms, coupon_batches.created_at_ms, issuer
FROM coupon_batches JOIN assets USING (asset) WHERE batch_id = ANY ($1::bigint[])

-- batch_of_asset --
SELECT batch_id, owner, valid_until_ms FROM coupon_batches WHERE asset = $1

-- of_owner --
SELECT batch_id, uploaded FROM coupon_batches WHERE owner = $1 AND batch_id < $2 ORDER BY batch_id DESC LIMIT $3

-- newest --
SELECT batch_id, uploaded FROM coupon_batches ORDER BY batch_id DESC LIMIT $1

-- keys_in_use --
SELECT DISTINCT key_id FROM coupon_batches ORDER BY key_id

-- uploaded --
SELECT uploaded FROM coupon_batches WHERE batch_id = $1

-- statement --
-- What has become of a batch's units. In packets: what their custodies hold. Written off: claims and rests that the ledger
-- could not take (engine/persisting/quarantine.py).
WITH packets_of_batch AS MATERIALIZED (SELECT DISTINCT packet_id FROM coupon_ranges WHERE batch_id = $1)
SELECT count,
    CASE codes WHEN 'uploaded' THEN count - uploaded - never_uploaded ELSE 0 END AS not_uploaded,
    (SELECT coalesce(sum(count), 0) FROM coupon_free WHERE batch_id = $1)::bigint AS unsent,
    (SELECT coalesce(sum(balance_fen), 0) FROM accounts JOIN packets_of_batch ON account_id = packet_id)::bigint AS in_packets,
    held, redeemed, void, expired + unsent_expired + never_uploaded AS expired,
    (
        SELECT coalesce(sum(amount_fen), 0) FROM transfers JOIN packets_of_batch ON from_account = packet_id
        WHERE kind = 'write_off' AND kind <> 'claim'
    )::bigint AS written_off
FROM coupon_batches, (
    SELECT count(*) FILTER (WHERE state = 'held') AS held, count(*) FILTER (WHERE state = 'redeemed') AS redeemed,
        count(*) FILTER (WHERE state = 'void') AS void, count(*) FILTER (WHERE state = 'expired') AS expired
    FROM coupons WHERE batch_id = $1
) AS given
WHERE batch_id = $1

-- free --
-- Free numbers, the largest ranges first.
SELECT first_number, count FROM coupon_free WHERE batch_id = $1 ORDER BY count DESC, first_number LIMIT $2 FOR UPDATE

-- merge_free --
-- Make one range of those that join.
WITH taken AS MATERIALIZED (
    DELETE FROM coupon_free WHERE batch_id = $1 RETURNING first_number, count
), islands AS (
    SELECT first_number, count, first_number - (sum(count) OVER (ORDER BY first_number) - count) AS island FROM taken
)
INSERT INTO coupon_free (batch_id, first_number, count) SELECT $1, min(first_number), sum(count) FROM islands GROUP BY island

-- take_free --
DELETE FROM coupon_free WHERE batch_id = $1 AND first_number = ANY ($2::integer[])

-- all_free --
DELETE FROM coupon_free WHERE batch_id = $1 RETURNING count

-- add_free --
INSERT INTO coupon_free (batch_id, first_number, count) VALUES ($1, $2, $3)

-- extend_free --
UPDATE coupon_free SET count = count + $3 WHERE batch_id = $1 AND first_number + count = $2

-- add_ranges --
INSERT INTO coupon_ranges (packet_id, first_slot, count, batch_id, first_number)
SELECT $1, first_slot, count, $2, first_number
FROM unnest($3::integer[], $4::integer[], $5::integer[]) AS taken (first_slot, count, first_number)

-- lock_batch --
SELECT count, uploaded, never_uploaded, valid_until_ms FROM coupon_batches WHERE batch_id = $1 FOR UPDATE

-- part --
SELECT first_number, count, hash FROM coupon_parts WHERE batch_id = $1 AND part = $2

-- add_part --
INSERT INTO coupon_parts (batch_id, part, first_number, count, hash, at_ms) VALUES ($1, $2, $3, $4, $5, $6)

-- add_codes --
INSERT INTO coupon_codes (batch_id, number, hash, sealed)
SELECT $1, number, hash, sealed FROM unnest($2::integer[], $3::bytea[], $4::bytea[]) AS code (number, hash, sealed)

-- count_uploaded --
UPDATE coupon_batches SET uploaded = uploaded + $2 WHERE batch_id = $1

-- known_hashes --
SELECT hash FROM coupon_codes WHERE batch_id = $1 AND hash = ANY ($2::bytea[])

-- of_claims --
SELECT * FROM coupons_of_claims($1::bigint[], $2::text[]) ORDER BY place

-- coupon --
SELECT batch_id, coupons.number, state::text, holder, given_at_ms, ended_at_ms, moves, sealed,
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM coupons LEFT JOIN coupon_codes USING (batch_id, number) WHERE batch_id = $1 AND number = $2

-- of_holder --
-- $4: only those in this state. What is still to be swept has expired.
SELECT batch_id, coupons.number, seen.state, holder, given_at_ms, ended_at_ms, moves, sealed, now_ms
FROM coupons
JOIN coupon_batches USING (batch_id)
LEFT JOIN coupon_codes USING (batch_id, number)
CROSS JOIN (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
CROSS JOIN LATERAL (
    SELECT CASE WHEN coupons.state = 'held' AND valid_until_ms <= now_ms THEN 'expired' ELSE coupons.state::text END AS state
) AS seen
WHERE holder = $1 AND (batch_id, number) < ($2, $3::bigint) AND ($4::text IS NULL OR seen.state = $4)
ORDER BY batch_id DESC, number DESC LIMIT $5

-- number_of_code --
SELECT number FROM coupon_codes WHERE batch_id = $1 AND hash = $2

-- lock_coupon --
SELECT number, state::text, holder, moves FROM coupons WHERE batch_id = $1 AND number = $2 FOR UPDATE

-- lock_accounts --
SELECT account_id, kind, owner, frozen, sending_frozen_until_ms FROM lock_accounts_of($1::text[], $2)

-- cannot_receive --
SELECT EXISTS (
    SELECT FROM freezes
    WHERE user_id = $1 AND lifted_at_ms IS NULL AND scope IN ('account', 'receiving') AND (until_ms IS NULL OR until_ms > $2)
)

-- end_coupon --
-- Move a coupon's unit, and say what has become of it: one statement, because others wait for the issuer meanwhile.
WITH moved AS MATERIALIZED (SELECT move_money($3::text::transfer_kind, $4, $5, 1, $6) AS transfer_id)
UPDATE coupons SET state = $7::text::coupon_state, ended_at_ms = $6, transfer_id = moved.transfer_id, note = $8
FROM moved WHERE batch_id = $1 AND number = $2 RETURNING moved.transfer_id

-- end_coupons --
UPDATE coupons SET state = $2::text::coupon_state, ended_at_ms = $3, transfer_id = ended.transfer_id
FROM unnest($4::integer[], $5::bigint[]) AS ended (number, transfer_id)
WHERE batch_id = $1 AND coupons.number = ended.number AND state = 'held'

-- pass_on --
UPDATE coupons SET holder = $3, moves = moves + 1 WHERE batch_id = $1 AND number = $2

-- batches_over --
-- Batches whose time is over and of which somebody may have a coupon.
SELECT batch_id FROM coupon_batches
WHERE closed_at_ms IS NULL AND valid_until_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000) AND batch_id > $1
ORDER BY batch_id LIMIT $2

-- held_of_batch --
SELECT number, holder FROM coupons WHERE batch_id = $1 AND number > $2 AND state = 'held' ORDER BY number LIMIT $3 FOR UPDATE

-- expire_unsent --
UPDATE coupon_batches SET unsent_expired = unsent_expired + $2, never_uploaded = never_uploaded + $3 WHERE batch_id = $1

-- close_batch --
-- If its issuer owes nothing any more.
UPDATE coupon_batches SET closed_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)
FROM assets JOIN accounts ON account_id = issuer
WHERE batch_id = $1 AND assets.asset = coupon_batches.asset AND balance_fen = 0

-- redemptions --
SELECT number, holder, ended_at_ms, transfer_id, note FROM coupons
WHERE batch_id = $1 AND number > $2 AND state = 'redeemed' ORDER BY number LIMIT $3
