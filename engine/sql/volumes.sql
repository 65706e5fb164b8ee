-- The ledger's volumes (migrations/0014_volumes.sql).

-- last --
SELECT max(volume) FROM volumes

-- begin_next --
SELECT begin_volume($1)

-- close --
SELECT close_volumes()

-- all --
SELECT volume, first_transfer_id, last_transfer_id FROM volumes ORDER BY volume DESC

-- analyze --
SELECT analyze_entries()

-- filled --
-- The last volume, how many entries the ledger has got since it began, and how many fit.
SELECT volume, coalesce(pg_sequence_last_value('transfer_ids'), 0) - first_transfer_id + 1 AS entries, volume_entries() AS fitting
FROM volumes ORDER BY volume DESC LIMIT 1
