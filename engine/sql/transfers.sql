-- are_strangers --
-- Whether neither of two users has ever had a share of the other's packets or transfers.
SELECT NOT EXISTS (
    SELECT FROM packets JOIN transfers ON from_account = packet_id AND kind = 'claim'
    WHERE sender = $1 AND to_account = (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $2)
) AND NOT EXISTS (
    SELECT FROM packets JOIN transfers ON from_account = packet_id AND kind = 'claim'
    WHERE sender = $2 AND to_account = (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = $1)
)
