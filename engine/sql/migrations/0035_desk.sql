-- What operators have before them: which approvals they may decide, and what is found by its name.

-- Approvals that wait, by when they end: how many an operator may decide is counted from it alone.
CREATE INDEX approvals_to_decide ON approvals (expires_at_ms) INCLUDE (action, asked_by) WHERE state = 'waiting';

-- What is found by how its name begins, in the order of bytes. Of letters only those of ASCII have a small form here.
CREATE INDEX campaigns_by_name ON campaigns (lower(name COLLATE "C"), campaign_id);
CREATE INDEX coupon_batches_by_name ON coupon_batches (lower(name COLLATE "C"), batch_id);
CREATE INDEX fundraisers_by_title ON fundraisers (lower(title COLLATE "C"), fundraiser_id);
CREATE INDEX displays_by_name ON displays (lower(name COLLATE "C"), user_id);
-- A merchant's own number of an order, without the merchant.
CREATE INDEX wechatpay_orders_by_number ON wechatpay_orders (number);
