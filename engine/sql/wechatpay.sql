-- Calls as WeChat Pay's (engine/wechatpay). Locks are taken in this order: the wallet of who pays, users' turns,
-- orders, a merchant's spans.

-- put_merchant --
INSERT INTO wechatpay_merchants AS kept (mch_id, account, appids, certificates, is_sandbox, is_closed, v2_key_id, v2_key,
    v3_key_id, v3_key, created_at_ms, changed_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $9, $10, $10)
ON CONFLICT (mch_id) DO UPDATE SET account = excluded.account, appids = excluded.appids,
    certificates = excluded.certificates, is_sandbox = excluded.is_sandbox, is_closed = excluded.is_closed,
    changed_at_ms = excluded.changed_at_ms
RETURNING kept.v2_key = $8 AS is_new

-- count --
-- $6 more sendings in the minute and the day of a merchant. The rows are locked until the transaction ends.
INSERT INTO wechatpay_spans AS spans (mch_id, api, span, begins_at_ms, sends, amount_fen)
VALUES ($1, $2, 'minute', $3, $6, $5), ($1, $2, 'day', $4, $6, $5)
ON CONFLICT (mch_id, api, span, begins_at_ms) DO UPDATE SET sends = spans.sends + excluded.sends,
    amount_fen = spans.amount_fen + excluded.amount_fen
RETURNING span, sends, amount_fen

-- merchants --
SELECT * FROM wechatpay_merchants WHERE mch_id > $1 ORDER BY mch_id LIMIT $2

-- merchant --
SELECT * FROM wechatpay_merchants WHERE mch_id = $1

-- set_v2_key --
UPDATE wechatpay_merchants SET v2_key_id = $2, v2_key = $3, changed_at_ms = $4 WHERE mch_id = $1 RETURNING mch_id

-- set_v3_key --
UPDATE wechatpay_merchants SET v3_key_id = $2, v3_key = $3, changed_at_ms = $4 WHERE mch_id = $1 RETURNING mch_id

-- set_rsa_key --
UPDATE wechatpay_merchants SET rsa_public = $2, rsa_serial_no = $3, changed_at_ms = $4 WHERE mch_id = $1 RETURNING mch_id

-- platform --
-- The keys in force, the one that has signed for longest first.
SELECT serial_no, certificate, key_id, private, signs_from_ms FROM wechatpay_platform WHERE retired_at_ms IS NULL
ORDER BY signs_from_ms, serial_no

-- lock_platform --
SELECT pg_advisory_xact_lock(7337, 0)

-- add_platform --
INSERT INTO wechatpay_platform (serial_no, certificate, key_id, private, signs_from_ms) VALUES ($1, $2, $3, $4, $5)

-- retire_platform --
UPDATE wechatpay_platform SET retired_at_ms = $2 WHERE serial_no = $1 AND retired_at_ms IS NULL RETURNING serial_no

-- use_nonce --
-- No row: it was used before.
INSERT INTO wechatpay_nonces (mch_id, nonce, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING at_ms

-- forget_nonces --
DELETE FROM wechatpay_nonces WHERE at_ms < $1

-- order_of_packet --
SELECT * FROM wechatpay_orders WHERE mch_id = $1 AND api = $2 AND packet_id = $3

-- cancel --
UPDATE wechatpay_orders SET cancelled_at_ms = $2 WHERE order_id = $1 AND cancelled_at_ms IS NULL

-- take_notices --
-- Bills whose end is to be told now. They are due again after $3, unless they are noted as told.
UPDATE wechatpay_orders SET notice_tries = notice_tries + 1, notice_due_at_ms = $1 + $3
WHERE order_id IN (
    SELECT order_id FROM wechatpay_orders JOIN packets USING (packet_id)
    WHERE notice_due_at_ms <= $1 AND settled_at_ms IS NOT NULL
    ORDER BY notice_due_at_ms LIMIT $2 FOR UPDATE OF wechatpay_orders SKIP LOCKED
)
RETURNING *

-- note_notice --
UPDATE wechatpay_orders SET notice_due_at_ms = $3 WHERE order_id = $1 AND notice_tries = $2

-- order --
SELECT * FROM wechatpay_orders WHERE mch_id = $1 AND api = $2 AND number = $3

-- lock_order --
SELECT * FROM wechatpay_orders WHERE mch_id = $1 AND api = $2 AND number = $3 FOR UPDATE

-- add_order --
INSERT INTO wechatpay_orders (mch_id, api, number, kind, terms_hash, account, address, appid, openid, amount_fen, count,
    wishing, send_name, act_name, remark, asked_at_ms, notify_url, platform_serial, notice_due_at_ms)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::bigint, $11::integer, $12, $13, $14, $15, at_ms, $16::text, $17::text,
    CASE WHEN $16::text IS NOT NULL THEN at_ms END
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms) AS clock
ON CONFLICT (mch_id, api, number) DO NOTHING
RETURNING *

-- ask_again --
UPDATE wechatpay_orders SET state = 'asked', err_code = NULL, err_text = NULL, asked_at_ms = $2 WHERE order_id = $1 RETURNING *

-- take_turns --
-- Sendings of a merchant to one user, before they are counted.
SELECT pg_advisory_xact_lock(7336, hashtext($1))

-- take_all_turns --
-- The turns of several users, and what time it is then.
WITH turns AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(7336, turn) FROM (
        SELECT DISTINCT hashtext(name) AS turn FROM unnest($1::text[]) AS name ORDER BY turn
    ) AS in_order
)
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM (SELECT count(*) FROM turns) AS taken

-- to_users --
-- As to_user, of several users ($3 and $4: appids and openids) who have been sent anything.
SELECT appid, openid, in_minute, in_day, day_fen
FROM unnest($3::text[], $4::text[]) AS users (appid, openid) CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE asked_at_ms > $5) AS in_minute, count(*) FILTER (WHERE asked_at_ms >= $6) AS in_day,
        coalesce(sum(amount_fen) FILTER (WHERE asked_at_ms >= $6), 0)::bigint AS day_fen
    FROM wechatpay_orders AS orders
    WHERE mch_id = $1 AND api = $2 AND orders.appid = users.appid AND orders.openid = users.openid
        AND asked_at_ms >= least($5::bigint, $6::bigint) AND state <> 'refused'
) AS sent
WHERE in_minute > 0 OR in_day > 0

-- add_paid_orders --
-- Orders that the same transaction pays for. Without those whose number is known.
INSERT INTO wechatpay_orders (mch_id, api, account, address, asked_at_ms, state, number, kind, terms_hash, appid, openid,
    amount_fen, count, wishing, send_name, act_name, remark, notify_url, platform_serial, packet_id, notice_due_at_ms)
SELECT $1, $2, $3, $4, $5::bigint, 'paid', asked.*, CASE WHEN asked.notify_url IS NOT NULL THEN $5::bigint END
FROM unnest($6::text[], $7::text[], $8::bytea[], $9::text[], $10::text[], $11::bigint[], $12::integer[], $13::text[],
    $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::bigint[])
    AS asked (number, kind, terms_hash, appid, openid, amount_fen, count, wishing, send_name, act_name, remark, notify_url,
        platform_serial, packet_id)
ON CONFLICT (mch_id, api, number) DO NOTHING
RETURNING order_id, packet_id

-- to_user --
-- What a merchant has sent to a user since $5 (a minute ago) and since $6 (the day's begin), without this order.
SELECT count(*) FILTER (WHERE asked_at_ms > $5) AS in_minute, count(*) FILTER (WHERE asked_at_ms >= $6) AS in_day,
    coalesce(sum(amount_fen) FILTER (WHERE asked_at_ms >= $6), 0)::bigint AS day_fen
FROM wechatpay_orders
WHERE mch_id = $1 AND api = $2 AND appid = $3 AND openid = $4 AND asked_at_ms >= least($5::bigint, $6::bigint)
    AND state <> 'refused' AND order_id <> $7

-- note_paid --
-- In the transaction that pays. No row: it was refused meanwhile, or is paid.
UPDATE wechatpay_orders SET state = 'paid', packet_id = $2 WHERE order_id = $1 AND state = 'asked' AND packet_id IS NULL
RETURNING order_id

-- note_given --
UPDATE wechatpay_orders SET state = 'given', given_at_ms = $2 WHERE order_id = $1 AND state = 'paid' RETURNING *

-- refuse --
-- What the merchant's day has counted of it is taken back ($5 is its begin).
WITH refused AS (
    UPDATE wechatpay_orders SET state = 'refused', err_code = $3, err_text = $4 WHERE order_id = $1 AND state = $2
    RETURNING mch_id, api, amount_fen
)
UPDATE wechatpay_spans AS spans SET amount_fen = spans.amount_fen - refused.amount_fen FROM refused
WHERE spans.mch_id = refused.mch_id AND spans.api = refused.api AND span = 'day' AND begins_at_ms = $5

-- unfinished --
SELECT * FROM wechatpay_orders
WHERE (state = 'asked' OR (state = 'paid' AND kind = 'transfer')) AND order_id > $1 AND asked_at_ms < $2
ORDER BY order_id LIMIT $3

-- forget_spans --
DELETE FROM wechatpay_spans WHERE begins_at_ms < $1

-- add_calls --
INSERT INTO wechatpay_calls (mch_id, at_ms, path, code, request, signed, answer, took_ms)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[])

-- calls --
SELECT call_id, mch_id, at_ms, path, code, request, signed, answer, took_ms FROM wechatpay_calls
WHERE ($1::text IS NULL OR mch_id = $1) AND ($2::text IS NULL OR code = $2) ORDER BY call_id DESC LIMIT $3

-- forget_calls --
-- Those beyond the newest $1 of each merchant that has been called.
DELETE FROM wechatpay_calls USING (
    SELECT mch_id, (array_agg(call_id ORDER BY call_id DESC))[$1::integer] AS last_kept
    FROM wechatpay_calls GROUP BY mch_id HAVING count(*) > $1::integer
) AS many
WHERE wechatpay_calls.mch_id = many.mch_id AND call_id < many.last_kept
