-- PostgreSQL keeps its books about itself elsewhere than SQLite.

-- name: store_size
-- Bytes of the database; what is unused in it is the server's affair.
select pg_database_size(current_database()) as bytes, 0 as unused
