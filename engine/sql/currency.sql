-- currency --
SELECT currency FROM ledger_currency

-- keep --
INSERT INTO ledger_currency (currency) VALUES ($1) ON CONFLICT DO NOTHING
