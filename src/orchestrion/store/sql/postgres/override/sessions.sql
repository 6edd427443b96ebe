-- name: sessions_follow
-- PostgreSQL's sequence knows the last number that it gave.
select setval(pg_get_serial_sequence('sessions', 'id'), :last::bigint) as last
where coalesce(pg_sequence_last_value(pg_get_serial_sequence('sessions', 'id')::regclass), 0) < :last

-- name: sessions_begin
-- It is there from the beginning.
select 1 as there where false
