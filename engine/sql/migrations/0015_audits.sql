-- Where clean audits have ended, so that the next one goes on from there (engine/auditing/kept.py).

-- An anchor. Each entry up to `transfer_id` was in the ledger for good when the audit began to read, or will never be.
-- The audit saw none after `last_transfer_id`.
CREATE TABLE audits (
    audit_id         BIGINT PRIMARY KEY,
    at_ms            BIGINT NOT NULL,
    begins           BOOLEAN NOT NULL,  -- it goes on from no anchor
    is_full          BOOLEAN NOT NULL,  -- all history was walked
    walked_again     BIGINT,            -- the anchor up to which a part of history was walked once more
    transfer_id      BIGINT NOT NULL,
    last_transfer_id BIGINT NOT NULL,
    entries          BIGINT NOT NULL,   -- since the anchor before, or in all where it begins
    own_entries      BIGINT NOT NULL,   -- those of them that no batch wrote
    lanes            JSONB NOT NULL,    -- each lane's checkpoint, its hash, and how many packets it had opened and closed
    balances_digest  BYTEA NOT NULL,    -- SHA-256 over audited_balances
    key_id           TEXT NOT NULL,
    signature        BYTEA NOT NULL
);
CREATE TRIGGER audits_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Of the last anchor: each account's entries up to `transfer_id` in sum, and the head of the chain over those that no batch
-- wrote. An account without either has no row, as a packet's once it is settled.
CREATE TABLE audited_balances (
    account_id  BIGINT PRIMARY KEY,
    balance_fen BIGINT NOT NULL,
    hash        BYTEA
);

-- What the entries after one and up to another moved in sum, by account, and the account's last hash among them.
CREATE FUNCTION moved_between(after_id BIGINT, up_to_id BIGINT) RETURNS TABLE (account_id BIGINT, fen BIGINT, hash BYTEA)
LANGUAGE sql STABLE AS $$
    WITH entries AS MATERIALIZED (
        SELECT transfer_id, from_account, to_account, amount_fen FROM transfers
        WHERE transfer_id > after_id AND transfer_id <= up_to_id
    ), heads AS (
        SELECT DISTINCT ON (from_account) from_account AS account_id, transfer_hashes.hash
        FROM entries JOIN transfer_hashes USING (transfer_id) ORDER BY from_account, transfer_id DESC
    ), sums AS (
        SELECT moved.account_id, sum(moved.fen)::bigint AS fen FROM (
            SELECT to_account AS account_id, amount_fen AS fen FROM entries
            UNION ALL
            SELECT from_account, -amount_fen FROM entries
        ) AS moved GROUP BY moved.account_id
    )
    SELECT sums.account_id, sums.fen, heads.hash FROM sums LEFT JOIN heads ON heads.account_id = sums.account_id
$$;
