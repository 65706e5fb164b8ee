-- Who works with the console: operators, the links with which they set up their sign-in, and their sessions.

-- password_hash and totp_secret NULL: not set up yet. totp_step: the last step whose code was used; each is used once.
CREATE TABLE operators (
    operator_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL UNIQUE,
    role            TEXT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    created_by      TEXT NOT NULL,
    password_hash   TEXT,
    totp_secret     TEXT,
    totp_step       BIGINT NOT NULL DEFAULT 0,
    language        TEXT,
    wrong_tries     INTEGER NOT NULL DEFAULT 0,
    locked_until_ms BIGINT,
    disabled_at_ms  BIGINT,
    CONSTRAINT set_up_whole CHECK ((password_hash IS NULL) = (totp_secret IS NULL))
);
-- Names stay: the log and the approvals mean the person by them.
CREATE TRIGGER operators_stay BEFORE DELETE OR TRUNCATE ON operators FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Only the hash of a link is kept. One that was used, or replaced by a newer one, is gone.
CREATE TABLE operator_links (
    operator_id   BIGINT PRIMARY KEY REFERENCES operators,
    link_hash     BYTEA NOT NULL UNIQUE,
    totp_secret   TEXT NOT NULL,  -- what the page shows, until it is proved
    expires_at_ms BIGINT NOT NULL
);

-- Only the hash of a session's token is kept. proved_at_ms: when its operator last gave a code.
CREATE TABLE operator_sessions (
    session_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_hash   BYTEA NOT NULL UNIQUE,
    operator_id  BIGINT NOT NULL REFERENCES operators,
    address      TEXT NOT NULL,
    agent        TEXT NOT NULL,
    begun_at_ms  BIGINT NOT NULL,
    seen_at_ms   BIGINT NOT NULL,
    proved_at_ms BIGINT NOT NULL,
    ended_at_ms  BIGINT
);
CREATE INDEX operator_sessions_open ON operator_sessions (operator_id, session_id DESC) WHERE ended_at_ms IS NULL;
