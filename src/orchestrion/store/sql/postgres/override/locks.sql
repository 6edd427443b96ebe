-- name: lock_shape
-- PostgreSQL has many writers at once, so a lock that ends with the transaction orders them.
select pg_advisory_xact_lock(1869767528, :project::int) as locked
