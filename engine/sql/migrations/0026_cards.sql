-- Cards to collect (engine/cards/). Each card of a set is an asset of its own, issued once, in the published number.

ALTER TABLE accounts
    DROP CONSTRAINT asset_fits_kind,
    ADD CONSTRAINT asset_fits_kind CHECK (
        CASE WHEN kind IN ('holding', 'issuer', 'card_escrow', 'card_spent') THEN asset IS NOT NULL
            ELSE asset IS NULL OR kind = 'custody' END
    );

-- Only this user may send packets of it, and nobody can issue more of it. NULL: everybody may, and admins can.
ALTER TABLE assets ADD COLUMN sole_sender TEXT COLLATE "C";

-- collecting -> drawing -> drawn -> settled. drawing: nobody can complete it any more, and shares are being drawn, the first
-- `drawn` of `completers`, up to the one with drawn_key. drawn: each completer has a share. settled: the pool is empty.
-- cards: how many make a set (without the wild card). seed: secret until everything is drawn.
CREATE TABLE card_sets (
    set_id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner             TEXT COLLATE "C" NOT NULL,
    name              TEXT NOT NULL,
    cards             SMALLINT NOT NULL CHECK (cards BETWEEN 2 AND 20),
    pool_fen          BIGINT NOT NULL CHECK (pool_fen > 0),
    split             TEXT NOT NULL CHECK (split IN ('lucky', 'equal')),
    min_fen           BIGINT NOT NULL CHECK (min_fen > 0),
    payout            TEXT NOT NULL CHECK (payout IN ('claimable', 'at_once')),
    claim_seconds     INTEGER CHECK ((payout = 'claimable') = (claim_seconds IS NOT NULL)),
    grants_a_user_max INTEGER NOT NULL,
    ends_at_ms        BIGINT NOT NULL,
    draws_at_ms       BIGINT NOT NULL CHECK (draws_at_ms >= ends_at_ms),
    seed              BYTEA NOT NULL CHECK (length(seed) = 32),
    commitment        BYTEA NOT NULL,
    pool_account      BIGINT NOT NULL UNIQUE,
    created_at_ms     BIGINT NOT NULL,
    state             TEXT NOT NULL DEFAULT 'collecting' CHECK (state IN ('collecting', 'drawing', 'drawn', 'settled')),
    completers        INTEGER CHECK ((state = 'collecting') = (completers IS NULL)),
    drawn             INTEGER NOT NULL DEFAULT 0,
    drawn_key         BYTEA,
    drawn_at_ms       BIGINT CHECK ((state IN ('drawn', 'settled')) = (drawn_at_ms IS NOT NULL)),
    returned_fen      BIGINT CHECK ((state = 'settled') = (returned_fen IS NOT NULL))
);
CREATE INDEX card_sets_of_owner ON card_sets (owner, set_id DESC);
CREATE INDEX card_sets_at_work ON card_sets (draws_at_ms) WHERE state <> 'settled';
CREATE TRIGGER card_sets_stay BEFORE DELETE OR TRUNCATE ON card_sets FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Cards count from 1 in their order; the wild card is the last. Many complete their sets, or offer, at once: so what is spent
-- and what is offered lies in several accounts each, and they do not wait for one row.
CREATE TABLE card_kinds (
    set_id          BIGINT NOT NULL REFERENCES card_sets,
    card            SMALLINT NOT NULL,
    name            TEXT NOT NULL,
    is_wild         BOOLEAN NOT NULL,
    asset           TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES assets,
    count           INTEGER NOT NULL CHECK (count > 0),
    granted_count   INTEGER NOT NULL CHECK (granted_count BETWEEN 0 AND count),
    reserve_account BIGINT NOT NULL UNIQUE,
    escrow_accounts BIGINT[] NOT NULL,
    spent_accounts  BIGINT[] NOT NULL,
    PRIMARY KEY (set_id, card)
);
CREATE TRIGGER card_kinds_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON card_kinds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- number: counts a set's grants from 1. Which card it is follows from it, from the seed and from the grants before it.
CREATE TABLE card_grants (
    set_id        BIGINT NOT NULL,
    number        INTEGER NOT NULL,
    user_id       TEXT COLLATE "C" NOT NULL,
    card          SMALLINT NOT NULL,
    reason        TEXT NOT NULL,
    granted_at_ms BIGINT NOT NULL,
    transfer_id   BIGINT NOT NULL UNIQUE,
    PRIMARY KEY (set_id, number),
    FOREIGN KEY (set_id, card) REFERENCES card_kinds
);
CREATE INDEX card_grants_of_user ON card_grants (set_id, user_id);
CREATE TRIGGER card_grants_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON card_grants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- open -> accepted | declined | withdrawn | expired. While it is open, the given card is in an escrow account.
-- end_transfer_id: the given card's way out of it. want_transfer_id: the other card's, if it was accepted.
CREATE TABLE card_offers (
    offer_id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    set_id            BIGINT NOT NULL,
    from_user         TEXT COLLATE "C" NOT NULL,
    to_user           TEXT COLLATE "C",  -- NULL: anyone
    give              SMALLINT NOT NULL,
    want              SMALLINT NOT NULL CHECK (want <> give),
    escrow_account    BIGINT NOT NULL,
    made_at_ms        BIGINT NOT NULL,
    expires_at_ms     BIGINT NOT NULL,
    transfer_id       BIGINT NOT NULL UNIQUE,
    state             TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'declined', 'withdrawn', 'expired')),
    accepted_by       TEXT COLLATE "C" CHECK ((state = 'accepted') = (accepted_by IS NOT NULL)),
    ended_at_ms       BIGINT CHECK ((state = 'open') = (ended_at_ms IS NULL)),
    end_transfer_id   BIGINT UNIQUE CHECK ((state = 'open') = (end_transfer_id IS NULL)),
    want_transfer_id  BIGINT UNIQUE CHECK ((state = 'accepted') = (want_transfer_id IS NOT NULL)),
    FOREIGN KEY (set_id, give) REFERENCES card_kinds,
    FOREIGN KEY (set_id, want) REFERENCES card_kinds
);
CREATE INDEX card_offers_made ON card_offers (from_user, offer_id DESC);
CREATE INDEX card_offers_received ON card_offers (to_user, offer_id DESC) WHERE to_user IS NOT NULL;
CREATE INDEX card_offers_for_anyone ON card_offers (set_id, offer_id DESC) WHERE state = 'open' AND to_user IS NULL;
CREATE INDEX card_offers_running_out ON card_offers (expires_at_ms) WHERE state = 'open';
CREATE TRIGGER card_offers_stay BEFORE DELETE OR TRUNCATE ON card_offers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ended_card_offers_stay BEFORE UPDATE ON card_offers
    FOR EACH ROW WHEN (OLD.state <> 'open') EXECUTE FUNCTION refuse_change();

-- draw_key: the completers' order at the draw. It follows from the seed and the user.
CREATE TABLE card_completions (
    set_id          BIGINT NOT NULL REFERENCES card_sets,
    user_id         TEXT COLLATE "C" NOT NULL,
    draw_key        BYTEA NOT NULL CHECK (length(draw_key) = 16),
    wild            SMALLINT NOT NULL,  -- how many wild cards stand for others
    completed_at_ms BIGINT NOT NULL,
    PRIMARY KEY (set_id, user_id)
);
CREATE UNIQUE INDEX card_completions_in_order ON card_completions (set_id, draw_key);
CREATE TRIGGER card_completions_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON card_completions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- number: the completer's place in the order, from 0. transfer_id: the entry that paid the share, NULL before.
CREATE TABLE card_shares (
    set_id      BIGINT NOT NULL REFERENCES card_sets,
    user_id     TEXT COLLATE "C" NOT NULL,
    number      INTEGER NOT NULL,
    share_fen   BIGINT NOT NULL CHECK (share_fen > 0),
    transfer_id BIGINT,
    paid_at_ms  BIGINT CHECK ((transfer_id IS NULL) = (paid_at_ms IS NULL)),
    PRIMARY KEY (set_id, user_id)
);
CREATE UNIQUE INDEX card_shares_in_order ON card_shares (set_id, number);
CREATE TRIGGER card_shares_stay BEFORE DELETE OR TRUNCATE ON card_shares FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER paid_card_shares_stay BEFORE UPDATE ON card_shares
    FOR EACH ROW WHEN (OLD.transfer_id IS NOT NULL) EXECUTE FUNCTION refuse_change();
