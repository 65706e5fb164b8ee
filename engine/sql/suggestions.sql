-- What a user and a group sent before (engine/packets/suggesting.py). Transfers, other assets than money, and what was taken
-- back, are not counted.
-- The newest are looked at first and then counted, so that a question reads as many rows as $2, however old the ledger is.

-- own --
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total_fen / count) AS share_fen,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY count) AS count,
    mode() WITHIN GROUP (ORDER BY split) AS split
FROM (
    SELECT total_fen, count, split, purpose, state, asset FROM packets
    WHERE sender = $1 ORDER BY created_at_ms DESC, packet_id DESC LIMIT $2
) AS newest
WHERE purpose = 'packet' AND state <> 'retracted' AND asset IS NULL
HAVING count(*) > 0

-- of_group --
-- Each sender counts once, with what is usual for them. So who sends most does not decide, and the middle one's habit does
-- not say whose it is. No row if fewer than $4 others than the one who asks ($3) have sent.
WITH newest AS (
    SELECT sender, total_fen, count, split, state, asset FROM packets
    WHERE label = $1 ORDER BY created_at_ms DESC, packet_id DESC LIMIT $2
), senders AS (
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total_fen / count) AS share_fen,
        percentile_disc(0.5) WITHIN GROUP (ORDER BY count) AS count,
        mode() WITHIN GROUP (ORDER BY split) AS split
    FROM newest WHERE sender <> $3 AND state <> 'retracted' AND asset IS NULL
    GROUP BY sender
)
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY share_fen) AS share_fen,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY count) AS count,
    mode() WITHIN GROUP (ORDER BY split) AS split
FROM senders
HAVING count(*) >= $4
