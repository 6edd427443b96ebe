-- SQLite keeps references only while it is told to. PostgreSQL keeps them whoever writes, and has no such question.

-- name: lost_references
-- Rows of any table that name a row that is not there, as the database itself finds them.
select 'row ' || coalesce(cast("rowid" as text), '') || ' of ' || "table" || ' names a row of ' || parent
    || ' that is not there' as problem
from pragma_foreign_key_check limit :limit
