-- name: reserve_tasks
-- Numbers for new tasks, from the sequence that never goes back.
select coalesce((select seq from sqlite_sequence where name = 'tasks'), 0) + value as id
from (with recursive n(value) as (select 1 union all select value + 1 from n where value < :count) select value from n)

-- name: add_task
-- A new task, pending or born completed; its edges follow.
insert into tasks (
    id, project, plan, lane, parent, state, priority, due_at, max_retries, retry_delay_s, timeout_s, key, title,
    description, type, complexity, effort_min, command, checks, setup, merge, tags, context, metadata,
    correlation, clone, created_at, updated_at, completed_at)
values (
    :id, :project, :plan, :lane, :parent, :state, :priority, :due_at, :max_retries, :retry_delay_s, :timeout_s, :key,
    :title, :description, :type, :complexity, :effort_min, :command, :checks, :setup, :merge, :tags, :context,
    :metadata, :correlation,
    case when :merge = 'auto' then coalesce((select began_clone from plans where id = :plan), '') else '' end, {now}, {now}, case when :state = 'completed' then {now} end)

-- name: add_tag
-- A tag of a task, for finding it.
insert into tags (task, tag) values (:task, :tag)

-- name: remove_tags
-- Takes all tags off a task.
delete from tags where task = :task

-- name: task
-- One task with the names that its numbers stand for.
select t.*, p.name as plan_name, l.role, l.agent, l.needs
from tasks t join plans p on p.id = t.plan join lanes l on l.id = t.lane
where t.id = :id and t.project = :project

-- name: task_for_update
-- One task's row, held against other writers until the transaction ends.
select * from tasks where id = :id and project = :project {for_update}

-- name: lock_tasks
-- States of tasks that edges will point at, held against a change until the transaction ends.
select id, state, parent, plan from tasks where id in {ids[]} and +project = :project order by id {for_update}

-- name: keys_of_plan
-- The keys of a plan.
select id, key, state from tasks where plan = :plan and key is not null
  and key in {keys[text]}  --? keys

-- name: list_tasks
-- Tasks, oldest first, bounded.
select t.*, p.name as plan_name, l.role, l.agent, l.needs
from tasks t join plans p on p.id = t.plan join lanes l on l.id = t.lane
where t.project = :project
  and t.id > :after  --? after
  and t.state in {states[text]}  --? states
  and l.role = :role  --? role
  and t.parent = :parent  --? parent
  and p.name = :plan  --? plan
  and t.type = :type  --? type
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag
  and (lower(t.title) like :pattern escape '\' or lower(t.description) like :pattern escape '\')  --? pattern
  and t.archived_at is null  --? unarchived
order by t.id limit :limit

-- name: count_tasks
-- How many tasks list_tasks would show in all.
select count(*) as total {from list_tasks}

-- name: count_states
-- Number of tasks in each state.
select t.state, count(*) as total from tasks t
where t.project = :project and t.archived_at is null
  and t.plan = :plan  --? plan
group by t.state

-- name: lanes
-- All lanes.
select id, role, agent, needs from lanes where project = :project order by id

-- name: ready_of_lane
-- The first ready tasks of a lane for a clone (empty: for any), in the order in which they will be claimed.
select t.*, p.name as plan_name, l.role, l.agent, l.needs
from (select * from tasks where lane = :lane and clone = :home and state = 'ready'
        and plan = :plan  --? plan
      order by rank, id limit :limit) t
    join plans p on p.id = t.plan join lanes l on l.id = t.lane
order by t.rank, t.id

-- name: ready_elsewhere
-- Ready tasks that only another clone may take, and where that is.
select t.id, t.lane, p.name, p.began_clone, p.began_host, p.began_checkout
from lanes l join tasks t on t.lane = l.id and t.state = 'ready' join plans p on p.id = t.plan
where l.project = :project and t.clone <> '' and t.clone <> coalesce(:clone, '')
  and t.plan = :plan  --? plan
order by t.id limit :limit

-- name: count_ready
-- Number of ready tasks that this clone may take, counted in the index for claims.
select count(*) as total from lanes l join tasks t on t.lane = l.id and t.clone in ('', :clone) and t.state = 'ready'
where l.project = :project
  and l.role = :role  --? role
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag

-- name: waiting_known
-- How many tasks waited or were ready when they were counted last, up to which number, and the last number given.
select waiting_counted as counted, waiting_up_to as up_to,
    coalesce((select seq from sqlite_sequence where name = 'tasks'), 0) as last
from projects where id = :project

-- name: count_waiting
-- Counts the tasks that wait or are ready, in two indexes, and keeps up to which number they are counted.
update projects set waiting_up_to = :last,
    waiting_counted = (select count(*) from tasks where project = :project and state = 'pending')
        + (select count(*) from lanes l join tasks t on t.lane = l.id and t.state = 'ready' where l.project = :project)
where id = :project

-- name: children
-- Numbers of the direct children.
select id from tasks where parent = :parent order by id

-- name: descendants
-- A task's children, their children, and so on; without itself.
with recursive below(id) as (
    select id from tasks where parent = :id
    union
    select t.id from tasks t join below on t.parent = below.id)
select t.id, t.parent, t.state, t.children, t.effort_min from below join tasks t on t.id = below.id order by t.id

-- name: ancestors
-- A task's parent, its parent, and so on; nearest first. It ends also where a hand made a circle of them.
with recursive above(id, parent, depth) as (
    select id, parent, 0 from tasks where id = :id
    union all
    select t.id, t.parent, depth + 1 from tasks t join above on t.id = above.parent
    where t.id <> :id and above.depth < 1000)
select id, depth from above where depth > 0 order by depth

-- name: completed_above
-- Those of some tasks that are completed, and what is above them as far as it is completed too.
with recursive above(id, parent) as (
    select id, parent from tasks where id in {ids[]} and state = 'completed' and project = :project
    union
    select t.id, t.parent from tasks t join above on t.id = above.parent where t.state = 'completed')
select id from above order by id desc

-- name: waiting_tasks
-- What decides where waiting tasks go: their counters. Completed parents of which a child came back belong to them. A
-- task is owed a run if one of its own got children under way and did not succeed, nor any since.
select id, state, unmet, dead, held, children,
    case when children > 0 and unmet = 0 and coalesce(code, '') <> 'approved' then exists (
        select 1 from runs r join tasks c on c.parent = r.task and c.created_at between r.claimed_at and r.ended_at
        where r.task = tasks.id and r.state in ('failed', 'timed_out', 'killed', 'lost')
            and not exists (select 1 from runs s where s.task = r.task and s.id > r.id and s.state = 'succeeded'))
        else false end as owed,
    case when dead > 0 then exists (select 1 from edges e where e.task = tasks.id and e.kind = 'on_failure'
                                       and e.state = 'dead') else false end as not_needed
from tasks
where id in {ids[]} and (state in ('pending', 'ready', 'blocked') or (state = 'completed' and children > 0 and unmet > 0
    and exists (select 1 from edges e where e.task = tasks.id and e.kind = 'child' and e.state in ('open', 'dead'))))
order by id {for_update}

-- name: has_completed_child
-- Parents of which at least one child is completed.
select distinct e.task as id from edges e join tasks c on c.id = e.prerequisite
where e.task in {ids[]} and e.kind = 'child' and c.state = 'completed'

-- name: tasks_become_ready
-- Tasks that may be claimed now. Rank: one step of effective priority outweighs one hour of waiting.
update tasks set state = 'ready', ready_at = {now}, updated_at = {now}, reason = null, code = null,
    urgent = (due_at is not null and due_at <= {now} + 3600000){as_int},
    rank = {now} - 3600000 * {effective}
where id in {ids[]} and state = 'pending'

-- name: rerank
-- Ready tasks whose effective priority may have changed.
update tasks set rank = ready_at - 3600000 * {effective}, updated_at = {now},
    urgent = (due_at is not null and due_at <= {now} + 3600000){as_int}
where id in {ids[]} and state = 'ready'

-- name: promote_deadlines
-- Ready tasks whose deadline is within the hour; a bounded number at a time.
update tasks set urgent = 1, rank = ready_at - 3600000 * {effective} where id in
    (select id from tasks where state = 'ready' and urgent = 0 and due_at is not null
        and due_at <= {now} + 3600000 and project = :project limit 100)

-- name: tasks_become_pending
-- Tasks that wait again for an open edge.
update tasks set state = 'pending', updated_at = {now}, reason = null, code = null, completed_at = null
where id in {ids[]} and state in ('ready', 'blocked', 'completed')

-- name: task_becomes_blocked
-- A task that only a decision can help, and which one.
update tasks set state = 'blocked', updated_at = {now}, code = :code, reason = :reason
where id = :id and state in ('pending', 'ready', 'blocked')

-- name: parents_become_completed
-- Parents whose children are all done.
update tasks set state = 'completed', completed_at = {now}, updated_at = {now}, reason = null, code = null
where id in {ids[]} and state = 'pending'

-- name: tasks_become_cancelled
-- Tasks that are not wanted any more.
update tasks set state = 'cancelled', updated_at = {now}, completed_at = {now}, code = :code, reason = :reason, run = null,
    retry_at = null
where id in {ids[]} and state in ('pending', 'ready', 'in_progress', 'retrying', 'blocked', 'review', 'failed')

-- name: task_becomes_in_progress
-- The claimed task is held by its new run.
update tasks set state = 'in_progress', run = :run, attempts = attempts + 1, updated_at = {now},
    started_at = coalesce(started_at, {now}), completed_at = null
where id = :id and state = 'ready'

-- name: held_task_moves
-- The task of a run leaves in_progress; refused (no row) when another run is the task's current one.
update tasks set state = :to, run = null, updated_at = {now}, code = :code, reason = :reason, error = :error,
    summary = coalesce(:summary, summary), result = coalesce(:result, result), work_run = coalesce(:work_run, work_run),
    retry_at = :retry_at, retries = retries + :retried,
    completed_at = case when :to in ('completed', 'failed') then {now} end
where id = :id and run = :run and state = 'in_progress'

-- name: task_is_held_again
-- A task gets back the active run of its own that it does not name; no row: it names one, or was moved meanwhile.
update tasks set state = 'in_progress', run = :run, updated_at = {now}
where id = :id and state = :found and not exists
    (select 1 from runs r where r.id = tasks.run and r.task = tasks.id and r.state in ('starting', 'running'))

-- name: unheld_task_moves
-- A task leaves in_progress that no active run of its own holds; refused (no row) when one does, or it was moved.
update tasks set state = :to, run = null, updated_at = {now}, code = :code, reason = :reason, error = :error,
    work_run = coalesce(:work_run, work_run), retry_at = :retry_at, retries = retries + :retried,
    completed_at = case when :to = 'failed' then {now} end
where id = :id and coalesce(run, 0) = :run and state = 'in_progress' and not exists
    (select 1 from runs r where r.id = tasks.run and r.task = tasks.id and r.state in ('starting', 'running'))

-- name: task_is_where_it_was
-- The same of a task that a hand made to be in progress; all else is as it was then.
update tasks set state = :to, run = null, updated_at = {now},
    retry_at = case when :to = 'retrying' then coalesce(retry_at, {now}) end,
    completed_at = case when :is_settled = 1 then coalesce(completed_at, :at) end
where id = :id and coalesce(run, 0) = :run and state = 'in_progress' and not exists
    (select 1 from runs r where r.id = tasks.run and r.task = tasks.id and r.state in ('starting', 'running'))

-- name: last_told_of_task
-- The state that the journal told of last, and when.
select to_state, at from events
where task = :task and project = :project and to_state is not null and substr(kind, 1, 5) = 'task.'
order by id desc limit 1

-- name: count_attempts
-- A task was tried as often as it has runs, since the first of them.
update tasks set attempts = (select count(*) from runs r where r.task = tasks.id),
    started_at = case when exists (select 1 from runs r where r.task = tasks.id)
        then coalesce(started_at, (select min(r.claimed_at) from runs r where r.task = tasks.id)) end
where id = :id and attempts <> (select count(*) from runs r where r.task = tasks.id)

-- name: decided_task_moves
-- A person or a timer moves a task that no run holds.
update tasks set state = :to, updated_at = {now}, code = :code, reason = :reason, feedback = coalesce(:feedback, feedback),
    retry_at = null, retries = case when :reset = 1 then 0 else retries end,
    correlation = coalesce(:correlation, correlation),
    completed_at = case when :to in ('completed', 'failed', 'cancelled') then {now} end
where id = :id and state = :found and run is null

-- name: due_retries
-- Tasks whose back-off has ended.
select id from tasks where state = 'retrying' and retry_at <= {now} and project = :project order by retry_at limit 100

-- name: next_timer
-- The next moment at which something becomes due by itself.
select min(at) as at from (
    select min(retry_at) as at from tasks where state = 'retrying' and project = :project
    union all
    select min(opens_at) from gates where state = 'open' and kind = 'time' and project = :project) as timers

-- name: change_task
-- All that a caller may change, of a task that is held.
update tasks set updated_at = {now}, lane = :lane, title = :title, description = :description, priority = :priority,
    type = :type, complexity = :complexity, effort_min = :effort_min, due_at = :due_at, max_retries = :max_retries,
    retry_delay_s = :retry_delay_s, timeout_s = :timeout_s, command = :command, checks = :checks, setup = :setup,
    merge = :merge, tags = :tags, context = :context, metadata = :metadata,
    clone = case when :merge = 'auto'
        then coalesce((select p.began_clone from plans p where p.id = tasks.plan), '') else '' end
where id = :id

-- name: set_parent
-- The task moves in the hierarchy.
update tasks set parent = :parent, updated_at = {now} where id = :id

-- name: archive
-- Takes a settled task out of the lists.
update tasks set archived_at = coalesce(archived_at, {now}), updated_at = {now} where id = :id

-- name: unarchive
-- Tasks that are taken up again are in the lists again; those that were not.
update tasks set archived_at = null where id in {ids[]} and archived_at is not null returning id

-- name: delete_task
-- Removes a task that nothing refers to.
delete from tasks where id = :id

-- name: delete_edges_of
-- Removes the edges of a task that is about to go.
delete from edges where task = :id or prerequisite = :id

-- name: ready_before
-- How many ready tasks are before one, counted up to a limit.
select count(*) as total from (
    select 1 from tasks where state = 'ready' and project = :project and (rank < :rank or (rank = :rank and id < :id))
    limit :limit) as before

-- name: comes_back
-- Whether a task will be run by itself, though not now: its back-off has an end, or its agent's service wants to be
-- asked later.
select 1 as waits from tasks t where t.state = 'retrying' and t.project = :project and t.clone in ('', :clone)
  and t.plan = :plan  --? plan
  and t.lane in {lanes[]}  --? lanes
union all
select 1 from breakers where project = :project and code = 'rate_limited' and until > {now}
    and exists (select 1 from tasks t where t.state = 'ready' and t.project = :project and t.clone in ('', :clone)
        and t.plan = :plan  --? plan
        and t.lane in {lanes[]}  --? lanes
    )
limit 1

-- name: tasks_behind_results
-- Tasks that are in review or whose prerequisite has failed, and those that wait for such a task.
with recursive behind (id) as (
    select id from tasks where project = :project and (state = 'review' or (state = 'blocked' and dead > 0))
    union
    select e.task from edges e join behind b on b.id = e.prerequisite join tasks t on t.id = e.task
    where e.state in ('open', 'dead') and t.state = 'pending')
select id from behind order by id

-- name: tally
-- Tasks by state: those that are open and not beyond reach, and those that came to their state since an event.
select t.state, count(*) as total {from tally_named}
group by t.state

-- name: tally_named
-- The first of the tasks that tally counts in some states, how many there are, and whose worker runs each.
select t.id, t.title, t.state, t.reason, t.error, r.worker_pid, r.worker_start, count(*) over () as total
from tasks t left join runs r on r.id = t.run
where t.project = :project and t.archived_at is null and not (t.state = 'cancelled' and t.code = 'not_needed')
  and ((t.state not in ('completed', 'failed', 'cancelled') and t.id not in {beyond[]})
    or (t.id, t.state) in (select e.task, e.to_state from events e
        where e.project = :project and e.id > :since and substr(e.kind, 1, 5) = 'task.'))
  and t.state in {states[text]}  --? states
  and t.plan = :plan  --? plan
  and t.lane in {lanes[]}  --? lanes
order by case t.state when 'review' then 0 when 'blocked' then 1 else 2 end, t.id limit :limit

-- name: needs_you
-- Tasks that only a person can move on, the oldest first; the first of them, and how many there are.
select t.id, t.title, t.state, t.reason, t.error, count(*) over () as total from tasks t
where t.project = :project and t.archived_at is null and t.state in ('blocked', 'review', 'failed')
order by case t.state when 'review' then 0 when 'blocked' then 1 else 2 end, t.id limit :limit

-- name: checks_of_plan
-- Tasks of a plan whose checks hold for what was merged, one for each distinct set of checks.
select min(t.id) as id, t.checks from tasks t join plans p on p.id = t.plan
where t.project = :project and p.name = :plan and t.state = 'completed' and t.checks <> '[]'
group by t.checks
