-- Entries of a lane's stream that stopped it and were set aside, as they were. No event of the lane: somebody else wrote
-- it, or no release could read it.

CREATE TABLE entries_aside (
    aside_id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane              SMALLINT NOT NULL,
    entry_id          TEXT NOT NULL,   -- as Redis had it
    fields            BYTEA[] NOT NULL, -- names and values in turn
    changes           INTEGER NOT NULL, -- of the lane, that it was in the place of; 0: the lane never counted it
    changes_found     INTEGER NOT NULL, -- of these, which Redis itself still showed; the others are in quarantine
    found             TEXT NOT NULL,   -- what was wrong with it
    set_aside_at_ms   BIGINT NOT NULL,
    set_aside_by      TEXT NOT NULL,
    reason            TEXT NOT NULL    -- whoever set it aside gave it
);
CREATE TRIGGER entries_aside_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON entries_aside
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Changes of which only the number is known, because their event could not be read, are about no packet.
ALTER TABLE quarantine
    ALTER COLUMN packet_id DROP NOT NULL,
    ADD CONSTRAINT packet_is_told CHECK (packet_id IS NOT NULL OR kind = 'unreadable');
