-- Tamper evidence, and what becomes of changes in quarantine.
--
-- Each batch carries a hash over the batch before it in its lane, its own row, and every row that it wrote
-- (engine/ledger/chain.py says of what exactly). What no batch writes (deposits, sends, write-offs) is chained by the account
-- it goes out of. What was there before this migration is not in the chains: they begin after it.

ALTER TABLE batches ADD COLUMN hash BYTEA;  -- NULL up to the lane's chained_from
ALTER TABLE lanes
    ADD COLUMN hash BYTEA,  -- of the last batch; NULL before the first that is chained
    ADD COLUMN chained_from BIGINT NOT NULL DEFAULT 0;
UPDATE lanes SET chained_from = position;

-- The head of the chain over the account's outgoing transfers that no batch wrote.
ALTER TABLE accounts ADD COLUMN hash BYTEA;

-- Beside `transfers`, not in it: another column there would make every claim's row 8 bytes longer.
CREATE TABLE transfer_hashes (
    transfer_id BIGINT PRIMARY KEY,
    hash        BYTEA NOT NULL
);
CREATE TRIGGER transfer_hashes_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer_hashes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row: the last transfer that was there when the chains began.
CREATE TABLE chained_after (
    transfer_id BIGINT NOT NULL
);
INSERT INTO chained_after SELECT coalesce(max(transfer_id), 0) FROM transfers;

-- Custody to the quarantine account: money that a change in quarantine was about, given up as a claim.
ALTER TYPE transfer_kind ADD VALUE 'write_off';

-- A row is open until it is retried (the ledger took the change after all) or written off. Only these columns ever
-- change, once; the others are in the chain of the batch that set the change aside.
ALTER TABLE quarantine
    ADD COLUMN state TEXT,  -- of an ending, as is remaining_count; NULL in rows from before this migration
    ADD COLUMN remaining_count INTEGER,
    ADD COLUMN resolution TEXT CHECK (resolution IN ('retried', 'written_off')),
    ADD COLUMN resolved_at_ms BIGINT,
    ADD COLUMN resolved_by TEXT,
    ADD COLUMN resolution_reason TEXT,
    ADD COLUMN moved_fen BIGINT,  -- by a write-off
    -- Whether the ledger is now where the change wanted it: a retry, or a write-off that ended its packet.
    ADD COLUMN took_effect BOOLEAN NOT NULL DEFAULT FALSE,
    ADD CONSTRAINT resolved_is_told CHECK (
        (resolution IS NULL) = (resolved_at_ms IS NULL) AND (resolution IS NULL) = (resolved_by IS NULL)
    );
CREATE INDEX quarantine_open ON quarantine (lane) WHERE resolution IS NULL;
CREATE INDEX quarantine_of_packet ON quarantine (packet_id);
CREATE TRIGGER quarantine_rows_stay BEFORE DELETE OR TRUNCATE ON quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
