-- settings --
SELECT name, setting FROM pg_settings WHERE name IN (
    'server_version', 'server_version_num', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level',
    'max_connections', 'superuser_reserved_connections'
)

-- state --
SELECT pg_is_in_recovery() AS is_replica, pg_database_size(current_database()) AS size_bytes,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections

-- now_ms --
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- has_schema --
SELECT to_regclass('schema_versions') IS NOT NULL

-- version --
SELECT coalesce(max(version), 0) FROM schema_versions

-- standbys --
-- A user without the right sees rows of which most is null.
SELECT count(flush_lsn) AS seen, count(*) FILTER (WHERE state IS NULL) AS hidden FROM pg_stat_replication AS standby
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = standby.pid AND slot_type = 'logical')
