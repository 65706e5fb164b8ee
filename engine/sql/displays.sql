-- Display names (engine/people/displays.py).

-- put --
INSERT INTO displays (user_id, name, changed_at_ms)
VALUES ($1, $2, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ON CONFLICT (user_id) DO UPDATE SET name = excluded.name, changed_at_ms = excluded.changed_at_ms

-- delete --
DELETE FROM displays WHERE user_id = $1

-- names --
SELECT user_id, name FROM displays WHERE user_id = ANY ($1::text[])
