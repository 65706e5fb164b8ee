-- Calls as WeChat Pay's (engine/wechatpay): its merchants, their orders, what limits have counted, and the last calls.

-- account: who pays. v2_key, v3_key: encrypted (AES-256-GCM) with the key of HONGBAO_WECHATPAY_KEYS that *_key_id names.
-- certificates: SHA-256 of each client certificate. rsa_public: what its calls of the third version are verified with.
CREATE TABLE wechatpay_merchants (
    mch_id        TEXT COLLATE "C" PRIMARY KEY CHECK (mch_id ~ '^[0-9]{6,32}$'),
    account       TEXT COLLATE "C" NOT NULL,
    appids        TEXT[] NOT NULL CHECK (cardinality(appids) BETWEEN 1 AND 100),
    certificates  BYTEA[] NOT NULL CHECK (cardinality(certificates) <= 16),
    is_sandbox    BOOLEAN NOT NULL,
    is_closed     BOOLEAN NOT NULL,
    v2_key_id     TEXT NOT NULL,
    v2_key        BYTEA NOT NULL,
    v3_key_id     TEXT NOT NULL,
    v3_key        BYTEA NOT NULL,
    rsa_public    TEXT,
    rsa_serial_no TEXT,
    CHECK ((rsa_public IS NULL) = (rsa_serial_no IS NULL)),
    created_at_ms BIGINT NOT NULL,
    changed_at_ms BIGINT NOT NULL
);
CREATE TRIGGER wechatpay_merchants_stay BEFORE DELETE OR TRUNCATE ON wechatpay_merchants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- api: which calls made it; number: the merchant's own (mch_billno, partner_trade_no), one namespace per api.
-- state: asked -> paid (in the transaction that pays) -> given (only payments to change), or refused (with err_code; without
-- a packet it may be asked again).
CREATE TABLE wechatpay_orders (
    order_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mch_id      TEXT COLLATE "C" NOT NULL REFERENCES wechatpay_merchants,
    api         TEXT NOT NULL CHECK (api IN ('redpack', 'transfer', 'bill')),
    number      TEXT COLLATE "C" NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('normal', 'group', 'transfer', 'bill')),
    terms_hash  BYTEA NOT NULL CHECK (length(terms_hash) = 32),
    account     TEXT COLLATE "C" NOT NULL,
    address     TEXT NOT NULL,
    appid       TEXT COLLATE "C" NOT NULL,
    openid      TEXT COLLATE "C" NOT NULL,
    amount_fen  BIGINT NOT NULL CHECK (amount_fen > 0),
    count       INTEGER NOT NULL CHECK (count > 0),
    wishing     TEXT NOT NULL,
    send_name   TEXT NOT NULL,
    act_name    TEXT NOT NULL,
    remark      TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'paid', 'given', 'refused')),
    err_code    TEXT,
    err_text    TEXT,
    packet_id   BIGINT UNIQUE REFERENCES packets,
    asked_at_ms BIGINT NOT NULL,
    given_at_ms BIGINT,
    -- Of bills: where and by which key the end is told, when the next try is due (null: none), and who has asked for an end.
    notify_url       TEXT,
    platform_serial  TEXT,
    notice_due_at_ms BIGINT,
    notice_tries     INTEGER NOT NULL DEFAULT 0,
    cancelled_at_ms  BIGINT,
    UNIQUE (mch_id, api, number),
    CHECK (state NOT IN ('paid', 'given') OR packet_id IS NOT NULL),
    CHECK ((state = 'refused') = (err_code IS NOT NULL))
);
CREATE INDEX wechatpay_orders_to_user ON wechatpay_orders (mch_id, api, appid, openid, asked_at_ms);
CREATE INDEX wechatpay_orders_open ON wechatpay_orders (order_id)
    WHERE state = 'asked' OR (state = 'paid' AND kind = 'transfer');
CREATE INDEX wechatpay_orders_to_tell ON wechatpay_orders (notice_due_at_ms) WHERE notice_due_at_ms IS NOT NULL;
CREATE TRIGGER wechatpay_orders_stay BEFORE DELETE OR TRUNCATE ON wechatpay_orders
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The key that signs answers and notices of the third version. private: encrypted as merchants' keys are.
CREATE TABLE wechatpay_platform (
    one           BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    serial_no     TEXT NOT NULL,
    certificate   TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    private       BYTEA NOT NULL
);

-- Calls of the third version that were proven to be their merchant's lately: none is taken twice.
CREATE TABLE wechatpay_nonces (
    mch_id TEXT COLLATE "C" NOT NULL,
    nonce  TEXT COLLATE "C" NOT NULL,
    at_ms  BIGINT NOT NULL,
    PRIMARY KEY (mch_id, nonce)
);
CREATE INDEX wechatpay_nonces_by_age ON wechatpay_nonces (at_ms);

-- What a merchant has sent in a minute or a day. Old rows are forgotten.
CREATE TABLE wechatpay_spans (
    mch_id       TEXT COLLATE "C" NOT NULL,
    api          TEXT NOT NULL,
    span         TEXT NOT NULL CHECK (span IN ('minute', 'day')),
    begins_at_ms BIGINT NOT NULL,
    sends        BIGINT NOT NULL,
    amount_fen   BIGINT NOT NULL,
    PRIMARY KEY (mch_id, api, span, begins_at_ms)
);
CREATE INDEX wechatpay_spans_by_age ON wechatpay_spans (begins_at_ms);

-- The last calls of each merchant, for a developer who asks why. No keys and no signatures that are right.
CREATE TABLE wechatpay_calls (
    call_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mch_id    TEXT COLLATE "C" NOT NULL,
    at_ms     BIGINT NOT NULL,
    path      TEXT NOT NULL,
    code      TEXT NOT NULL,
    request   TEXT NOT NULL,
    signed    TEXT,
    answer    TEXT NOT NULL,
    took_ms   INTEGER NOT NULL
);
CREATE INDEX wechatpay_calls_of ON wechatpay_calls (mch_id, call_id DESC);
