-- Deposits of many requests in one statement, and a bound on all the money there is.

-- Some deposits, each under its own Idempotency-Key, in a transaction of their own. All deposits take turns at the bank's
-- row. So it is locked last, for as many deposits as wait, and neither a client nor the disk is waited for while it is
-- locked: whoever calls this must have what was written flushed before anybody is answered (`flush` in wallet.sql). What
-- others commit on top of it comes later in the log, so it is never on the disk without it. Wallets are locked in the
-- order of their ids, as everybody does.
--
-- The bank owes what all other accounts hold, and none of them may owe. So a bound on the bank's row is a bound on every
-- account and on any sum of accounts, and nothing else that moves money can pass it (docs/decisions/ledger.md).
--
-- outcome: done; known, with what is kept for the key; in_flight, another transaction is at work under it; full, with what
-- there is room for in `left_fen`. No key may be named twice.
CREATE FUNCTION deposit_many(
    lock_names TEXT[], owners TEXT[], keys TEXT[], hashes BYTEA[], amounts_fen BIGINT[], total_fen_max BIGINT
) RETURNS TABLE (outcome TEXT, request_hash BYTEA, answer JSONB, left_fen BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    count INTEGER := cardinality(owners);
    outcomes TEXT[] := array_fill(NULL::text, ARRAY[count]);
    kept_hashes BYTEA[] := array_fill(NULL::bytea, ARRAY[count]);
    answers JSONB[] := array_fill(NULL::jsonb, ARRAY[count]);
    new_owners TEXT[] := '{}';
    kept RECORD;
    bank_fen BIGINT := 0;
    head BYTEA;
    wallet RECORD;
    number BIGINT;
    at_ms BIGINT := floor(extract(epoch FROM clock_timestamp()) * 1000);
BEGIN
    PERFORM set_config('synchronous_commit', 'off', TRUE);
    FOR i IN 1..count LOOP
        IF NOT pg_try_advisory_xact_lock(hashtextextended(lock_names[i], 0)) THEN
            outcomes[i] := 'in_flight';
            CONTINUE;
        END IF;
        SELECT idempotency.request_hash, idempotency.answer INTO kept FROM idempotency
        WHERE principal = owners[i] AND operation = 'deposit_into' AND key = keys[i];
        IF FOUND THEN
            outcomes[i] := 'known';
            kept_hashes[i] := kept.request_hash;
            answers[i] := kept.answer;
        ELSE
            new_owners := new_owners || owners[i];
        END IF;
    END LOOP;
    IF new_owners <> '{}' THEN
        INSERT INTO accounts (account_id, kind, owner)
        SELECT nextval('wallet_ids'), 'wallet', missing.owner FROM (
            SELECT DISTINCT named.owner COLLATE "C" AS owner FROM unnest(new_owners) AS named (owner)
            WHERE NOT EXISTS (SELECT FROM accounts WHERE kind = 'wallet' AND accounts.owner = named.owner)
            ORDER BY 1
        ) AS missing
        ON CONFLICT (owner) WHERE kind = 'wallet' DO NOTHING;
        PERFORM FROM accounts WHERE kind = 'wallet' AND owner = ANY (new_owners) ORDER BY account_id FOR UPDATE;
        SELECT balance_fen, hash INTO bank_fen, head FROM accounts WHERE account_id = 1 FOR UPDATE;
    END IF;
    FOR i IN 1..count LOOP
        IF outcomes[i] IS NULL AND bank_fen < amounts_fen[i] - total_fen_max THEN
            outcomes[i] := 'full';
        ELSIF outcomes[i] IS NULL THEN
            UPDATE accounts SET balance_fen = balance_fen + amounts_fen[i] WHERE kind = 'wallet' AND owner = owners[i]
            RETURNING account_id, balance_fen INTO wallet;
            bank_fen := bank_fen - amounts_fen[i];
            head := sha256(coalesce(head, '') || convert_to(
                concat_ws(' ', 'deposit', 1, wallet.account_id, amounts_fen[i], at_ms), 'UTF8'
            ));
            -- The number is taken with the bank's row locked, so numbers are in the order of the bank's chain.
            INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)
            VALUES ('deposit', 1, wallet.account_id, amounts_fen[i], at_ms) RETURNING transfer_id INTO number;
            INSERT INTO transfer_hashes (transfer_id, hash) VALUES (number, head);
            answers[i] := jsonb_build_object(
                'transfer_id', number::text, 'user_id', owners[i], 'amount_fen', amounts_fen[i],
                'balance_fen', wallet.balance_fen
            );
            INSERT INTO idempotency (principal, operation, key, request_hash, answer, created_at_ms)
            VALUES (owners[i], 'deposit_into', keys[i], hashes[i], answers[i], at_ms);
            outcomes[i] := 'done';
        END IF;
    END LOOP;
    IF 'done' = ANY (outcomes) THEN
        UPDATE accounts SET balance_fen = bank_fen, hash = head WHERE account_id = 1;
    END IF;
    FOR i IN 1..count LOOP
        outcome := outcomes[i];
        request_hash := kept_hashes[i];
        answer := answers[i];
        left_fen := CASE WHEN outcomes[i] = 'full' THEN greatest(0, bank_fen + total_fen_max) END;
        RETURN NEXT;
    END LOOP;
END $$;
