-- Packets that have ended and whose custody is not empty yet: few at any time, and each scrape counts them.
CREATE INDEX packets_refunds_waiting ON packets (ended_at_ms) WHERE settled_at_ms IS NULL AND ended_at_ms IS NOT NULL;
