-- The product's rules beyond sending and claiming.

INSERT INTO accounts (account_id, kind) VALUES (4, 'payout');

-- Money that no lane's event moves. Gives the transfer's number, NULL when the account holds too little.
-- Wallets are locked in the order of their ids, as the persister does, and the accounts that are always there after
-- them; the payer's row carries the head of the chain over what it paid (engine/ledger/chain.py).
CREATE FUNCTION move_money(named transfer_kind, payer BIGINT, payee BIGINT, fen BIGINT, moved_at_ms BIGINT)
RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    head BYTEA;
    number BIGINT;
BEGIN
    PERFORM FROM accounts WHERE account_id IN (payer, payee) ORDER BY account_id < 1000, account_id FOR UPDATE;
    UPDATE accounts
    SET balance_fen = balance_fen - fen,
        hash = sha256(coalesce(hash, '') || convert_to(concat_ws(' ', named, payer, payee, fen, moved_at_ms), 'UTF8'))
    WHERE account_id = payer AND balance_fen >= fen
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

-- A transfer from one person to another is a packet of one share for one recipient.
ALTER TABLE packets
    ADD COLUMN purpose TEXT NOT NULL DEFAULT 'packet' CHECK (purpose IN ('packet', 'transfer')),
    ADD COLUMN label TEXT COLLATE "C",      -- the group it was sent to
    ADD COLUMN arrives_at_ms BIGINT,        -- before that nobody can claim it
    ADD CONSTRAINT transfers_are_of_one CHECK (purpose = 'packet' OR (count = 1 AND cardinality(recipients) = 1));

-- Frozen accounts. What counts stands in the wallet's row, so that whoever pays and whoever freezes take turns.
ALTER TABLE accounts
    ADD COLUMN frozen BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN sending_frozen_until_ms BIGINT;

-- scope: the whole account; only sending (packets, transfers); only receiving (claims), once a day's limit is passed.
CREATE TABLE freezes (
    freeze_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       TEXT COLLATE "C" NOT NULL,
    scope         TEXT NOT NULL CHECK (scope IN ('account', 'sending', 'receiving')),
    reason        TEXT NOT NULL,
    frozen_by     TEXT NOT NULL,  -- an operator, or the rule that did it
    frozen_at_ms  BIGINT NOT NULL,
    until_ms      BIGINT,         -- NULL: until somebody lifts it
    lifted_at_ms  BIGINT,
    lifted_by     TEXT,
    lifted_reason TEXT,
    CONSTRAINT lifted_is_told CHECK ((lifted_at_ms IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX freezes_in_force ON freezes (user_id) WHERE lifted_at_ms IS NULL;
CREATE INDEX freezes_running_out ON freezes (until_ms) WHERE lifted_at_ms IS NULL AND until_ms IS NOT NULL;
CREATE INDEX freezes_of_user ON freezes (user_id, freeze_id DESC);

-- Who may not claim, change by change in the order of commits: each lane in Redis follows it.
CREATE TABLE freeze_changes (
    change_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id   TEXT COLLATE "C" NOT NULL,
    is_frozen BOOLEAN NOT NULL
);
CREATE INDEX freeze_changes_of_user ON freeze_changes (user_id, change_id DESC);

-- Takings back, written before Redis is asked: one that nobody knows the end of counts as done.
CREATE TABLE retractions (
    packet_id   BIGINT PRIMARY KEY,
    sender      TEXT COLLATE "C" NOT NULL,
    asked_at_ms BIGINT NOT NULL,
    outcome     TEXT CHECK (outcome IN ('retracted', 'refused'))
);
CREATE INDEX retractions_of_sender ON retractions (sender, asked_at_ms);

-- A user's choice of when what they transfer arrives, and each change of it.
CREATE TABLE arrival_delays (
    change_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id          TEXT COLLATE "C" NOT NULL,
    arrives_after_s  INTEGER NOT NULL,
    changed_at_ms    BIGINT NOT NULL
);
CREATE INDEX arrival_delays_of_user ON arrival_delays (user_id, change_id DESC);

-- hash: argon2id in its own text form.
CREATE TABLE payment_passwords (
    user_id         TEXT COLLATE "C" PRIMARY KEY,
    hash            TEXT NOT NULL,
    wrong_tries     INTEGER NOT NULL DEFAULT 0,
    locked_until_ms BIGINT,
    set_at_ms       BIGINT NOT NULL
);

-- processing -> settled | failed. While it is processed the payout account holds amount_fen + fee_fen for it.
CREATE TABLE withdrawals (
    withdrawal_id  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id        TEXT COLLATE "C" NOT NULL,
    amount_fen     BIGINT NOT NULL CHECK (amount_fen > 0),
    fee_fen        BIGINT NOT NULL CHECK (fee_fen >= 0),
    free_fen       BIGINT NOT NULL CHECK (free_fen BETWEEN 0 AND amount_fen),  -- of the free allowance
    bank_account   TEXT NOT NULL,
    state          TEXT NOT NULL DEFAULT 'processing' CHECK (state IN ('processing', 'settled', 'failed')),
    failure        TEXT,
    transfer_id    BIGINT NOT NULL UNIQUE,  -- wallet -> payout account
    end_transfer_id BIGINT UNIQUE,          -- to the bank, or back to the wallet
    fee_transfer_id BIGINT UNIQUE,          -- of one that settled with a fee
    asked_at_ms    BIGINT NOT NULL,
    ended_at_ms    BIGINT,
    CONSTRAINT ended_is_told CHECK (
        (state = 'processing') = (ended_at_ms IS NULL) AND (state = 'processing') = (end_transfer_id IS NULL)
        AND (state = 'failed') = (failure IS NOT NULL)
        AND (state = 'settled' AND fee_fen > 0) = (fee_transfer_id IS NOT NULL)
    )
);
CREATE TRIGGER ended_withdrawals_stay BEFORE UPDATE ON withdrawals
    FOR EACH ROW WHEN (OLD.state <> 'processing') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER withdrawals_stay BEFORE DELETE OR TRUNCATE ON withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX withdrawals_of_user ON withdrawals (user_id, withdrawal_id DESC);
CREATE INDEX withdrawals_processing ON withdrawals (withdrawal_id) WHERE state = 'processing';
-- What is used of a user's free allowance; of a failed one it is given back.
CREATE INDEX withdrawals_free ON withdrawals (user_id) INCLUDE (free_fen) WHERE free_fen > 0 AND state <> 'failed';

-- The sandbox provider's own books; a real provider keeps its own elsewhere.
CREATE TABLE sandbox_payouts (
    reference    TEXT PRIMARY KEY,
    amount_fen   BIGINT NOT NULL,
    bank_account TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('processing', 'settled', 'failed')),
    failure      TEXT,
    asked_at_ms  BIGINT NOT NULL,
    ends_at_ms   BIGINT NOT NULL
);

-- What is known of a user beyond their wallet. Limits that are NULL are the settings'.
CREATE TABLE profiles (
    user_id              TEXT COLLATE "C" PRIMARY KEY,
    kind                 TEXT NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'merchant')),
    addresses            TEXT[] NOT NULL DEFAULT '{}',  -- networks a merchant may send from; empty: any
    transaction_fen_max  BIGINT,
    day_sent_fen_max     BIGINT,
    day_received_fen_max BIGINT,
    changed_by           TEXT NOT NULL,
    changed_at_ms        BIGINT NOT NULL
);

CREATE INDEX profiles_receiving ON profiles (user_id) WHERE day_received_fen_max > 0;

-- Limits of groups, by label. NULL: the setting.
CREATE TABLE labels (
    label            TEXT COLLATE "C" PRIMARY KEY,
    day_sent_fen_max BIGINT,
    changed_by       TEXT NOT NULL,
    changed_at_ms    BIGINT NOT NULL
);

-- What was sent to a label today, when its limit is new.
CREATE INDEX packets_of_label ON packets (label, created_at_ms) WHERE label IS NOT NULL;

-- What was sent in a day of China's, by user and by label; counted only where there is a limit.
CREATE TABLE day_totals (
    day      DATE NOT NULL,
    subject  TEXT COLLATE "C" NOT NULL,  -- user:<id> or label:<label>
    sent_fen BIGINT NOT NULL,
    PRIMARY KEY (subject, day)
);

-- Networks from which a user moved money.
CREATE TABLE places (
    user_id     TEXT COLLATE "C" NOT NULL,
    network     TEXT NOT NULL,
    first_at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, network)
);

-- Alerts, and how far their delivery by webhook is.
CREATE TABLE alerts (
    alert_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            TEXT NOT NULL,
    user_id         TEXT COLLATE "C",
    at_ms           BIGINT NOT NULL,
    details         JSONB NOT NULL,
    tries           INTEGER NOT NULL DEFAULT 0,
    next_try_at_ms  BIGINT,  -- NULL: delivered, given up, or nobody to deliver to
    delivered_at_ms BIGINT,
    last_error      TEXT
);
CREATE INDEX alerts_of_user ON alerts (user_id, kind, at_ms);
CREATE INDEX alerts_to_deliver ON alerts (next_try_at_ms) WHERE next_try_at_ms IS NOT NULL;

-- open -> upheld | rejected.
CREATE TABLE disputes (
    dispute_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind              TEXT NOT NULL CHECK (kind IN ('fraud', 'minor', 'system_fault')),
    packet_id         BIGINT NOT NULL,
    complainant       TEXT COLLATE "C" NOT NULL,
    counterparty      TEXT COLLATE "C",  -- of a system fault there is none
    amount_fen        BIGINT NOT NULL,
    transaction_at_ms BIGINT NOT NULL,
    evidence          JSONB NOT NULL,
    filed_at_ms       BIGINT NOT NULL,
    earliest_at_ms    BIGINT NOT NULL,   -- the working days it takes, at least and at most
    deadline_at_ms    BIGINT NOT NULL,
    freeze_id         BIGINT,
    state             TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'upheld', 'rejected')),
    decided_at_ms     BIGINT,
    decided_by        TEXT,
    decision_reason   TEXT,
    transfer_id       BIGINT,            -- the correcting transfer
    returned_fen      BIGINT,            -- of a system fault: what was unclaimed
    overdue_told      BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT decided_is_told CHECK ((state = 'open') = (decided_at_ms IS NULL) AND (state = 'open') = (decided_by IS NULL))
);
CREATE INDEX disputes_of_complainant ON disputes (complainant, filed_at_ms);
CREATE INDEX disputes_to_return ON disputes (dispute_id)
    WHERE kind = 'system_fault' AND state = 'upheld' AND returned_fen IS NULL;
-- Nobody pays for the same share twice.
CREATE UNIQUE INDEX upheld_once ON disputes (packet_id, counterparty) WHERE state = 'upheld';
CREATE INDEX disputes_open ON disputes (deadline_at_ms) WHERE state = 'open';
CREATE UNIQUE INDEX one_open_dispute ON disputes (packet_id, complainant, coalesce(counterparty, '')) WHERE state = 'open';

-- What somebody owes by a decision that their wallet could not pay.
CREATE TABLE debts (
    debt_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dispute_id  BIGINT NOT NULL UNIQUE,
    debtor      TEXT COLLATE "C" NOT NULL,
    creditor    TEXT COLLATE "C" NOT NULL,
    amount_fen  BIGINT NOT NULL CHECK (amount_fen > 0),
    at_ms       BIGINT NOT NULL
);
CREATE INDEX debts_of_debtor ON debts (debtor);
