-- A wave may give prizes of several assets, its owner says who may grab and how often, and a wave can be made longer.

CREATE TABLE campaign_prizes (
    campaign_id BIGINT NOT NULL,
    wave        SMALLINT NOT NULL,
    prize       SMALLINT NOT NULL,
    asset       TEXT COLLATE "C" REFERENCES assets,
    split       TEXT NOT NULL,
    total_fen   BIGINT NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, wave, prize),
    FOREIGN KEY (campaign_id, wave) REFERENCES campaign_waves
);
INSERT INTO campaign_prizes (campaign_id, wave, prize, asset, split, total_fen, count)
SELECT campaign_id, wave, 1, asset, split, total_fen, count FROM campaign_waves JOIN campaigns USING (campaign_id);
CREATE TRIGGER campaign_prizes_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON campaign_prizes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE campaign_buckets ADD COLUMN prize SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE campaign_buckets
    ALTER COLUMN prize DROP DEFAULT,
    ADD FOREIGN KEY (campaign_id, wave, prize) REFERENCES campaign_prizes;

-- A wave's end may move on, never back. extended_at_ms: when it last did.
ALTER TABLE campaign_waves DROP COLUMN total_fen, DROP COLUMN count, ADD COLUMN extended_at_ms BIGINT;
CREATE INDEX campaign_waves_extended ON campaign_waves (ends_at_ms) WHERE extended_at_ms IS NOT NULL;
DROP TRIGGER campaign_waves_are_immutable ON campaign_waves;
CREATE TRIGGER campaign_waves_stay BEFORE DELETE OR TRUNCATE ON campaign_waves
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER campaign_waves_only_grow BEFORE UPDATE ON campaign_waves FOR EACH ROW WHEN (
    (OLD.campaign_id, OLD.wave, OLD.starts_at_ms) IS DISTINCT FROM (NEW.campaign_id, NEW.wave, NEW.starts_at_ms)
    OR NEW.ends_at_ms < OLD.ends_at_ms
) EXECUTE FUNCTION refuse_change();

-- wave_wins_max, wins_max: how many shares a user wins at most, in a wave and in all. interval_ms: the least time between
-- two grabs of a user. guests: the users of 'listed'. label: 'admitted' also takes admissions of this group.
ALTER TABLE campaigns
    DROP COLUMN asset,
    DROP COLUMN split,
    ADD COLUMN who           TEXT NOT NULL DEFAULT 'anyone' CHECK (who IN ('anyone', 'listed', 'admitted')),
    ADD COLUMN wave_wins_max SMALLINT NOT NULL DEFAULT 1 CHECK (wave_wins_max >= 1),
    ADD COLUMN wins_max      INTEGER CHECK (wins_max >= 1),
    ADD COLUMN interval_ms   INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN guests        TEXT[] NOT NULL DEFAULT '{}',
    ADD COLUMN label         TEXT COLLATE "C";

-- How many shares backends have let a user win in a campaign. It only grows.
CREATE TABLE campaign_grants (
    campaign_id BIGINT NOT NULL REFERENCES campaigns,
    user_id     TEXT COLLATE "C" NOT NULL,
    wins        INTEGER NOT NULL CHECK (wins >= 1),
    PRIMARY KEY (campaign_id, user_id)
);
