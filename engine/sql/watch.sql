-- What is looked at when money moves (engine/risk/watch.py).

-- look --
-- Remember the place. It is new if others were known before. A burst, $4 sendings in the last minute (null: no number is a
-- burst), is reported once per minute. A campaign is one sending, however many packets it is.
WITH seen AS (
    INSERT INTO places (user_id, network, first_at_ms) SELECT $1, $2, $3 WHERE $2::text IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING network
)
SELECT
    EXISTS (SELECT FROM seen) AND EXISTS (SELECT FROM places WHERE user_id = $1) AS is_new_place,
    $4::bigint IS NOT NULL AND $4::bigint <= (
        SELECT count(*) FROM (
            (SELECT FROM packets WHERE sender = $1 AND created_at_ms > $3::bigint - 60000 AND purpose <> 'campaign'
                LIMIT $4::bigint)
            UNION ALL
            (SELECT FROM campaigns WHERE owner = $1 AND created_at_ms > $3::bigint - 60000 LIMIT $4::bigint)
            UNION ALL
            (SELECT FROM fundraiser_gifts WHERE giver = $1 AND given_at_ms > $3::bigint - 60000 LIMIT $4::bigint)
            UNION ALL
            (SELECT FROM fundraiser_matches WHERE merchant = $1 AND created_at_ms > $3::bigint - 60000 LIMIT $4::bigint)
        ) AS recent
    ) AND NOT EXISTS (
        SELECT FROM alerts WHERE user_id = $1 AND kind = 'burst' AND at_ms > $3::bigint - 60000
    ) AS is_burst

-- forget_places --
DELETE FROM places WHERE user_id = $1 AND network IN (
    SELECT network FROM places WHERE user_id = $1 ORDER BY first_at_ms DESC, network OFFSET $2
)
