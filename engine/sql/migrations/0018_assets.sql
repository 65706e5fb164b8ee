-- What the ledger counts in besides its currency: points, coupons, cards. Each account holds one asset, and nothing moves
-- between accounts of two. An account or a packet without an asset (NULL) is in the ledger's currency, as all were before.
-- So nothing is rewritten, and whoever looks for a wallet still finds money (docs/decisions/ledger.md).

-- Amounts are whole numbers of 10^-scale of the asset. A row never changes: what somebody holds keeps its meaning.
CREATE TABLE assets (
    asset         TEXT COLLATE "C" PRIMARY KEY CHECK (asset ~ '^[A-Z][A-Z0-9_]{2,31}$'),
    scale         SMALLINT NOT NULL CHECK (scale BETWEEN 0 AND 6),
    name          TEXT NOT NULL,
    issuer        BIGINT NOT NULL UNIQUE,  -- its account
    created_at_ms BIGINT NOT NULL
);
CREATE TRIGGER assets_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON assets
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE accounts
    ADD COLUMN asset TEXT COLLATE "C" REFERENCES assets,
    DROP CONSTRAINT balance_not_negative,
    DROP CONSTRAINT wallet_has_owner,
    ADD CONSTRAINT balance_not_negative CHECK (kind IN ('bank', 'issuer') OR balance_fen >= 0),
    ADD CONSTRAINT wallet_has_owner CHECK ((kind IN ('wallet', 'holding')) = (owner IS NOT NULL)),
    ADD CONSTRAINT asset_fits_kind CHECK (
        CASE WHEN kind IN ('holding', 'issuer') THEN asset IS NOT NULL ELSE asset IS NULL OR kind = 'custody' END
    ),
    -- The issuer owes what all other accounts of its asset hold, and none of them may owe. So no sum of them is larger than
    -- the largest whole number that every JSON reader keeps exactly.
    ADD CONSTRAINT issued_within_json CHECK (kind <> 'issuer' OR balance_fen >= -9007199254740991);
CREATE UNIQUE INDEX accounts_holding ON accounts (owner, asset) WHERE kind = 'holding';

ALTER TABLE packets ADD COLUMN asset TEXT COLLATE "C" REFERENCES assets;

-- As before, but the accounts must be of one asset, and an issuer may owe.
CREATE OR REPLACE FUNCTION move_money(named transfer_kind, payer BIGINT, payee BIGINT, fen BIGINT, moved_at_ms BIGINT)
RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    head BYTEA;
    number BIGINT;
BEGIN
    PERFORM FROM accounts WHERE account_id IN (payer, payee) ORDER BY account_id < 1000, account_id FOR UPDATE;
    IF (SELECT count(DISTINCT coalesce(asset, '')) FROM accounts WHERE account_id IN (payer, payee)) > 1 THEN
        RAISE EXCEPTION 'accounts % and % hold two assets', payer, payee;
    END IF;
    UPDATE accounts
    SET balance_fen = balance_fen - fen,
        hash = sha256(coalesce(hash, '') || convert_to(concat_ws(' ', named, payer, payee, fen, moved_at_ms), 'UTF8'))
    WHERE account_id = payer AND (balance_fen >= fen OR kind = 'issuer')
    RETURNING hash INTO head;
    IF head IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE accounts SET balance_fen = balance_fen + fen WHERE account_id = payee;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % does not exist', payee;
    END IF;
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
    VALUES (named, payer, payee, fen, moved_at_ms) RETURNING transfer_id INTO number;
    INSERT INTO transfer_hashes (transfer_id, hash) VALUES (number, head);
    RETURN number;
END $$;

-- Limits of a day are about money.
CREATE OR REPLACE FUNCTION sent_in_day(of_subject TEXT, of_day DATE, begins_ms BIGINT, ends_ms BIGINT) RETURNS BIGINT
LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT sent_fen FROM day_totals WHERE subject = of_subject AND day = of_day),
        CASE WHEN of_subject LIKE 'user:%' THEN (
            SELECT least(coalesce(sum(total_fen), 0), 9007199254740991)::bigint FROM packets
            WHERE sender = substr(of_subject, 6) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                AND state <> 'retracted' AND asset IS NULL
        ) ELSE (
            SELECT least(coalesce(sum(total_fen), 0), 9007199254740991)::bigint FROM packets
            WHERE label = substr(of_subject, 7) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                AND state <> 'retracted' AND asset IS NULL
        ) END
    )
$$;
