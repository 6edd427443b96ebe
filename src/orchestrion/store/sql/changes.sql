-- name: changes_of_run
-- Files that a run has changed until now.
select path, kind, seen_at from changes where run = :run order by path

-- name: forget_change
-- A file that the run has changed back.
delete from changes where run = :run and path = :path

-- name: note_change
-- A file that the run has changed.
insert into changes (run, path, kind, seen_at) values (:run, :path, :kind, {now})
on conflict (run, path) do update set kind = excluded.kind, seen_at = excluded.seen_at

-- name: others_at
-- Other active runs of the project that have changed one of these files.
select c.path, c.run, r.task, (select task from runs where id = :run) as own_task
from changes c join runs r on r.id = c.run
where c.path in {paths[text]} and c.run <> :run and r.project = :project and r.state in ('starting', 'running')
order by c.path, c.run

-- name: overlaps
-- Files that more than one active run has changed, with each of those runs.
select c.path, c.run from changes c join runs r on r.id = c.run
where r.project = :project and r.state in ('starting', 'running') and exists
    (select 1 from changes o join runs s on s.id = o.run
     where o.path = c.path and o.run <> c.run and s.project = :project and s.state in ('starting', 'running'))
order by c.path, c.run
