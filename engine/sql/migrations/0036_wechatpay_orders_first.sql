-- An order may be written in the same transaction as its packet, and before it: engine/wechatpay/joining.py.
ALTER TABLE wechatpay_orders ALTER CONSTRAINT wechatpay_orders_packet_id_fkey DEFERRABLE INITIALLY DEFERRED;

-- The number first: it alone finds an order. With the merchant first, Postgres took this index for what a merchant has sent
-- to a user as well, and read all of the merchant's orders, until it had looked at the table (ANALYZE).
ALTER TABLE wechatpay_orders DROP CONSTRAINT wechatpay_orders_mch_id_api_number_key, ADD UNIQUE (number, mch_id, api);
