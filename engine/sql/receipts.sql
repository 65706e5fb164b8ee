-- packet --
SELECT sender, purpose, total_fen, count, greeting, recipients, packets.created_at_ms, state::text, ended_at_ms, settled_at_ms,
    asset, scale
FROM packets LEFT JOIN assets USING (asset) WHERE packet_id = $1

-- sums --
SELECT coalesce(paid.fen, 0)::bigint AS paid_fen, claims.count AS claimed_count,
    coalesce(claims.fen, 0)::bigint AS claimed_fen, coalesce(rest.returned_fen, 0)::bigint AS returned_fen,
    coalesce(rest.written_off_fen, 0)::bigint AS written_off_fen
FROM (SELECT sum(amount_fen) AS fen FROM transfers WHERE to_account = $1 AND kind = 'send') AS paid,
    (SELECT count(*), sum(amount_fen) AS fen FROM transfers WHERE from_account = $1 AND kind = 'claim') AS claims,
    (SELECT sum(amount_fen) FILTER (WHERE kind = 'refund') AS returned_fen,
         sum(amount_fen) FILTER (WHERE kind = 'write_off') AS written_off_fen
     FROM transfers WHERE from_account = $1 AND kind <> 'claim') AS rest

-- transfers --
-- $2: whether claims are also listed.
SELECT transfer_id::text, kind::text, amount_fen, at_ms FROM (
    SELECT transfer_id, kind, amount_fen, at_ms FROM transfers WHERE to_account = $1 AND kind = 'send'
    UNION ALL
    SELECT transfer_id, kind, amount_fen, at_ms FROM transfers WHERE from_account = $1 AND kind <> 'claim'
    UNION ALL
    SELECT transfer_id, kind, amount_fen, at_ms FROM transfers WHERE from_account = $1 AND kind = 'claim' AND $2
) AS moved ORDER BY moved.transfer_id

-- share --
SELECT transfer_id::text, transfers.kind::text, amount_fen, at_ms
FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim' AND from_account = $1 AND owner = $2
