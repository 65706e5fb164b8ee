-- Coupons: a batch is an asset of scale 0, and each unit of it is a coupon with a number from 1 up to the batch's count. The
-- ledger says how many coupons a user holds, and these tables say which.

-- face: amount_off (off_fen), percent_off (percent), threshold (off_fen from from_fen on), text (its words).
-- key_id: the key that makes, hides and finds its codes. uploaded: how many codes there are, of uploaded ones.
-- unsent_expired: how many expired that nobody was given. never_uploaded: how many more expired without a code.
-- closed_at_ms: when nobody had any left.
CREATE TABLE coupon_batches (
    batch_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset           TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES assets,
    owner           TEXT COLLATE "C" NOT NULL,
    name            TEXT NOT NULL,
    face            TEXT NOT NULL CHECK (face IN ('amount_off', 'percent_off', 'threshold', 'text')),
    off_fen         BIGINT,
    from_fen        BIGINT,
    percent         SMALLINT,
    words           TEXT,
    count           INTEGER NOT NULL CHECK (count BETWEEN 1 AND 10000000),
    codes           TEXT NOT NULL CHECK (codes IN ('derived', 'uploaded')),
    key_id          TEXT NOT NULL,
    is_transferable BOOLEAN NOT NULL,
    valid_from_ms   BIGINT NOT NULL,
    valid_until_ms  BIGINT NOT NULL CHECK (valid_until_ms > valid_from_ms),
    created_at_ms   BIGINT NOT NULL,
    uploaded        INTEGER NOT NULL DEFAULT 0 CHECK (uploaded BETWEEN 0 AND count),
    unsent_expired  INTEGER NOT NULL DEFAULT 0 CHECK (unsent_expired BETWEEN 0 AND count),
    never_uploaded  INTEGER NOT NULL DEFAULT 0,
    closed_at_ms    BIGINT,
    CONSTRAINT some_are_never_uploaded CHECK (never_uploaded BETWEEN 0 AND count - uploaded),
    CONSTRAINT only_uploaded_codes_are_uploaded CHECK (codes = 'uploaded' OR uploaded + never_uploaded = 0)
);
CREATE INDEX coupon_batches_of_owner ON coupon_batches (owner, batch_id DESC);
CREATE INDEX coupon_batches_open ON coupon_batches (valid_until_ms) WHERE closed_at_ms IS NULL;
CREATE TRIGGER coupon_batches_stay BEFORE DELETE OR TRUNCATE ON coupon_batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Codes that were uploaded. sealed: encrypted, with what that needs. hash: keyed, so that no code is in a batch twice and a
-- code is found, and nobody without the key can try codes.
CREATE TABLE coupon_codes (
    batch_id BIGINT NOT NULL,
    number   INTEGER NOT NULL,
    hash     BYTEA NOT NULL,
    sealed   BYTEA NOT NULL,
    PRIMARY KEY (batch_id, number)
);
CREATE UNIQUE INDEX coupon_codes_once ON coupon_codes (batch_id, hash);
CREATE TRIGGER coupon_codes_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON coupon_codes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The parts in which they came. hash: of all its codes, keyed.
CREATE TABLE coupon_parts (
    batch_id     BIGINT NOT NULL,
    part         INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    hash         BYTEA NOT NULL,
    at_ms        BIGINT NOT NULL,
    PRIMARY KEY (batch_id, part)
);
CREATE TRIGGER coupon_parts_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON coupon_parts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Numbers that nobody was given and no packet has: the owner can still send them.
CREATE TABLE coupon_free (
    batch_id     BIGINT NOT NULL,
    first_number INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (batch_id, first_number)
);

-- Which numbers a packet's shares are: the share in slot first_slot is first_number, and so on.
CREATE TABLE coupon_ranges (
    packet_id    BIGINT NOT NULL,
    first_slot   INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count > 0),
    batch_id     BIGINT NOT NULL,
    first_number INTEGER NOT NULL,
    PRIMARY KEY (packet_id, first_slot)
);
CREATE INDEX coupon_ranges_of_batch ON coupon_ranges (batch_id);
CREATE TRIGGER coupon_ranges_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON coupon_ranges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TYPE coupon_state AS ENUM ('held', 'redeemed', 'void', 'expired');

-- Coupons that somebody was given, each once: the row is written with the claim. held -> redeemed | void | expired.
-- moves: how often it was passed on. transfer_id: the entry that ended it.
CREATE TABLE coupons (
    batch_id    BIGINT NOT NULL,
    number      INTEGER NOT NULL,
    state       coupon_state NOT NULL DEFAULT 'held',
    holder      TEXT COLLATE "C" NOT NULL,
    packet_id   BIGINT NOT NULL,
    given_at_ms BIGINT NOT NULL,
    moves       INTEGER NOT NULL DEFAULT 0,
    ended_at_ms BIGINT,
    transfer_id BIGINT,
    note        TEXT,
    PRIMARY KEY (batch_id, number),
    CONSTRAINT ended_is_told CHECK ((state = 'held') = (ended_at_ms IS NULL) AND (state = 'held') = (transfer_id IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX coupons_of_holder ON coupons (holder, batch_id, number);
CREATE INDEX coupons_held ON coupons (batch_id, number) WHERE state = 'held';
CREATE TRIGGER ended_coupons_stay BEFORE UPDATE ON coupons
    FOR EACH ROW WHEN (OLD.state <> 'held') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER coupons_stay BEFORE DELETE OR TRUNCATE ON coupons
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A packet has ended: as many of its numbers are free again as went back to its sender. What nobody got are its last shares,
-- unless a lane was rebuilt while a claim waited in quarantine. A share in quarantine was promised to somebody.
CREATE FUNCTION free_coupons(of_packet BIGINT, shares_left INTEGER) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    first_left INTEGER := (SELECT sum(count) FROM coupon_ranges WHERE packet_id = of_packet) - shares_left;
BEGIN
    IF first_left IS NULL OR shares_left = 0 THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM transfers WHERE kind = 'claim' AND from_account = of_packet AND slot >= first_left
    ) AND NOT EXISTS (
        SELECT FROM quarantine WHERE kind = 'claim' AND packet_id = of_packet AND slot >= first_left
    ) THEN
        INSERT INTO coupon_free (batch_id, first_number, count)
        SELECT batch_id, first_number + greatest(first_left - first_slot, 0), count - greatest(first_left - first_slot, 0)
        FROM coupon_ranges WHERE packet_id = of_packet AND first_slot + count > first_left;
        RETURN;
    END IF;
    INSERT INTO coupon_free (batch_id, first_number, count)
    SELECT batch_id, min(number), count(*) FROM (
        SELECT batch_id, number, number - row_number() OVER (ORDER BY number) AS island FROM (
            SELECT batch_id, first_number + share.slot - first_slot AS number
            FROM coupon_ranges, generate_series(first_slot, first_slot + count - 1) AS share (slot)
            WHERE packet_id = of_packet AND NOT EXISTS (
                SELECT FROM transfers
                WHERE transfers.kind = 'claim' AND from_account = of_packet AND transfers.slot = share.slot
            ) AND NOT EXISTS (
                SELECT FROM quarantine
                WHERE quarantine.kind = 'claim' AND quarantine.packet_id = of_packet AND quarantine.slot = share.slot
            )
            ORDER BY share.slot LIMIT shares_left
        ) AS nobodys
    ) AS numbered
    GROUP BY batch_id, island;
END $$;

-- Which coupon each user got of each packet. batch_id NULL: the packet is not of coupons. number NULL: the ledger has no such
-- coupon (yet). It uses indexes, row by row, whatever Postgres knows of the tables: in a rush they grow a hundredfold between
-- two looks at them (as for the persister, engine/ledger/posting.py).
CREATE FUNCTION coupons_of_claims(packets BIGINT[], users TEXT[]) RETURNS TABLE (
    place BIGINT, batch_id BIGINT, number INTEGER, state TEXT, holder TEXT, given_at_ms BIGINT, ended_at_ms BIGINT, moves INTEGER,
    sealed BYTEA
) LANGUAGE plpgsql STABLE
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_seqscan = off
SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
    SELECT asked.place, of_batch.batch_id, coupons.number, coupons.state::text, coupons.holder, coupons.given_at_ms,
        coupons.ended_at_ms, coupons.moves, coupon_codes.sealed
    FROM unnest(packets, users) WITH ORDINALITY AS asked (packet_id, user_id, place)
    LEFT JOIN LATERAL (
        SELECT coupon_ranges.batch_id FROM coupon_ranges WHERE coupon_ranges.packet_id = asked.packet_id LIMIT 1
    ) AS of_batch ON TRUE
    LEFT JOIN coupon_batches ON coupon_batches.batch_id = of_batch.batch_id
    LEFT JOIN LATERAL (
        SELECT account_id FROM accounts
        WHERE accounts.kind = 'holding' AND accounts.owner = asked.user_id AND accounts.asset = coupon_batches.asset LIMIT 1
    ) AS holding ON TRUE
    LEFT JOIN LATERAL (
        SELECT slot FROM transfers
        WHERE transfers.kind = 'claim' AND from_account = asked.packet_id AND to_account = holding.account_id LIMIT 1
    ) AS claim ON TRUE
    LEFT JOIN LATERAL (
        SELECT first_number + claim.slot - first_slot AS number FROM coupon_ranges
        WHERE coupon_ranges.packet_id = asked.packet_id AND first_slot <= claim.slot ORDER BY first_slot DESC LIMIT 1
    ) AS got ON TRUE
    LEFT JOIN coupons ON coupons.batch_id = of_batch.batch_id AND coupons.number = got.number
    LEFT JOIN coupon_codes ON coupon_codes.batch_id = coupons.batch_id AND coupon_codes.number = coupons.number;
END $$;

-- Lock users' wallets and holdings of an asset, in the order in which everybody locks them.
CREATE FUNCTION lock_accounts_of(owners TEXT[], of_asset TEXT) RETURNS TABLE (
    account_id BIGINT, kind TEXT, owner TEXT, frozen BOOLEAN, sending_frozen_until_ms BIGINT
) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    ids BIGINT[] := ARRAY(
        SELECT accounts.account_id FROM accounts WHERE accounts.kind = 'wallet' AND accounts.owner = ANY (owners)
        UNION ALL
        SELECT accounts.account_id FROM accounts
        WHERE accounts.kind = 'holding' AND accounts.owner = ANY (owners) AND accounts.asset = of_asset
    );
BEGIN
    RETURN QUERY
    SELECT accounts.account_id, accounts.kind::text, accounts.owner, accounts.frozen, accounts.sending_frozen_until_ms
    FROM accounts WHERE accounts.account_id = ANY (ids)
    ORDER BY accounts.account_id < 1000, accounts.account_id FOR UPDATE;
END $$;
