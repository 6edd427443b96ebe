-- PostgreSQL keeps its books about itself elsewhere than SQLite.

-- name: integrity
-- What the database itself found wrong: broken indexes, pages with wrong checksums. Rows are checked whenever they
-- are read.
select 'index ' || indexrelid::regclass::text || ' is broken' as problem from pg_index where not indisvalid
union all
select checksum_failures || ' pages have wrong checksums' from pg_stat_database
where datname = current_database() and checksum_failures > 0
