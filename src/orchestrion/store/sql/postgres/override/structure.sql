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
-- How many CHECKs the tables have, but for those that were put on rows that nobody looked at.
select count(*) as total from pg_constraint where contype = 'c' and convalidated and connamespace = current_schema()::regnamespace

-- name: columns_of_tables
-- Columns of tables, and those that must name a row of another, which is `other`.
select c.relname::text as "table", a.attname::text as "column", '' as other
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
  and a.attnum > 0 and not a.attisdropped
union all
select c.relname::text, a.attname::text, p.relname::text
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_class p on p.oid = k.confrelid
join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any(k.conkey)
where k.contype = 'f' and k.connamespace = current_schema()::regnamespace

-- name: counters
-- Tables that number their rows themselves, and the number that each gave last, as far as this user may see that.
select replace(sequencename::text, '_id_seq', '') as "table", coalesce(last_value, 0) as given from pg_sequences
where schemaname = current_schema() and has_sequence_privilege(quote_ident(sequencename), 'select')

-- name: set_counter
-- The number behind which a table goes on.
select setval(pg_get_serial_sequence(:table, 'id'), greatest(:last, 1), :last > 0)
