-- Once, after the portal's own database has come back from a backup. Hosts refuse an operation with a number below the
-- highest that has acted there, and the backup does not know the operations that were begun after it was made.
\set ON_ERROR_STOP 1
SELECT setval(
    pg_get_serial_sequence('operations_operation', 'id'),
    (SELECT coalesce(max(id), 0) + 1000000 FROM operations_operation)
);
