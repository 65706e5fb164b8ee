-- add_lanes --
INSERT INTO lanes (lane, epoch) SELECT lane, epoch FROM unnest($1::smallint[], $2::text[]) AS new (lane, epoch)
ON CONFLICT (lane) DO NOTHING

-- all --
SELECT lane, epoch, begun, position FROM lanes ORDER BY lane

-- lock --
SELECT lane, epoch, begun, position FROM lanes WHERE lane = $1 FOR UPDATE

-- mark_begun --
UPDATE lanes SET begun = TRUE WHERE lane = $1

-- checkpoint --
SELECT position FROM lanes WHERE lane = $1

-- epoch --
SELECT epoch FROM lanes WHERE lane = $1

-- lease --
SELECT pg_try_advisory_lock($1, $2)
