-- Deadlines that depend on a plan of working days which is not out: they are computed again when it is.

ALTER TABLE disputes
    ADD COLUMN deadline_is_provisional BOOLEAN NOT NULL DEFAULT FALSE,
    -- How many working days they are, as the settings were at the filing; NULL in rows from before this migration.
    ADD COLUMN earliest_days INTEGER,
    ADD COLUMN deadline_days INTEGER;

-- Releases up to this one knew the plan of 2026: 2027's can change the days from 25 December on, China's time.
UPDATE disputes SET deadline_is_provisional = TRUE
WHERE state = 'open' AND kind <> 'system_fault' AND deadline_at_ms > 1798128000000;

CREATE INDEX disputes_provisional ON disputes (dispute_id) WHERE deadline_is_provisional AND state = 'open';
