-- Packets that are claimed most at this moment (engine/packets/hottest.py).

-- latest --
-- Of the latest $1 entries, the claims since $2 by packet, the most first. It reads as many entries however many there are.
WITH latest AS MATERIALIZED (
    SELECT from_account, kind, at_ms FROM transfers ORDER BY transfer_id DESC LIMIT $1
), claims AS (
    SELECT from_account AS packet_id, at_ms FROM latest WHERE kind = 'claim' AND at_ms >= $2
), whole AS (
    SELECT count(*) AS looked_at, max(at_ms) - min(at_ms) AS span_ms FROM claims
), hottest AS (
    SELECT packet_id, count(*) AS claims FROM claims GROUP BY packet_id ORDER BY claims DESC, packet_id LIMIT $3
)
SELECT packet_id, claims, looked_at, span_ms, packets.count, label
FROM hottest JOIN packets USING (packet_id), whole ORDER BY claims DESC, packet_id
