-- The ledger's entries in volumes. A packet's number begins with its volume, so all entries of its claims are in one, and
-- the unique indexes of each volume still hold for the whole ledger. New packets go to the last volume. So what a claim
-- costs depends on the size of the last volume, and not on the ledger's age (docs/decisions/ledger.md).

-- No identity: before Postgres 17 partitions could not have one.
ALTER TABLE transfers ALTER transfer_id DROP IDENTITY;
CREATE SEQUENCE transfer_ids;
SELECT setval('transfer_ids', max(transfer_id)) FROM transfers;  -- of none: nothing is set
ALTER SEQUENCE transfer_ids OWNED BY transfers.transfer_id;
ALTER TABLE transfers ALTER transfer_id SET DEFAULT nextval('transfer_ids');

-- The first volume is all that there was, with its indexes as they are: nothing is copied. It is read once, to see that no
-- row belongs to another volume. What people and the system's accounts pay also goes there: their ids are small.
ALTER TABLE transfers RENAME TO transfers_10;
CREATE TABLE transfers (LIKE transfers_10 INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (from_account);
ALTER SEQUENCE transfer_ids OWNED BY transfers.transfer_id;
ALTER TABLE transfers ATTACH PARTITION transfers_10 FOR VALUES FROM (MINVALUE) TO (1100000000000000000);
ALTER TRIGGER transfers_are_immutable ON transfers_10 RENAME TO entries_are_immutable;
CREATE TRIGGER transfers_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- first_transfer_id: no entry of the volume's packets has a smaller number. last_transfer_id: none ever has a larger one.
CREATE TABLE volumes (
    volume            SMALLINT PRIMARY KEY CHECK (volume BETWEEN 10 AND 91),
    first_transfer_id BIGINT NOT NULL,
    begun_at_ms       BIGINT NOT NULL,
    left_in           TEXT,   -- a transaction that was begun when the next volume was there
    last_transfer_id  BIGINT  -- NULL until its packets have settled
);
INSERT INTO volumes VALUES (10, 1, floor(extract(epoch FROM clock_timestamp()) * 1000));
CREATE TRIGGER volumes_stay BEFORE DELETE OR TRUNCATE ON volumes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER closed_volumes_stay BEFORE UPDATE ON volumes
    FOR EACH ROW WHEN (OLD.last_transfer_id IS NOT NULL) EXECUTE FUNCTION refuse_change();

-- How many entries a volume has if nobody says it: with them, the index by wallet takes half of Postgres's own memory.
CREATE FUNCTION volume_entries() RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT pg_size_bytes(current_setting('shared_buffers')) / 64
$$;

-- Begin the next volume if the last has so many entries. Returns its number, NULL if the last goes on. The last possible
-- one goes on forever. It runs with its owner's rights, because it makes a table, and only for users who may add entries.
-- It waits for nobody long: while it waits, everybody else would wait behind it.
CREATE FUNCTION begin_volume(entries_max BIGINT) RETURNS SMALLINT
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    last RECORD;
    number SMALLINT;
    used BIGINT;
BEGIN
    IF NOT has_table_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user), 'transfers', 'INSERT') THEN
        RAISE insufficient_privilege USING MESSAGE = 'only who may add entries may begin a volume';
    END IF;
    PERFORM pg_advisory_xact_lock(7316);
    SELECT volume, first_transfer_id INTO last FROM volumes ORDER BY volume DESC LIMIT 1;
    used := coalesce(pg_sequence_last_value('transfer_ids'), 0);
    IF last.volume = 91 OR used - last.first_transfer_id + 1 < coalesce(entries_max, volume_entries()) THEN
        RETURN NULL;
    END IF;
    number := last.volume + 1;
    EXECUTE format('CREATE TABLE transfers_%s (LIKE transfers INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', number);
    EXECUTE format('ALTER TABLE transfers_%s ADD PRIMARY KEY (transfer_id)', number);
    EXECUTE format(
        'CREATE UNIQUE INDEX claim_once_per_slot_%1$s ON transfers_%1$s (from_account, slot) WHERE kind = ''claim''', number
    );
    EXECUTE format(
        'CREATE UNIQUE INDEX claim_once_per_user_%1$s ON transfers_%1$s (from_account, to_account) WHERE kind = ''claim''',
        number
    );
    EXECUTE format('CREATE UNIQUE INDEX refund_once_%1$s ON transfers_%1$s (from_account) WHERE kind = ''refund''', number);
    EXECUTE format('CREATE INDEX transfers_in_%1$s ON transfers_%1$s (to_account, transfer_id)', number);
    EXECUTE format(
        'CREATE INDEX transfers_out_%1$s ON transfers_%1$s (from_account, transfer_id) WHERE kind <> ''claim''', number
    );
    EXECUTE format(
        'CREATE TRIGGER entries_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers_%s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', number
    );
    EXECUTE format(
        'ALTER TABLE transfers ATTACH PARTITION transfers_%s FOR VALUES FROM (%s) TO (%s)',
        number, number * 100000000000000000, (number + 1) * 100000000000000000
    );
    INSERT INTO volumes VALUES (number, used + 1, floor(extract(epoch FROM clock_timestamp()) * 1000));
    RETURN number;
END $$;

-- Close the volumes that get no entries any more: each packet in them has settled, so its custody is empty, and no account
-- but the bank may owe. Whoever still puts a packet there has asked for the last volume before the next was there. So it
-- has a smaller number than a transaction that was begun after that, and one is noted first. (The one that begins the next
-- volume would not do: others begin before it ends. A number from the future is of a server that this was copied from.)
-- The first volume has more than packets, and stays open. Returns how many were closed.
CREATE FUNCTION close_volumes() RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    closing RECORD;
    closed BIGINT := 0;
    last BIGINT;
BEGIN
    UPDATE volumes SET left_in = pg_current_xact_id()::text
    WHERE volume > 10 AND last_transfer_id IS NULL AND volume < (SELECT max(volume) FROM volumes)
        AND (left_in IS NULL OR left_in::xid8 >= pg_snapshot_xmax(pg_current_snapshot()));
    FOR closing IN
        SELECT volume FROM volumes
        WHERE last_transfer_id IS NULL AND left_in::xid8 < pg_snapshot_xmin(pg_current_snapshot())
        FOR UPDATE
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM packets WHERE settled_at_ms IS NULL
                AND packet_id >= closing.volume * 100000000000000000::bigint
                AND packet_id < (closing.volume + 1) * 100000000000000000::bigint
        );
        EXECUTE format('SELECT coalesce(max(transfer_id), 0) FROM transfers_%s', closing.volume) INTO last;
        UPDATE volumes SET last_transfer_id = last WHERE volume = closing.volume;
        closed := closed + 1;
    END LOOP;
    RETURN closed;
END $$;
CREATE INDEX packets_unsettled ON packets (packet_id) WHERE settled_at_ms IS NULL;

-- Postgres looks at single volumes by itself, and at all of them together only if it is told to. Without that it plans as
-- for a table of which nothing is known. Returns whether there was enough that is new, as Postgres counts it: numbers of
-- entries have gaps. Before Postgres 18 it looks at each single volume again; one that is being vacuumed is left out.
CREATE FUNCTION analyze_entries() RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    known REAL := (SELECT reltuples FROM pg_class WHERE oid = 'transfers'::regclass);
    there REAL := (
        SELECT sum(greatest(reltuples, pg_stat_get_live_tuples(oid))) FROM pg_inherits JOIN pg_class ON oid = inhrelid
        WHERE inhparent = 'transfers'::regclass
    );
BEGIN
    IF there < 1.2 * known + 1000 THEN
        RETURN FALSE;
    END IF;
    IF current_setting('server_version_num')::integer < 180000 THEN
        ANALYZE (SKIP_LOCKED) transfers;
    ELSE
        EXECUTE 'ANALYZE ONLY transfers';
    END IF;
    RETURN TRUE;
END $$;
SELECT analyze_entries();

-- These functions have their owner's rights. So they find only the ledger's tables by name, and none that a caller has made.
DO $$
DECLARE
    made TEXT;
BEGIN
    FOREACH made IN ARRAY ARRAY['begin_volume(BIGINT)', 'close_volumes()', 'analyze_entries()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', made, current_schema());
    END LOOP;
END $$;

-- A lane's packets are in as many ranges of numbers as there are volumes. So its live ones are found by the lane.
CREATE INDEX packets_live ON packets ((packet_id / 100000000000000 % 1000), packet_id) WHERE state IN ('funded', 'open');
DROP INDEX packets_open;
DROP INDEX packets_awaited;
CREATE INDEX packets_awaited ON packets ((packet_id / 100000000000000 % 1000))
    WHERE ack = 'ledger' AND state IN ('funded', 'open');
