-- claims_of --
-- Per packet and user, in the given order: the packet's state (null: unknown), whether it is for other users, and the
-- amount of the user's share (null: none).
SELECT packets.state::text, recipients <> '{}' AND user_id <> ALL (recipients) AS for_others, amount_fen
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS asked (packet_id, user_id, place)
LEFT JOIN packets USING (packet_id)
LEFT JOIN LATERAL (
    SELECT account_id FROM accounts WHERE packets.asset IS NULL AND kind = 'wallet' AND owner = user_id
    UNION ALL
    SELECT account_id FROM accounts WHERE kind = 'holding' AND owner = user_id AND accounts.asset = packets.asset
) AS account ON TRUE
LEFT JOIN transfers ON transfers.kind = 'claim' AND from_account = packet_id AND to_account = account_id
ORDER BY place

-- purposes --
SELECT packet_id, purpose FROM packets WHERE packet_id = ANY ($1::bigint[])
