-- The names under which others see users. Personal data: it stands by itself, it can be deleted, and neither entries, events,
-- hashes nor receipts hold it. No audit needs it.
CREATE TABLE displays (
    user_id       TEXT COLLATE "C" PRIMARY KEY,
    name          TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 32),
    changed_at_ms BIGINT NOT NULL
);
