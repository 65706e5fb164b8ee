-- Runs of reconciliation and of audits as they came out (engine/auditing/runs.py). Rows are never changed.

-- comparisons: as `hongbao reconcile --json` has them, each difference with its packet, user or withdrawal.
CREATE TABLE reconciliations (
    reconciliation_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day              DATE NOT NULL,
    run              INTEGER NOT NULL,  -- the first of a day is 1
    started_at_ms    BIGINT NOT NULL,
    ended_at_ms      BIGINT NOT NULL,
    run_by           TEXT NOT NULL,     -- an operator, or `daily`
    is_provisional   BOOLEAN NOT NULL,  -- the day was not closed
    difference_count BIGINT NOT NULL,
    comparisons      JSONB NOT NULL,
    UNIQUE (day, run)
);
CREATE TRIGGER reconciliations_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Why a difference is none to worry about. It is about one comparison of one run: a later run is explained anew.
CREATE TABLE reconciliation_reasons (
    reason_id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reconciliation_id BIGINT NOT NULL REFERENCES reconciliations,
    comparison        TEXT NOT NULL,
    reason            TEXT NOT NULL,
    explained_by      TEXT NOT NULL,
    explained_at_ms   BIGINT NOT NULL
);
CREATE INDEX reconciliation_reasons_of_run ON reconciliation_reasons (reconciliation_id, reason_id);
CREATE TRIGGER reconciliation_reasons_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_reasons
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- `audits` holds the anchors of clean audits. This holds what each run found, clean or not.
CREATE TABLE audit_runs (
    audit_run_id  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at_ms BIGINT NOT NULL,
    ended_at_ms   BIGINT NOT NULL,
    run_by        TEXT NOT NULL,
    is_full       BOOLEAN NOT NULL,  -- all history was examined
    scope         TEXT NOT NULL,
    not_kept      TEXT,              -- why no anchor was kept
    problem_count BIGINT NOT NULL,
    findings      JSONB NOT NULL     -- as `hongbao audit --json` has them
);
CREATE TRIGGER audit_runs_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_runs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
