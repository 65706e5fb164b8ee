-- Whoever asks about some days (engine/analysis/) reads only the parts of the tables that are from then. Rows are added in the
-- order of their times, so a summary of the times in each few pages is enough: it has a thousandth of a usual index's
-- size, and costs whoever adds rows next to nothing. Volumes that are begun later have it as well.
CREATE INDEX transfers_at ON transfers USING brin (at_ms) WITH (pages_per_range = 64);
CREATE INDEX packets_sent_at ON packets USING brin (created_at_ms) WITH (pages_per_range = 64);
