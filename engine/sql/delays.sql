-- delay --
SELECT arrives_after_s FROM arrival_delays WHERE user_id = $1 ORDER BY change_id DESC LIMIT 1

-- changes_since --
SELECT count(*) FROM arrival_delays WHERE user_id = $1 AND changed_at_ms >= $2

-- change_delay --
INSERT INTO arrival_delays (user_id, arrives_after_s, changed_at_ms) VALUES ($1, $2, $3)
