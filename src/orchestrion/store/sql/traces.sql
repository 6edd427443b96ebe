-- name: traced
-- Up to which line of the journal spans were sent; null: none ever.
select traced from projects where id = :project

-- name: note_traced
-- So far they were sent.
update projects set traced = :line where id = :project

-- name: ended_between
-- Runs and tasks that ended in these lines of the journal.
select id, task, run, kind from events where project = :project and id > :since and id <= :upto and kind in
    ('run.succeeded', 'run.failed', 'run.timed_out', 'run.killed', 'run.lost',
     'task.completed', 'task.failed', 'task.cancelled')
order by id

-- name: runs_to_trace
-- Ended runs with what their spans say.
select r.*, t.title, t.correlation, p.name as plan_name
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.id in {ids[]} and r.project = :project and r.ended_at is not null

-- name: checks_to_trace
-- Evidence of these runs.
select run, id, stage, command, exit_code, at, duration_ms from checks where run in {ids[]} order by id

-- name: tasks_to_trace
-- Ended tasks with what their spans say.
select t.id, t.title, t.state, t.code, t.attempts, t.created_at, t.completed_at, t.updated_at, t.correlation,
    p.name as plan_name, l.role
from tasks t join plans p on p.id = t.plan join lanes l on l.id = t.lane
where t.id in {ids[]} and t.project = :project and t.state in ('completed', 'failed', 'cancelled')
