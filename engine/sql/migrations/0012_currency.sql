-- What the ledger counts in, written once, at the first start. Amounts are its hundredths.

CREATE TABLE ledger_currency (
    is_only  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    currency TEXT NOT NULL CHECK (currency ~ '^[A-Z][A-Z0-9]{2,11}$')
);
CREATE TRIGGER ledger_currency_is_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_currency
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
