-- The ledger's volumes (migrations/0014_volumes.sql).

-- last --
SELECT max(volume) FROM volumes

-- begin_next --
SELECT begin_volume($1)

-- filled --
-- The last volume, how many entries the ledger has got since it began, and how many fit.
SELECT volume, (SELECT last_value FROM transfer_ids) - first_transfer_id + 1 AS entries, volume_entries() AS fitting
FROM volumes ORDER BY volume DESC LIMIT 1
