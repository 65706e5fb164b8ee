-- The ledger: accounts, the transfers between them, packets, and each lane's checkpoint.
-- Amounts are fen (BIGINT), times are milliseconds since the epoch (BIGINT).

CREATE TYPE account_kind AS ENUM ('bank', 'fee', 'quarantine', 'wallet', 'custody');

-- Ids: 1 bank, 2 fee, 3 quarantine; wallets from 1,000 up; a packet's custody has the packet's own number.
CREATE TABLE accounts (
    account_id  BIGINT PRIMARY KEY,
    kind        account_kind NOT NULL,
    owner       TEXT COLLATE "C",  -- the user, for a wallet
    balance_fen BIGINT NOT NULL DEFAULT 0,
    -- Only the bank, which is the outside world, may owe.
    CONSTRAINT balance_not_negative CHECK (kind = 'bank' OR balance_fen >= 0),
    CONSTRAINT wallet_has_owner CHECK ((kind = 'wallet') = (owner IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX accounts_wallet_owner ON accounts (owner) WHERE kind = 'wallet';
CREATE SEQUENCE wallet_ids START 1000;
INSERT INTO accounts (account_id, kind) VALUES (1, 'bank'), (2, 'fee'), (3, 'quarantine');

CREATE TYPE packet_state AS ENUM ('funded', 'open', 'exhausted', 'expired', 'retracted');

-- funded -> open -> exhausted | expired | retracted. settled_at_ms: when its custody was found empty after the end.
CREATE TABLE packets (
    packet_id       BIGINT PRIMARY KEY,
    sender          TEXT COLLATE "C" NOT NULL,
    split           TEXT NOT NULL,
    total_fen       BIGINT NOT NULL CHECK (total_fen > 0),
    count           INTEGER NOT NULL CHECK (count > 0),
    min_fen         BIGINT NOT NULL CHECK (min_fen > 0),
    max_fen         BIGINT NOT NULL CHECK (max_fen >= min_fen),
    greeting        TEXT NOT NULL,
    recipients      TEXT[] NOT NULL,
    seed            BYTEA NOT NULL CHECK (length(seed) = 32),
    commitment      BYTEA NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT NOT NULL,
    state           packet_state NOT NULL DEFAULT 'funded',
    remaining_count INTEGER,  -- set when it ends
    remaining_fen   BIGINT,
    ended_at_ms     BIGINT,
    settled_at_ms   BIGINT,
    CONSTRAINT ended_says_what_remained CHECK (
        (state IN ('funded', 'open')) = (ended_at_ms IS NULL)
        AND (ended_at_ms IS NULL) = (remaining_count IS NULL)
        AND (ended_at_ms IS NULL) = (remaining_fen IS NULL)
    )
) WITH (fillfactor = 80);
CREATE INDEX packets_funded ON packets (packet_id) WHERE state = 'funded';
CREATE INDEX packets_by_sender ON packets (sender, created_at_ms DESC, packet_id DESC);

CREATE TYPE transfer_kind AS ENUM ('deposit', 'send', 'claim', 'refund');

-- Movements of money; one that is written never changes. A claim is its transfer from custody to wallet.
-- No foreign keys: the persister writes both sides by id and checks that it found them; the audit looks for strays.
CREATE TABLE transfers (
    transfer_id  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         transfer_kind NOT NULL,
    from_account BIGINT NOT NULL,
    to_account   BIGINT NOT NULL,
    amount_fen   BIGINT NOT NULL CHECK (amount_fen > 0),
    at_ms        BIGINT NOT NULL,
    slot         INTEGER,  -- of a claim
    position     BIGINT,   -- of the event it came from, in the lane of the packet; NULL for deposits and sends
    CONSTRAINT claims_have_a_slot CHECK ((kind = 'claim') = (slot IS NOT NULL)),
    CONSTRAINT to_another CHECK (from_account <> to_account)
);
CREATE UNIQUE INDEX claim_once_per_slot ON transfers (from_account, slot) WHERE kind = 'claim';
CREATE UNIQUE INDEX claim_once_per_user ON transfers (from_account, to_account) WHERE kind = 'claim';
CREATE UNIQUE INDEX refund_once ON transfers (from_account) WHERE kind = 'refund';
CREATE INDEX transfers_in ON transfers (to_account, transfer_id);
CREATE INDEX transfers_out ON transfers (from_account, transfer_id) WHERE kind <> 'claim';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a % is never changed or removed', TG_TABLE_NAME;
END $$;
CREATE TRIGGER transfers_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Where each lane's ledger has come to. `position` counts the lane's changes; Redis must be of the same epoch.
CREATE TABLE lanes (
    lane       SMALLINT PRIMARY KEY CHECK (lane BETWEEN 0 AND 999),
    epoch      TEXT NOT NULL,
    begun      BOOLEAN NOT NULL DEFAULT FALSE,  -- its Redis side was written once; if it is gone, it was lost
    position   BIGINT NOT NULL DEFAULT 0
);

-- One row a committed transaction of the persister, with how many changes of each kind the ledger took; it joins on to
-- the row before without a gap. A close with nothing left to refund has no refund.
CREATE TABLE batches (
    lane            SMALLINT NOT NULL,
    position        BIGINT NOT NULL,
    position_before BIGINT NOT NULL,
    opened          INTEGER NOT NULL,
    claims          INTEGER NOT NULL,
    closed          INTEGER NOT NULL,
    refunds         INTEGER NOT NULL,
    quarantined     INTEGER NOT NULL,
    PRIMARY KEY (lane, position),
    CONSTRAINT moves_on CHECK (position = position_before + opened + claims + closed + quarantined)
);
CREATE TRIGGER batches_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Changes that broke a rule of the ledger: set aside with the reason, so that the lane goes on.
CREATE TABLE quarantine (
    quarantine_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane          SMALLINT NOT NULL,
    position      BIGINT NOT NULL,
    packet_id     BIGINT NOT NULL,
    kind          TEXT NOT NULL,
    user_id       TEXT,
    slot          INTEGER,
    amount_fen    BIGINT,
    at_ms         BIGINT NOT NULL,
    reason        TEXT NOT NULL
);

-- Answers kept so that a request repeated with its Idempotency-Key is answered alike and done once.
CREATE TABLE idempotency (
    principal     TEXT COLLATE "C" NOT NULL,
    operation     TEXT NOT NULL,
    key           TEXT COLLATE "C" NOT NULL,
    request_hash  BYTEA NOT NULL,
    answer        JSONB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (principal, operation, key)
);
