-- add_lanes --
INSERT INTO lanes (lane, epoch) SELECT lane, epoch FROM unnest($1::smallint[], $2::text[]) AS new (lane, epoch)
ON CONFLICT (lane) DO NOTHING

-- all --
SELECT lane, epoch, begun, position, coalesce(run_id, '') AS run_id FROM lanes ORDER BY lane

-- lock --
SELECT lane, epoch, begun, position FROM lanes WHERE lane = $1 FOR UPDATE

-- mark_begun --
UPDATE lanes SET begun = TRUE WHERE lane = $1

-- checkpoint --
SELECT position FROM lanes WHERE lane = $1

-- lease --
SELECT pg_try_advisory_lock($1, $2)

-- lane --
SELECT epoch, run_id, position FROM lanes WHERE lane = $1

-- note_run_id --
UPDATE lanes SET run_id = $4 WHERE lane = $1 AND epoch = $2 AND position = $3

-- had_epoch --
SELECT EXISTS (SELECT FROM lanes WHERE lane = $1 AND epoch = $2)
    OR EXISTS (SELECT FROM recoveries WHERE lane = $1 AND epoch_before = $2)

-- wait_for_lease --
SELECT pg_advisory_lock($1, $2)
