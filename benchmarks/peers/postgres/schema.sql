CREATE TABLE packets (
    packet_id     BIGINT PRIMARY KEY,
    expires_at_ms BIGINT NOT NULL
);
CREATE TABLE shares (
    packet_id  BIGINT NOT NULL,
    slot       INTEGER NOT NULL,
    amount_fen BIGINT NOT NULL,
    user_id    TEXT,
    claimed_at_ms BIGINT,
    PRIMARY KEY (packet_id, slot),
    UNIQUE (packet_id, user_id)
) WITH (fillfactor = 70);
CREATE INDEX shares_left ON shares (packet_id, slot) WHERE user_id IS NULL;
CREATE TABLE wallets (
    user_id     TEXT PRIMARY KEY,
    balance_fen BIGINT NOT NULL
) WITH (fillfactor = 70);
