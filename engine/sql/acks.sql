-- checkpoints --
SELECT lane, position, epoch || '@' || run_id AS lane_token FROM lanes

-- is_awaited --
-- A packet's number names its lane.
SELECT EXISTS (
    SELECT FROM packets
    WHERE ack = 'ledger' AND state IN ('funded', 'open')
        AND packet_id / 100000000000000 % 1000 = $1::bigint
)
