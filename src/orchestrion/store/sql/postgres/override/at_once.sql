-- Whole moves in one statement, which SQLite cannot say and does not need: there a statement costs no journey.
-- They do the common case of what `scheduler/claim.py` and `finish.py` do step by step, and leave the rest to them.

-- name: claim_at_once
-- A client takes the best task, if that needs no limit and nothing is due: run, task and journal.
with clock as materialized (select {now} as now),
best as materialized (
    select b.id, b.agent, b.role, b.needs, c.clone
    from lanes b cross join (values (''), (:clone::text)) c (clone) cross join lateral
        (select h.id as head, h.rank from tasks h where h.lane = b.id and h.clone = c.clone and h.state = 'ready'
            order by h.rank, h.id limit 1) h
    where b.project = :project
      and b.role in {roles[text]}  --? roles
    order by h.rank, h.head limit 1),
head as materialized (
    select t.id, t.attempts + 1 as attempt, t.ready_at, b.agent, b.role from best b cross join lateral
        (select f.id, f.attempts, f.ready_at from tasks f where f.lane = b.id and f.clone = b.clone and f.state = 'ready'
            order by f.rank, f.id limit 1 for no key update skip locked) t, clock
    where b.needs = '[]'
      and not exists (select 1 from tasks where state = 'retrying' and retry_at <= now)
      and not exists (select 1 from gates where state = 'open' and kind = 'time' and opens_at <= now)
      and not exists (select 1 from tasks where state = 'ready' and urgent = 0 and due_at is not null
                          and due_at <= now + 3600000)),
born as (
    insert into runs (project, task, attempt, state, supervised, agent, role, actor, host, clone, lease_ms,
        lease_until, queued_at, claimed_at, started_at)
    select :project, id, attempt, 'running', 0, coalesce(nullif(agent, ''), :agent), role, :holder, :host, :clone,
        :lease_ms, now + :lease_ms, ready_at, now, now from head, clock
    returning id, task, attempt, agent, role, lease_until),
held as (
    update tasks t set state = 'in_progress', run = born.id, attempts = born.attempt, updated_at = now,
        started_at = coalesce(t.started_at, now), completed_at = null
    from born, clock where t.id = born.task),
told as (
    insert into events (project, at, kind, task, run, from_state, to_state, actor, session, correlation)
    select :project, now, line.kind, born.task, born.id, line.found, line.became, :actor, :session, :correlation
    from born, clock, (values ('run.running', null, 'running'), ('task.in_progress', 'ready', 'in_progress'))
        as line (kind, found, became))
select id as run, task, attempt, agent, role, lease_until from born

-- name: complete_at_once
-- A run succeeded and its task, whose row the transaction holds, is completed: run, task, slots, edges, dependants that
-- become ready, and journal. `others` are dependants that may have to go elsewhere. No row: not so simple a case.
-- The dependants' counters change when the statement is over, so what is left of them is reckoned here.
with clock as materialized (select {now} as now),
ended as (
    update runs r set state = 'succeeded', ended_at = now, summary = coalesce(:summary, r.summary)
    from clock, tasks t
    where r.id = :run and r.state = 'running' and r.project = :project and t.id = r.task and t.run = r.id
        and t.state = 'in_progress' and (t.children = 0 or t.unmet = 0)
    returning r.id, r.task, r.summary),
freed as (delete from holds where run in (select id from ended)),
unheard as (update messages set state = 'dropped' where run in (select id from ended) and state = 'waiting'),
done as (
    update tasks t set state = 'completed', run = null, updated_at = now, completed_at = now, code = null, reason = null,
        error = null, summary = coalesce(ended.summary, t.summary), result = coalesce(:result, t.result),
        work_run = ended.id, retry_at = null
    from ended, clock where t.id = ended.task and t.run = ended.id and t.state = 'in_progress'
    returning t.id, t.state),
behind as materialized (
    select c.id, c.state, c.unmet, c.dead, c.held, c.children from tasks c
    where c.id in (select e.task from edges e join ended on e.prerequisite = ended.task)
    order by c.id for no key update),
followed as (
    update edges as e set state = {edge_state} from done p, behind
    where e.prerequisite = p.id and behind.id = e.task and e.state <> 'waived' and e.state <> {edge_state}
    returning e.task, e.state),
sums as (select task, count(*) as touched, count(*) filter (where state = 'met') as met from followed group by task),
freed_tasks as (
    update tasks as tasks set state = 'ready', ready_at = now, updated_at = now, reason = null, code = null,
        urgent = (tasks.due_at is not null and tasks.due_at <= now + 3600000)::int,
        rank = now - 3600000 * {effective}
    from sums, behind, clock
    where behind.id = sums.task and tasks.id = behind.id and behind.state = 'pending' and behind.children = 0
        and behind.dead = 0 and behind.held = 0 and sums.met = sums.touched and behind.unmet = sums.met
    returning tasks.id),
told as (
    insert into events (project, at, kind, task, run, from_state, to_state, actor, session, correlation)
    select :project, now, line.kind, ended.task, ended.id, line.found, line.became, :actor, :session, :correlation
    from ended, clock, (values ('run.succeeded', 'running', 'succeeded'), ('task.completed', 'in_progress', 'completed'))
        as line (kind, found, became)
    union all
    select :project, now, 'task.ready', id, null, 'pending', 'ready', :actor, :session, :correlation
    from freed_tasks, clock)
select done.id as task, array(select id from freed_tasks order by id) as ready,
    array(select sums.task from sums join behind on behind.id = sums.task
          where sums.task not in (select id from freed_tasks)
            and not (behind.state = 'pending' and behind.dead = 0 and behind.held = 0
                     and sums.met = sums.touched and behind.unmet > sums.met)) as others
from done
