-- SQLite keeps references only while it is told to. PostgreSQL keeps them whoever writes, and has no such question.

-- name: lost_references
-- Rows of any table that name a row that is not there, as the database itself finds them.
select 'row ' || coalesce(cast("rowid" as text), '') || ' of ' || "table" || ' names a row of ' || parent
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
