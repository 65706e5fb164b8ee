-- Lists that show the newest first grow only at their top.

-- An alert takes its number when its transaction ends, one after another: transactions end in another order than they
-- write, and whoever reads the alerts up to the last one they know would miss what appears below it. Nothing is waited
-- for after this lock, so it cannot be part of a deadlock. 7312 and 7313 are other turns (disputes.sql).
-- Until then it has a number below zero.
CREATE SEQUENCE alert_drafts;
CREATE FUNCTION number_alert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7314, 0);
    UPDATE alerts SET alert_id = DEFAULT WHERE alert_id = NEW.alert_id;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER alerts_are_numbered AFTER INSERT ON alerts
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION number_alert();
