-- What operators did and looked at, and what waits for a second pair of eyes.

-- One row before an action (outcome 'asked'), one after it (about: the row before). A look and an export have rows, too.
-- Each hash covers the row and the hash before it (engine/operators/chain.py says of what exactly).
CREATE TABLE operator_log (
    number       BIGINT PRIMARY KEY,
    at_ms        BIGINT NOT NULL,
    operator     TEXT COLLATE "C" NOT NULL,
    role         TEXT NOT NULL,
    session_id   BIGINT,
    address      TEXT NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id   TEXT COLLATE "C" NOT NULL,
    arguments    TEXT NOT NULL,  -- JSON, without secrets
    reason       TEXT NOT NULL,
    outcome      TEXT NOT NULL CHECK (outcome IN ('asked', 'ok', 'refused', 'failed')),
    told         TEXT NOT NULL,  -- why it was refused, or what came of it
    approval_id  BIGINT,
    about        BIGINT,
    hash         BYTEA NOT NULL
);
CREATE INDEX operator_log_of_operator ON operator_log (operator, number DESC);
CREATE INDEX operator_log_of_action ON operator_log (action, number DESC);
CREATE INDEX operator_log_of_subject ON operator_log (subject_kind, subject_id, number DESC);
CREATE TRIGGER operator_log_is_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row: the log's end. Its lock orders the writers.
CREATE TABLE operator_log_head (
    number BIGINT NOT NULL,
    hash   BYTEA NOT NULL
);
INSERT INTO operator_log_head VALUES (0, '');
CREATE TRIGGER operator_log_head_stays BEFORE DELETE OR TRUNCATE ON operator_log_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- waiting -> executed | refused | withdrawn. Whether a waiting one has expired, its time says.
CREATE TABLE approvals (
    approval_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action         TEXT COLLATE "C" NOT NULL,
    subject_kind   TEXT NOT NULL,
    subject_id     TEXT COLLATE "C" NOT NULL,
    arguments      TEXT NOT NULL,  -- JSON, exactly as it will be executed
    arguments_hash BYTEA NOT NULL,
    reason         TEXT NOT NULL,
    asked_by       TEXT COLLATE "C" NOT NULL,
    asked_at_ms    BIGINT NOT NULL,
    expires_at_ms  BIGINT NOT NULL,
    state          TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'executed', 'refused', 'withdrawn')),
    decided_by     TEXT COLLATE "C",
    decided_at_ms  BIGINT,
    decided_reason TEXT,
    result         TEXT,
    CONSTRAINT decided_is_told CHECK (
        (state = 'waiting') = (decided_by IS NULL) AND (state = 'waiting') = (decided_at_ms IS NULL)
    ),
    CONSTRAINT two_pairs_of_eyes CHECK (state <> 'executed' OR decided_by <> asked_by)
);
CREATE INDEX approvals_waiting ON approvals (approval_id DESC) WHERE state = 'waiting';
CREATE TRIGGER approvals_stay BEFORE DELETE OR TRUNCATE ON approvals FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_changed_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'waiting' OR (NEW.action, NEW.subject_kind, NEW.subject_id, NEW.arguments, NEW.arguments_hash,
            NEW.reason, NEW.asked_by, NEW.asked_at_ms, NEW.expires_at_ms)
        IS DISTINCT FROM (OLD.action, OLD.subject_kind, OLD.subject_id, OLD.arguments, OLD.arguments_hash,
            OLD.reason, OLD.asked_by, OLD.asked_at_ms, OLD.expires_at_ms) THEN
        RAISE EXCEPTION 'what an approval is about, and how it was decided, never changes';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approvals_keep_what_was_asked BEFORE UPDATE ON approvals
    FOR EACH ROW EXECUTE FUNCTION refuse_changed_approval();
