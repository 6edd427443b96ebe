-- PostgreSQL keeps its books about itself elsewhere than SQLite.

-- name: integrity
-- What the database itself found wrong: broken indexes, pages with wrong checksums. Rows are checked whenever they
-- are read.
select 'index ' || indexrelid::regclass::text || ' is broken' as problem from pg_index where not indisvalid
union all
select checksum_failures || ' pages have wrong checksums' from pg_stat_database
where datname = current_database() and checksum_failures > 0

-- name: guards
-- Triggers that are there and switched on, with their functions, and unique indexes that are in use.
select t.tgname::text as name, pg_get_triggerdef(t.oid, true) as text, f.prosrc as body
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_proc f on f.oid = t.tgfoid
where not t.tgisinternal and t.tgenabled in ('O', 'A') and c.relnamespace = current_schema()::regnamespace
union all
select c.relname::text, pg_get_indexdef(i.indexrelid, 0, true), ''
from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indisunique and i.indisvalid and c.relnamespace = current_schema()::regnamespace

-- name: checks_of_tables
-- How many CHECKs the tables have.
select count(*) as total from pg_constraint where contype = 'c' and connamespace = current_schema()::regnamespace
