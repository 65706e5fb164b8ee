-- written --
-- As a number: asyncpg would have to ask what a pg_lsn is.
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint

-- flushed --
-- Up to where the standby of this rank, and every better one, has Postgres's log on its disk. Whoever only reads
-- changes (a subscriber, change data capture) is no standby.
SELECT (flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_stat_replication AS standby WHERE flush_lsn IS NOT NULL
AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = standby.pid AND slot_type = 'logical')
ORDER BY flush_lsn DESC OFFSET $1::int - 1 LIMIT 1
