-- The platform's key can be followed by a next one. signs_from_ms: until then it is only published. At most two are in force.
ALTER TABLE wechatpay_platform DROP COLUMN one,
    ADD PRIMARY KEY (serial_no),
    ADD COLUMN signs_from_ms BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN retired_at_ms BIGINT;
ALTER TABLE wechatpay_platform ALTER signs_from_ms DROP DEFAULT;
