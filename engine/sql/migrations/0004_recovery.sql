-- Lanes that Redis lost, and which Redis process each lane was verified on.

-- The run id of the Redis process whose data was compared with the ledger; '' when none was yet. With the epoch it is
-- the lane's word: a persister commits only what it read under the word that stands here.
ALTER TABLE lanes ADD COLUMN run_id TEXT NOT NULL DEFAULT '';

-- One row each time a lane is rebuilt from the ledger. Written with the new epoch, before Redis is touched; the counts
-- come when it is done, and stay NULL when it was broken off (the next one begins anew).
CREATE TABLE recoveries (
    recovery_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane          SMALLINT NOT NULL,
    epoch_before  TEXT NOT NULL,
    epoch         TEXT NOT NULL,
    position      BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    changes_lost  BIGINT,  -- emitted by Redis and never seen by the ledger; NULL when nobody knows
    started_at_ms BIGINT NOT NULL,
    ended_at_ms   BIGINT,
    packets       BIGINT,  -- rebuilt
    claims        BIGINT,  -- put back
    shares_left   BIGINT
);
CREATE INDEX recoveries_of_lane ON recoveries (lane, epoch_before);

-- What a lane's rebuilding goes through.
CREATE INDEX packets_open ON packets (packet_id) WHERE state = 'open';
