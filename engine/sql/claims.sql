-- claims_of --
-- Per packet and user, in the given order: the packet's state (null: unknown), whether it is for other users, and the
-- amount of the user's share (null: none).
SELECT packets.state::text, recipients <> '{}' AND user_id <> ALL (recipients) AS for_others, amount_fen
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS asked (packet_id, user_id, place)
LEFT JOIN packets USING (packet_id)
LEFT JOIN accounts ON accounts.kind = 'wallet' AND owner = user_id
LEFT JOIN transfers ON transfers.kind = 'claim' AND from_account = packet_id AND to_account = account_id
ORDER BY place
