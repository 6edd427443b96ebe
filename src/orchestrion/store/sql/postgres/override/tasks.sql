-- name: reserve_tasks
-- PostgreSQL's sequence gives numbers without a lock.
select nextval(pg_get_serial_sequence('tasks', 'id')) as id from generate_series(1, :count::bigint)
