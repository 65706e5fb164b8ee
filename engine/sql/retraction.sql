-- ask --
-- Written before Redis is asked. A retraction that was refused may be requested again.
INSERT INTO retractions (packet_id, sender, asked_at_ms) VALUES ($1, $2, $3)
ON CONFLICT (packet_id) DO UPDATE SET outcome = NULL, asked_at_ms = excluded.asked_at_ms
WHERE retractions.outcome = 'refused'

-- end --
UPDATE retractions SET outcome = $2 WHERE packet_id = $1

-- is_stopped --
-- Whether such a freeze is already in force.
SELECT EXISTS (
    SELECT FROM freezes
    WHERE user_id = $1 AND frozen_by = 'rule:take_backs' AND lifted_at_ms IS NULL AND until_ms > $2::bigint
)

-- since --
SELECT count(*) FROM retractions WHERE sender = $1 AND asked_at_ms > $2 AND outcome IS DISTINCT FROM 'refused'
