-- Packet rain: one pool of shares in waves. Each wave's shares lie in some packets ("buckets"), each in a lane of its own, so
-- that they are given by several servers at once. A bucket is paid, opened, claimed, refunded and audited like any packet.

ALTER TABLE packets
    DROP CONSTRAINT packets_purpose_check,
    DROP CONSTRAINT transfers_are_of_one,
    ADD CONSTRAINT packets_purpose_check CHECK (purpose IN ('packet', 'transfer', 'campaign')),
    ADD CONSTRAINT transfers_are_of_one CHECK (
        purpose <> 'transfer' OR (count = 1 AND cardinality(recipients) = 1)
    );

-- odds_millionths: how many of a million users may win in a wave. seed: who may, and in which order they ask the buckets.
CREATE TABLE campaigns (
    campaign_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner           TEXT COLLATE "C" NOT NULL,
    name            TEXT NOT NULL,
    asset           TEXT COLLATE "C" REFERENCES assets,
    split           TEXT NOT NULL,
    odds_millionths INTEGER NOT NULL CHECK (odds_millionths BETWEEN 1 AND 1000000),
    seed            BYTEA NOT NULL CHECK (length(seed) = 32),
    commitment      BYTEA NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    is_paused       BOOLEAN NOT NULL DEFAULT FALSE,
    ended_at_ms     BIGINT  -- its owner ended it before its last wave
);
CREATE INDEX campaigns_of_owner ON campaigns (owner, campaign_id DESC);
CREATE INDEX campaigns_ended ON campaigns (campaign_id) WHERE ended_at_ms IS NOT NULL;
CREATE TRIGGER campaigns_stay BEFORE DELETE OR TRUNCATE ON campaigns FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE campaign_waves (
    campaign_id  BIGINT NOT NULL REFERENCES campaigns,
    wave         SMALLINT NOT NULL,
    starts_at_ms BIGINT NOT NULL,
    ends_at_ms   BIGINT NOT NULL CHECK (ends_at_ms > starts_at_ms),
    total_fen    BIGINT NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, wave)
);
CREATE TRIGGER campaign_waves_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON campaign_waves
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE campaign_buckets (
    packet_id   BIGINT PRIMARY KEY REFERENCES packets,
    campaign_id BIGINT NOT NULL,
    wave        SMALLINT NOT NULL,
    bucket      SMALLINT NOT NULL,
    UNIQUE (campaign_id, wave, bucket),
    FOREIGN KEY (campaign_id, wave) REFERENCES campaign_waves
);
CREATE TRIGGER campaign_buckets_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON campaign_buckets
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
