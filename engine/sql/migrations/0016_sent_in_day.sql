-- What a user ('user:…') or a group ('label:…') has sent in a day, without what was taken back: the count if there is one, and
-- otherwise what the packets say. What went round and round may be more in a day than 64 bits hold: no limit is above
-- 2^53 - 1, so neither is the sum.
CREATE FUNCTION sent_in_day(of_subject TEXT, of_day DATE, begins_ms BIGINT, ends_ms BIGINT) RETURNS BIGINT
LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT sent_fen FROM day_totals WHERE subject = of_subject AND day = of_day),
        CASE WHEN of_subject LIKE 'user:%' THEN (
            SELECT least(coalesce(sum(total_fen), 0), 9007199254740991)::bigint FROM packets
            WHERE sender = substr(of_subject, 6) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                AND state <> 'retracted'
        ) ELSE (
            SELECT least(coalesce(sum(total_fen), 0), 9007199254740991)::bigint FROM packets
            WHERE label = substr(of_subject, 7) AND created_at_ms >= begins_ms AND created_at_ms < ends_ms
                AND state <> 'retracted'
        ) END
    )
$$;
