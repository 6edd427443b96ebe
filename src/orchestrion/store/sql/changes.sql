-- name: changes_of_run
-- Files that a run has changed until now.
select path, kind, lines_added, lines_removed, seen_at from changes where run = :run order by path

-- name: forget_change
-- A file that the run has changed back.
delete from changes where run = :run and path = :path

-- name: note_change
-- A file that the run has changed.
insert into changes (run, path, kind, lines_added, lines_removed, seen_at)
values (:run, :path, :kind, :lines_added, :lines_removed, {now})
on conflict (run, path) do update set kind = excluded.kind, lines_added = excluded.lines_added,
    lines_removed = excluded.lines_removed, seen_at = excluded.seen_at

-- name: tell_overlaps
-- Files of a run that other runs at work, or with work in review, have changed too, as a line for each of the two
-- runs; only what they were not told before. In one order for all, so that two runs that tell it at once do not
-- wait for each other.
insert into meetings (run, other, path, seen_at)
select case when w.way = 1 then m.run else c.run end, case when w.way = 1 then c.run else m.run end, m.path, {now}
from changes m
    join changes c on c.path = m.path and c.run <> m.run
    join runs r on r.id = c.run
    join tasks t on t.id = r.task
    cross join (select 1 as way union all select 2) w
where m.run = :run and r.project = :project
    and (r.state in ('starting', 'running') or (t.state = 'review' and t.work_run = r.id))
    and not exists (select 1 from meetings o where o.run = m.run and o.other = c.run and o.path = m.path)
order by 3, 1, 2 limit :limit
on conflict (run, other, path) do nothing
returning run, other, path, (select task from runs where id = meetings.run) as task

-- name: overlaps
-- Files that a run at work has changed and another one too, at work or with work in review, with each of those runs.
with live as materialized (
    select id as run, 1 as active from runs where project = :project and state in ('starting', 'running')
    union all
    select work_run, 0 from tasks
    where project = :project and state in ('blocked', 'review', 'failed') and state = 'review' and work_run is not null)
select c.path, c.run from live l join changes c on c.run = l.run
where exists (select 1 from changes o join live k on k.run = o.run
              where o.path = c.path and o.run <> c.run and (l.active = 1 or k.active = 1))
  and exists (select 1 from changes x where x.run = :run and x.path = c.path)  --? run
order by c.path, c.run
