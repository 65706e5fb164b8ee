-- add_lanes --
-- One epoch for each lane from 0 on. Arrays of numbers would be asked about in the catalogue first, by each new process.
INSERT INTO lanes (lane, epoch) SELECT number - 1, epoch FROM unnest($1::text[]) WITH ORDINALITY AS new (epoch, number)
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
