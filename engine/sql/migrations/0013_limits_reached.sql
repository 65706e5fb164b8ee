-- Freezes that are made meanwhile take turns with this, as with each other (freezes.sql): a lane never asks for a change with a
-- smaller number than the last that it has.
SELECT pg_advisory_xact_lock(7311);

-- Who has received as much as they may in a day: each change of it, in the order of commits. Every lane in Redis follows it.
CREATE TABLE limits_reached (
    change_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      TEXT COLLATE "C" NOT NULL,
    is_reached   BOOLEAN NOT NULL,  -- FALSE: the limit was changed, and is not reached any more
    limit_fen    BIGINT NOT NULL,
    received_fen BIGINT NOT NULL,
    at_ms        BIGINT NOT NULL,
    until_ms     BIGINT NOT NULL    -- the day's end
);
CREATE INDEX limits_reached_of_user ON limits_reached (user_id, change_id DESC);

-- It was a freeze before, which a job had to lift.
INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms)
SELECT user_id, TRUE, fen, fen, frozen_at_ms, until_ms
FROM freezes, CAST(substring(reason FROM '[0-9]+') AS BIGINT) AS fen
WHERE frozen_by = 'rule:day_received' AND lifted_at_ms IS NULL AND until_ms IS NOT NULL
ORDER BY freeze_id;

UPDATE freezes
SET lifted_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000), lifted_by = 'upgrade',
    lifted_reason = 'a limit that is reached is no freeze any more'
WHERE frozen_by = 'rule:day_received' AND lifted_at_ms IS NULL;

INSERT INTO freeze_changes (user_id, is_frozen)
SELECT user_id, FALSE FROM freeze_changes
GROUP BY user_id HAVING (array_agg(is_frozen ORDER BY change_id DESC))[1] AND NOT EXISTS (
    SELECT FROM freezes
    WHERE freezes.user_id = freeze_changes.user_id AND scope IN ('account', 'receiving') AND lifted_at_ms IS NULL
);

-- Only a freeze whose end stands where it is looked at may end by itself: a sender's, in the wallet's row.
ALTER TABLE freezes ADD CONSTRAINT ends_by_itself
    CHECK (until_ms IS NULL OR scope = 'sending' OR frozen_by = 'rule:day_received');
