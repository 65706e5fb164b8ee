-- written --
-- As a number: asyncpg would have to ask what a pg_lsn is.
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint

-- flushed --
-- Up to where the standby of this rank, and every better one, has Postgres's log on its disk.
SELECT (flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_stat_replication WHERE flush_lsn IS NOT NULL
ORDER BY flush_lsn DESC OFFSET $1::int - 1 LIMIT 1
