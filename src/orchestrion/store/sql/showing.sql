-- name: board_counts
-- Number of tasks in each state, of those that are looked for.
select t.state, count(*) as total from tasks t
where t.project = :project and t.archived_at is null
  and t.plan in (select p.id from plans p where p.project = :project and p.name = :plan)  --? plan
  and t.lane in (select l.id from lanes l where l.project = :project and l.role = :role)  --? role
  and (t.id = :wanted or lower(t.title) like :pattern escape '\' or lower(t.description) like :pattern escape '\')  --? pattern
group by t.state

-- name: board_tasks
-- The first tasks of some states, with the run that holds each. The order is one of: what needs somebody most, what is
-- claimed first, what changed last, what is the oldest. Which they are is found before anything is joined.
with first as materialized (
    select t.id
    from tasks t
    where t.project = :project and t.archived_at is null and t.state in {states[text]}
  and t.plan in (select p.id from plans p where p.project = :project and p.name = :plan)  --? plan
  and t.lane in (select l.id from lanes l where l.project = :project and l.role = :role)  --? role
  and (t.id = :wanted or lower(t.title) like :pattern escape '\' or lower(t.description) like :pattern escape '\')  --? pattern
    order by
      case t.state when 'review' then 0 when 'blocked' then 1 + (t.held = 0){as_int} else 3 end,  --? urgent
      t.rank,  --? ranked
      t.updated_at desc,  --? newest
      t.id limit :limit)
select t.id, t.title, t.state, t.code, t.reason, t.error, t.priority, t.retry_at, t.due_at, t.updated_at,
    t.completed_at, t.unmet, t.dead, t.held, t.run, t.attempts, t.summary, t.ready_at, t.command,
    p.name as plan_name, l.role, l.agent, r.agent as run_agent, r.phase, r.supervised, r.turns, r.cost_usd,
    r.tokens_input, r.tokens_output, r.tokens_cache_read, r.tokens_cache_write,
    coalesce(r.started_at, r.claimed_at) as began_at, {now} as now
from first f join tasks t on t.id = f.id join plans p on p.id = t.plan join lanes l on l.id = t.lane
    left join runs r on r.id = t.run
order by
  case t.state when 'review' then 0 when 'blocked' then 1 + (t.held = 0){as_int} else 3 end,  --? urgent
  t.rank,  --? ranked
  t.updated_at desc,  --? newest
  t.id

-- name: gates_awaited
-- Open gates that tasks wait for, those of their ancestors included.
select e.task, g.id, g.kind, g.name, g.opens_at from edges e join gates g on g.id = e.gate
where e.task in {ids[]} and e.state = 'open' order by g.id

-- name: runs_within
-- Runs that were active at some moment of a span of time, newest first.
select r.id, r.task, r.attempt, r.agent, r.role, r.state, r.phase, r.code, r.reason, r.cost_usd, r.ended_at,
    coalesce(r.started_at, r.claimed_at) as began_at, t.title, p.name as plan_name, {now} as now,
    count(*) over () as total
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.project = :project and (r.ended_at is null or r.ended_at >= :since)
  and p.name = :plan  --? plan
  and r.agent = :agent  --? agent
  and (r.id = :wanted or t.id = :wanted or lower(t.title) like :pattern escape '\')  --? pattern
order by r.id desc limit :limit

-- name: files_being_changed
-- Files that runs at work have changed until now.
select c.path, c.run, c.kind, c.lines_added, c.lines_removed, c.seen_at, r.task, r.agent, t.title
from changes c join runs r on r.id = c.run join tasks t on t.id = r.task
where r.project = :project and r.state in ('starting', 'running')
  and lower(c.path) like :pattern escape '\'  --? pattern
order by c.path, c.run limit :limit

-- name: files_touched
-- Paths that were changed, the last changed first: who changed each last, and how many changes there were.
select f.path, f.op, f.status, f.task, f.run, f.seen_at, f.source, n.changes, n.tasks, n.total, t.title
from (select max(id) as id, count(*) as changes, count(distinct task) as tasks, count(*) over () as total
      from files where project = :project
        and lower(path) like :pattern escape '\'  --? pattern
      group by path order by max(id) desc limit :limit) n
    join files f on f.id = n.id left join tasks t on t.id = f.task
order by f.id desc
