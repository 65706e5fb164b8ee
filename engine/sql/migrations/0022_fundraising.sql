-- Fund-raising: gifts to one fund, with a goal and a deadline. All of it goes to a beneficiary, or every gift goes back.

-- open -> paying -> paid_out, or open -> returning -> returned. The sweeper decides which, once, when ends_at_ms has come.
-- The sums are those of its gifts, whatever became of them later. Whoever changes a fund locks wallets first, in the order
-- of their ids, then this row, then funds: many wait for a fund, so it is locked for the shortest time.
CREATE TABLE fundraisers (
    fundraiser_id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner              TEXT COLLATE "C" NOT NULL,
    beneficiary        TEXT COLLATE "C" NOT NULL,
    title              TEXT NOT NULL,
    story              TEXT NOT NULL,
    goal_fen           BIGINT NOT NULL CHECK (goal_fen > 0),
    mode               TEXT NOT NULL CHECK (mode IN ('all_or_nothing', 'keep_what_comes')),
    account_id         BIGINT NOT NULL UNIQUE,
    created_at_ms      BIGINT NOT NULL,
    ends_at_ms         BIGINT NOT NULL,  -- if its owner ends it early, that moment
    is_ended_early     BOOLEAN NOT NULL DEFAULT FALSE,
    state              TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paying', 'paid_out', 'returning', 'returned')),
    gift_count         BIGINT NOT NULL DEFAULT 0,
    given_fen          BIGINT NOT NULL DEFAULT 0,
    matched_fen        BIGINT NOT NULL DEFAULT 0,
    match_count        INTEGER NOT NULL DEFAULT 0,
    returned_count     BIGINT NOT NULL DEFAULT 0,
    returned_fen       BIGINT NOT NULL DEFAULT 0,
    decided_at_ms      BIGINT,
    settled_at_ms      BIGINT,
    payout_transfer_id BIGINT UNIQUE,    -- NULL also if there was nothing to pay
    CONSTRAINT decided_is_told CHECK (
        (state = 'open') = (decided_at_ms IS NULL) AND (state IN ('paid_out', 'returned')) = (settled_at_ms IS NOT NULL)
    ),
    CONSTRAINT returned_is_told CHECK (
        returned_count BETWEEN 0 AND gift_count AND returned_fen BETWEEN 0 AND given_fen
        AND (state IN ('returning', 'returned') OR returned_count = 0)
        AND (state <> 'returned' OR (returned_count = gift_count AND returned_fen = given_fen))
        AND (payout_transfer_id IS NULL OR state = 'paid_out')
    )
) WITH (fillfactor = 70);
CREATE INDEX fundraisers_of_owner ON fundraisers (owner, fundraiser_id DESC);
CREATE INDEX fundraisers_open ON fundraisers (owner) WHERE state = 'open';
CREATE INDEX fundraisers_to_decide ON fundraisers (ends_at_ms) WHERE state = 'open';
CREATE INDEX fundraisers_to_settle ON fundraisers (fundraiser_id) WHERE state IN ('paying', 'returning');
CREATE TRIGGER settled_fundraisers_stay BEFORE UPDATE ON fundraisers
    FOR EACH ROW WHEN (OLD.settled_at_ms IS NOT NULL) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fundraisers_stay BEFORE DELETE OR TRUNCATE ON fundraisers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- matched_fen: what merchants added to it. packet_id: it was given on, out of a share of this packet.
CREATE TABLE fundraiser_gifts (
    gift_id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fundraiser_id      BIGINT NOT NULL REFERENCES fundraisers,
    giver              TEXT COLLATE "C" NOT NULL,
    amount_fen         BIGINT NOT NULL CHECK (amount_fen > 0),
    matched_fen        BIGINT NOT NULL CHECK (matched_fen >= 0),
    is_anonymous       BOOLEAN NOT NULL,
    message            TEXT NOT NULL,
    packet_id          BIGINT,
    given_at_ms        BIGINT NOT NULL,
    transfer_id        BIGINT NOT NULL UNIQUE,  -- wallet -> fund
    return_transfer_id BIGINT UNIQUE            -- fund -> wallet
);
CREATE INDEX gifts_of_fundraiser ON fundraiser_gifts (fundraiser_id, gift_id DESC);
CREATE INDEX gifts_not_returned ON fundraiser_gifts (fundraiser_id, gift_id) WHERE return_transfer_id IS NULL;
CREATE INDEX gifts_of_giver ON fundraiser_gifts (giver, given_at_ms);
-- A share is given on once, whichever fundraiser it goes to.
CREATE UNIQUE INDEX gift_once_per_share ON fundraiser_gifts (packet_id, giver) WHERE packet_id IS NOT NULL;
CREATE TRIGGER returned_gifts_stay BEFORE UPDATE ON fundraiser_gifts
    FOR EACH ROW WHEN (OLD.return_transfer_id IS NOT NULL) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER gifts_stay BEFORE DELETE OR TRUNCATE ON fundraiser_gifts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A merchant adds percent of each later gift, rounded down, until the budget is used up. account_id holds what is left of it.
CREATE TABLE fundraiser_matches (
    match_id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fundraiser_id       BIGINT NOT NULL REFERENCES fundraisers,
    merchant            TEXT COLLATE "C" NOT NULL,
    percent             INTEGER NOT NULL CHECK (percent BETWEEN 1 AND 1000),
    budget_fen          BIGINT NOT NULL CHECK (budget_fen > 0),
    matched_fen         BIGINT NOT NULL DEFAULT 0 CHECK (matched_fen BETWEEN 0 AND budget_fen),
    account_id          BIGINT NOT NULL UNIQUE,
    created_at_ms       BIGINT NOT NULL,
    transfer_id         BIGINT NOT NULL UNIQUE,  -- wallet -> account_id
    rest_transfer_id    BIGINT UNIQUE,           -- what was left of the budget: account_id -> wallet
    matched_transfer_id BIGINT UNIQUE            -- what was matched, if the goal was missed: fund -> wallet
) WITH (fillfactor = 70);
CREATE INDEX matches_of_fundraiser ON fundraiser_matches (fundraiser_id, match_id);
CREATE INDEX matches_of_merchant ON fundraiser_matches (merchant, created_at_ms);
CREATE TRIGGER matches_stay BEFORE DELETE OR TRUNCATE ON fundraiser_matches FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Gifts and budgets of matches are sendings too. What comes back of them still counts, as with a packet that expired.
CREATE OR REPLACE FUNCTION sent_in_day(of_subject TEXT, of_day DATE, begins_ms BIGINT, ends_ms BIGINT) RETURNS BIGINT
LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT sent_fen FROM day_totals WHERE subject = of_subject AND day = of_day),
        CASE WHEN of_subject LIKE 'user:%' THEN (
            SELECT least(coalesce(sum(fen), 0), 9007199254740991)::bigint FROM (
                SELECT total_fen AS fen FROM packets
                WHERE sender = substr(of_subject, 6) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                    AND state <> 'retracted' AND asset IS NULL
                UNION ALL
                SELECT amount_fen FROM fundraiser_gifts
                WHERE giver = substr(of_subject, 6) AND given_at_ms >= begins_ms AND given_at_ms < ends_ms
                UNION ALL
                SELECT budget_fen FROM fundraiser_matches
                WHERE merchant = substr(of_subject, 6) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
            ) AS sent
        ) ELSE (
            SELECT least(coalesce(sum(total_fen), 0), 9007199254740991)::bigint FROM packets
            WHERE label = substr(of_subject, 7) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                AND state <> 'retracted' AND asset IS NULL
        ) END
    )
$$;

-- For the audit, which looks at every entry of a fund.
CREATE INDEX accounts_funds ON accounts (account_id) WHERE kind = 'fund';
