-- Where clean audits have ended, so that the next one goes on from there (engine/auditing/kept.py).

-- An anchor. Each entry up to `transfer_id` was in the ledger for good when the audit began to read, or will never be.
-- The audit saw none after `last_transfer_id`.
CREATE TABLE audits (
    audit_id         BIGINT PRIMARY KEY,
    at_ms            BIGINT NOT NULL,
    begins           BOOLEAN NOT NULL,  -- it goes on from no anchor
    is_full          BOOLEAN NOT NULL,  -- all history was walked
    walked_again     BIGINT,            -- the anchor up to which a part of history was walked once more
    transfer_id      BIGINT NOT NULL,
    last_transfer_id BIGINT NOT NULL,
    entries          BIGINT NOT NULL,   -- since the anchor before, or in all where it begins
    own_entries      BIGINT NOT NULL,   -- those of them that no batch wrote
    lanes            JSONB NOT NULL,    -- each lane's checkpoint, its hash, and how many packets it had opened and closed
    balances_digest  BYTEA NOT NULL,    -- SHA-256 over audited_balances
    key_id           TEXT NOT NULL,
    signature        BYTEA NOT NULL
);
CREATE TRIGGER audits_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Of the last anchor: each account's entries up to `transfer_id` in sum, and the head of the chain over those that no batch
-- wrote. An account without either has no row, as a packet's once it is settled.
CREATE TABLE audited_balances (
    account_id  BIGINT PRIMARY KEY,
    balance_fen BIGINT NOT NULL,
    hash        BYTEA
);
