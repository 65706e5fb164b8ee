-- One packet with all that the ledger knows of it (engine/backoffice/packet_file.py).

-- packet --
SELECT packet_id, packets.sender, split, total_fen, count, min_fen, max_fen, greeting, recipients, ack, purpose, label, packets.asset,
    scale, commitment, packets.created_at_ms, arrives_at_ms, expires_at_ms, state::text, remaining_count, remaining_fen,
    ended_at_ms, settled_at_ms, custody.balance_fen AS custody_fen, campaign_id, wave,
    retractions.asked_at_ms AS retraction_asked_at_ms, retractions.outcome AS retraction
FROM packets LEFT JOIN assets USING (asset) LEFT JOIN campaign_buckets USING (packet_id) LEFT JOIN retractions USING (packet_id)
LEFT JOIN accounts AS custody ON custody.account_id = packet_id
WHERE packet_id = $1

-- asset --
SELECT asset, scale FROM packets LEFT JOIN assets USING (asset) WHERE packet_id = $1

-- assets --
-- Those of these packets that are not of money.
SELECT packet_id, asset, scale FROM packets JOIN assets USING (asset) WHERE packet_id = ANY ($1::bigint[])

-- entries --
-- Its entries but the claims: what was paid into its custody, and what went back or was written off.
(SELECT transfer_id, kind::text, amount_fen, at_ms FROM transfers WHERE to_account = $1 AND kind = 'send' ORDER BY transfer_id LIMIT 2)
UNION ALL
(SELECT transfer_id, kind::text, amount_fen, at_ms FROM transfers WHERE from_account = $1 AND kind <> 'claim' ORDER BY transfer_id LIMIT 100)
ORDER BY transfer_id

-- claims --
SELECT owner AS user_id, amount_fen, slot, at_ms AS claimed_at_ms
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1 AND slot > $2::bigint
ORDER BY slot LIMIT $3

-- given --
-- What the claims sum to, of a packet with few enough shares, and when the first and the last were.
SELECT count(*) AS count, coalesce(sum(amount_fen), 0)::bigint AS fen, min(at_ms) AS first_ms, max(at_ms) AS last_ms
FROM transfers WHERE from_account = $1 AND kind = 'claim'
