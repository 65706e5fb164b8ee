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

-- Which operator works on an alert or a dispute. Postgres keeps the name only: an operator's name is never given twice.
ALTER TABLE alerts ADD COLUMN assigned_to TEXT COLLATE "C";
ALTER TABLE disputes ADD COLUMN assigned_to TEXT COLLATE "C";
CREATE INDEX alerts_assigned ON alerts (assigned_to, alert_id) WHERE assigned_to IS NOT NULL;
CREATE INDEX alerts_waiting_for_nobody ON alerts (alert_id) WHERE acknowledged_at_ms IS NULL AND assigned_to IS NULL;
CREATE INDEX disputes_open_assigned ON disputes (assigned_to, deadline_at_ms, dispute_id)
    WHERE state = 'open' AND assigned_to IS NOT NULL;
CREATE INDEX disputes_decided_assigned ON disputes (assigned_to, decided_at_ms, dispute_id)
    WHERE state <> 'open' AND assigned_to IS NOT NULL;
CREATE INDEX disputes_open_for_nobody ON disputes (deadline_at_ms, dispute_id) WHERE state = 'open' AND assigned_to IS NULL;
