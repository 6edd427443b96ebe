-- name: reserve_tasks
-- PostgreSQL's sequence gives numbers without a lock.
select nextval(pg_get_serial_sequence('tasks', 'id')) as id from generate_series(1, :count::bigint)

-- name: waiting_known
-- PostgreSQL's sequence knows the last number that it gave, to whomever.
select waiting_counted as counted, waiting_up_to as up_to,
    coalesce(pg_sequence_last_value(pg_get_serial_sequence('tasks', 'id')::regclass), 0) as last
from projects where id = :project

-- name: descendants
-- Asked laterally, PostgreSQL finds the children of each step through their index instead of reading all tasks again.
with recursive below(id) as (
    select id from tasks where parent = :id
    union
    select n.id from below cross join lateral (select t.id from tasks t where t.parent = below.id offset 0) n)
select t.id, t.parent, t.state, t.children, t.effort_min from below join tasks t on t.id = below.id order by t.id
