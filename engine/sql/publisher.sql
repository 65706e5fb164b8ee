-- Packets that nobody is opening: their sending should have done it long ago, or they are too large for a sending, or parts
-- of a campaign.

-- funded --
SELECT packet_id, split, total_fen, count, min_fen, max_fen, seed, recipients, ack, arrives_at_ms, expires_at_ms
FROM packets
WHERE state = 'funded' AND packet_id > $1
    AND (count > $3 OR purpose = 'campaign' OR created_at_ms <= floor(extract(epoch FROM clock_timestamp()) * 1000) - $2::double precision * 1000)
ORDER BY packet_id LIMIT $4
