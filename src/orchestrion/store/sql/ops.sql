-- name: idle_tasks
-- Open tasks of a role that nobody touched for a time, the longest untouched first, and how many there are. `claimed`
-- are those that others wait for.
select t.id, t.title, t.state, l.role, t.updated_at, t.dead, t.held, {now} - t.updated_at as idle_ms,
    count(*) over () as total,
    exists (select 1 from edges e where e.prerequisite = t.id and e.state = 'open') as claimed
from tasks t join lanes l on l.id = t.lane
where t.project = :project and t.archived_at is null and t.children = 0 and l.role = :role
  and t.state in {states[text]} and t.updated_at <= {now} - :age_ms
  and t.id in {ids[]}  --? ids
order by t.updated_at, t.id limit :limit

-- name: open_orphans
-- Open tasks whose parent was given up or put away.
select t.id, t.title, t.state, t.updated_at, p.id as parent, p.state as parent_state, l.role
from tasks t join tasks p on p.id = t.parent join lanes l on l.id = t.lane
where t.project = :project and t.archived_at is null
  and t.state in ('pending', 'ready', 'retrying', 'blocked', 'review')
  and (p.state = 'cancelled' or p.archived_at is not null)
  and t.id in {ids[]}  --? ids
order by t.id limit :limit

-- name: idle_parents
-- Open parents below which nothing moved for a time.
select t.id, t.title, t.state, l.role, max(c.updated_at) as updated_at, count(*) as parts,
    sum(case when c.state = 'completed' then 1 else 0 end) as done
from tasks t join tasks c on c.parent = t.id join lanes l on l.id = t.lane
where t.project = :project and t.archived_at is null and t.state in ('pending', 'blocked')
  and t.id in {ids[]}  --? ids
group by t.id, t.title, t.state, l.role
having max(c.updated_at) <= {now} - :age_ms order by t.id limit :limit

-- name: open_roles
-- Roles that open tasks have, with their number.
select l.role, count(*) as total from tasks t join lanes l on l.id = t.lane
where t.project = :project and t.archived_at is null
  and t.state in ('pending', 'ready', 'retrying', 'blocked', 'review', 'failed')
group by l.role order by l.role

-- name: overdue_runs
-- Active runs whose lease has run out: nobody gave a sign of life in time.
select r.*, {now} as now
from runs r
where r.project = :project and r.state in ('starting', 'running')
  and r.lease_until < {now}
  and r.task in {ids[]}  --? ids
order by r.lease_until limit :limit

-- name: tasks_to_archive
-- Settled tasks that were settled long ago, that no open task waits for, and whose parent is settled too.
select t.id from tasks t left join tasks p on p.id = t.parent
where t.project = :project and t.archived_at is null and t.state = :state and t.completed_at <= {now} - :age_ms
  and (p.id is null or p.archived_at is not null or p.state in ('completed', 'failed', 'cancelled'))
  and not exists (select 1 from edges e join tasks w on w.id = e.task
                  where e.prerequisite = t.id and e.kind <> 'child' and w.archived_at is null
                      and w.state not in ('completed', 'failed', 'cancelled'))
  and t.id in {ids[]}  --? ids
order by t.completed_at, t.id limit :limit

-- name: events_to_purge
-- Old lines of the journal about what is put away, and about no task at all, up to a number of them: the last one's id.
-- The newest line always stays, for lines are numbered by it, and so does all that follows a line that is not old: one
-- of a clock that ran ahead must not be the last that is left of what came after it.
select max(id) as last, count(*) as total from (
    select e.id from events e left join tasks t on t.id = e.task
    where e.project = :project and e.at <= {now} - :age_ms and e.id < (select max(n.id) from events n)
      and e.id < coalesce((select y.id from events y where y.project = :project and y.at > {now} - :age_ms
                           order by y.id limit 1), e.id + 1)
      and (e.task is null or t.id is null or t.archived_at is not null)
    order by e.id limit :limit) as old

-- name: purge_events
-- Removes what events_to_purge counted.
delete from events where project = :project and id <= :last and at <= {now} - :age_ms
  and (task is null or not exists (select 1 from tasks t where t.id = events.task and t.archived_at is null))

-- name: settled_runs
-- Runs that ended long ago, of tasks that nobody will go on with.
select r.id from runs r join tasks t on t.id = r.task
where r.project = :project and r.id > :after and r.ended_at <= {now} - :age_ms
  and t.state in ('completed', 'failed', 'cancelled')
order by r.id limit :limit

-- name: count_things
-- How much the project holds.
select (select count(*) from tasks where project = :project) as tasks,
    (select count(*) from tasks where project = :project and archived_at is not null) as archived,
    (select count(*) from runs where project = :project) as runs,
    (select count(*) from events where project = :project) as events,
    (select count(*) from metrics where project = :project) as metrics,
    (select coalesce(sum(size), 0) from artifacts where project = :project) as artifact_bytes

-- name: add_maintenance
-- What a maintenance found and did.
insert into maintenance (project, action, scope, level, dry_run, found, done, actor, at)
values (:project, :action, :scope, :level, :dry_run, :found, :done, :actor, {now}) returning id, at

-- name: list_maintenance
-- What was found and done, the latest first.
select * from maintenance where project = :project
  and action = :action  --? action
order by id desc limit :limit

-- name: maintenance_to_forget
-- How many old records there are; the newest of all always stays.
select count(*) as total from maintenance where project = :project and at <= {now} - :age_ms
  and id < (select max(m.id) from maintenance m where m.project = :project)

-- name: forget_maintenance
-- Removes what maintenance_to_forget counted.
delete from maintenance where project = :project and at <= {now} - :age_ms
  and id < (select max(m.id) from maintenance m where m.project = :project)

-- name: take_lease
-- Nobody else may do it for a time; no row: somebody has it. One that was taken while the clock ran ahead is over.
insert into leases (project, name, holder, until) values (:project, :name, :holder, {now} + :ms)
on conflict (project, name) do update set holder = excluded.holder, until = excluded.until
where leases.until <= {now} or leases.until > {now} + 2 * :longest_ms or leases.holder = excluded.holder
returning until

-- name: lease
-- Who has it, and for how long.
select holder, until, until - {now} as left_ms from leases where project = :project and name = :name

-- name: keep_lease
-- Its holder has it for so long from now, or no longer.
update leases set until = {now} + :ms where project = :project and name = :name and holder = :holder

-- name: add_worker
-- A worker is there. Its host goes by its id here: of two hosts of one name each has its own.
insert into workers (project, host, host_name, pid, pid_start, slots, agent, started_at, seen_at)
values (:project, :host_id, :host, :pid, :pid_start, :slots, :agent, {now}, {now})
on conflict (project, host, pid) do update set pid_start = excluded.pid_start, slots = excluded.slots,
    agent = excluded.agent, started_at = case when workers.pid_start = excluded.pid_start then workers.started_at
        else excluded.started_at end, seen_at = excluded.seen_at

-- name: remove_worker
-- A worker went.
delete from workers where project = :project and host = :host_id and pid = :pid

-- name: remove_workers
-- Workers that are known to be gone.
delete from workers where id in {ids[]}

-- name: workers
-- Workers that are there, or were when they were heard last.
select w.id, coalesce(w.host_name, w.host) as host, case when w.host_name is not null then w.host end as host_id, w.pid,
    w.pid_start, w.slots, w.agent, w.started_at, w.seen_at, {now} as now,
    (select count(*) from runs r where r.project = w.project and coalesce(r.host_id, r.host) = w.host
    and r.worker_pid = w.pid and r.state in ('starting', 'running')) as runs
from workers w where w.project = :project order by w.id

-- name: write_probe
-- A row that is written for nothing but to see how long that takes.
insert into meta (key, value) values (:key, cast({now} as text)) on conflict (key) do update set value = excluded.value

-- name: read_probe
-- A row that is read for nothing but to see how long that takes.
select count(*) as total from (select id from tasks where project = :project order by id desc limit 100) as few

-- name: store_size
-- Bytes of the database, and how many of them hold nothing.
select page_count * page_size as bytes, freelist_count * page_size as unused
from pragma_page_count(), pragma_page_size(), pragma_freelist_count()

-- name: oldest_ready
-- How many tasks are ready, and since when the first of them is.
select count(*) as total, min(t.ready_at) as since from lanes l join tasks t on t.lane = l.id and t.state = 'ready'
where l.project = :project

-- name: waiting_tasks_named
-- Tasks that wait for something else than a place in the queue, the longest first, and how many there are.
select t.id, t.title, t.state, t.code, t.reason, t.retry_at, t.updated_at, t.held, t.dead, {now} as now,
    count(*) over () as total
from tasks t where t.project = :project and t.archived_at is null and t.state in ('blocked', 'review', 'retrying')
order by t.updated_at, t.id limit :limit

-- name: merge_queues
-- Which run has a plan's merge queue.
select p.id, p.name, p.merge_run from plans p join runs r on r.id = p.merge_run
where p.project = :project and r.state in ('starting', 'running')
