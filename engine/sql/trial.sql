-- state --
SELECT pg_is_in_recovery() AS is_replica, current_setting('transaction_read_only') = 'on' AS is_read_only, current_user

-- lacks --
WITH needed (name, privilege) AS (
    SELECT unnest($1::text[]), 'INSERT'
    UNION ALL SELECT unnest($2::text[]), 'UPDATE'
    UNION ALL SELECT unnest($3::text[]), 'DELETE'
)
SELECT privilege || ' on ' || name AS lack FROM needed
WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), privilege)
UNION ALL
SELECT 'USAGE on ' || name FROM unnest($4::text[]) AS drawn (name)
WHERE to_regclass(name) IS NOT NULL AND NOT has_sequence_privilege(to_regclass(name), 'USAGE')
ORDER BY 1
