-- What operators look up over all users: lists by keyset, each with an index that gives its order (docs/console.md).
-- None of these indexes is on `transfers`: a claim costs what it did.

-- Packets by state and time. A list of several states merges one walk per state.
CREATE INDEX packets_by_state ON packets (state, created_at_ms DESC, packet_id DESC) INCLUDE (total_fen);
-- Ended, and the custody is not empty yet. Most packets settle in the statement after the one that ends them.
CREATE INDEX packets_refunds_waiting ON packets (ended_at_ms, packet_id)
    WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL;

CREATE INDEX freezes_in_force_by_number ON freezes (freeze_id) WHERE lifted_at_ms IS NULL;
CREATE INDEX withdrawals_failed ON withdrawals (withdrawal_id) WHERE state = 'failed';

CREATE INDEX disputes_decided ON disputes (decided_at_ms, dispute_id) WHERE state <> 'open';
CREATE INDEX disputes_of_packet ON disputes (packet_id, dispute_id);
CREATE INDEX disputes_against ON disputes (counterparty, dispute_id) WHERE counterparty IS NOT NULL;
CREATE INDEX debts_to_creditor ON debts (creditor);

-- An alert waits until somebody says that they have seen it.
ALTER TABLE alerts
    ADD COLUMN acknowledged_at_ms BIGINT,
    ADD COLUMN acknowledged_by TEXT,
    ADD COLUMN acknowledged_note TEXT,
    ADD CONSTRAINT acknowledged_is_told CHECK ((acknowledged_at_ms IS NULL) = (acknowledged_by IS NULL));
CREATE INDEX alerts_waiting ON alerts (alert_id) WHERE acknowledged_at_ms IS NULL;
CREATE INDEX alerts_by_user ON alerts (user_id, alert_id) WHERE user_id IS NOT NULL;
CREATE INDEX alerts_by_kind ON alerts (kind, alert_id);

CREATE INDEX quarantine_by_lane ON quarantine (lane, quarantine_id);
CREATE INDEX quarantine_open_by_number ON quarantine (quarantine_id) WHERE resolution IS NULL;

-- What operators write down about a user or a packet. A note is never changed: whoever errs writes another.
CREATE TABLE notes (
    note_id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_kind TEXT NOT NULL CHECK (subject_kind IN ('user', 'packet')),
    subject      TEXT COLLATE "C" NOT NULL,
    written_at_ms BIGINT NOT NULL,
    written_by   TEXT NOT NULL,
    note         TEXT NOT NULL
);
CREATE INDEX notes_of_subject ON notes (subject_kind, subject, note_id DESC);
CREATE TRIGGER notes_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON notes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
