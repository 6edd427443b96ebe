-- SQLite keeps references only while it is told to. PostgreSQL keeps them whoever writes, and has no such question.

-- name: lost_references
-- Rows of any table that name a row that is not there, as the database itself finds them.
select coalesce('row ' || cast("rowid" as text), 'a row') || ' of ' || "table" || ' names a row of ' || parent
    || ' that is not there' as problem
from pragma_foreign_key_check limit :limit

-- name: guards
-- Triggers and unique indexes that are there. SQLite keeps them as they were written, PostgreSQL in catalogues.
select name, sql as text, '' as body from sqlite_schema
where type = 'trigger' or (type = 'index' and sql like 'create unique index%')

-- name: checks_of_tables
-- How many CHECKs the tables have.
select coalesce(sum((length(sql) - length(replace(sql, 'check (', ''))) / 7), 0) as total
from sqlite_schema where type = 'table'

-- name: columns_of_tables
-- Columns of tables, and those that must name a row of another, which is `other`; what the search keeps is its own.
with ours (name) as (
    select m.name from sqlite_schema m
    where m.type = 'table' and m.sql like 'create table%'
      and m.name not like '%^_found^_%' escape '^' and m.name not like 'sqlite^_%' escape '^')
select o.name as "table", c.name as "column", '' as other from ours o join pragma_table_info(o.name) c
union all
select o.name, f."from", f."table" from ours o join pragma_foreign_key_list(o.name) f

-- name: counters
-- Tables that number their rows themselves, and the number that each gave last.
select m.name as "table", coalesce(s.seq, 0) as given
from sqlite_schema m left join sqlite_sequence s on s.name = m.name
where m.type = 'table' and m.sql like '%autoincrement%'

-- name: forget_counter
-- There is no index over names in which one could be replaced.
delete from sqlite_sequence where name = :table

-- name: set_counter
-- The number behind which a table goes on.
insert into sqlite_sequence (name, seq) values (:table, :last)

-- name: search_probe
-- Nothing, or an error: looking for any word reads what the search keeps, of which SQLite's own check says nothing.
select 'unreadable' as problem from (
    select count(*) as total from (select 1 from texts_found where texts_found match 'orchestrion' limit 1)
    union all
    select count(*) from (select 1 from decisions_found where decisions_found match 'orchestrion' limit 1)) as found
where found.total < 0
