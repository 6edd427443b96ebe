-- name: claim_view
-- What a claim must know first: whether a timer is due, the queue is paused, a limit is used up.
select (exists (select 1 from tasks where state = 'retrying' and retry_at <= {now} and project = :project)
     or exists (select 1 from gates where state = 'open' and kind = 'time' and opens_at <= {now} and project = :project)
     or exists (select 1 from tasks where state = 'ready' and urgent = 0 and due_at is not null
                    and due_at <= {now} + 3600000 and project = :project)
     or exists (select 1 from runs where state in ('starting', 'running') and supervised = 0 and lease_until <= {now}
                    and project = :project)) as due,
    (select paused_at from projects where id = :project) as paused_at,
    exists (select 1 from slots where project = :project and used >= capacity) as any_full

-- name: take_best
-- The best ready task of the lanes that are open, and that nobody else is taking at this moment: of those for any
-- clone, and of those for the claiming one.
select t.id, t.attempts, t.ready_at, l.id as lane, l.role, l.agent, l.needs, l.command
from lanes l cross join (select '' as clone union all select :clone) c join tasks t on t.id =
    (select h.id from tasks h where h.lane = l.id and h.clone = c.clone and h.state = 'ready'
        and h.plan not in {spent[]}  --? spent
        and h.plan = :plan  --? plan
        order by h.rank, h.id limit 1)
where l.project = :project
  and l.role in {roles[text]}  --? roles
  and l.id not in {closed[]}  --? closed
order by t.rank, t.id limit 1

-- name: tagged_heads
-- The best few ready tasks of a tag in each lane, best first: no lane's crowd hides another lane.
select id, lane, role, agent, needs, command from (
    select t.id, t.rank, l.id as lane, l.role, l.agent, l.needs, l.command,
        row_number() over (partition by l.id order by t.rank, t.id) as place
    from tags g join tasks t on t.id = g.task join lanes l on l.id = t.lane
    where g.tag = :tag and t.state = 'ready' and t.project = :project and t.clone in ('', :clone)
      and t.plan not in {spent[]}  --? spent
      and t.plan = :plan  --? plan
      and l.role in {roles[text]}  --? roles
) as heads
where place <= 5 order by rank, id

-- name: take_ready
-- One named task, if it is ready and nobody else is taking it at this moment.
select t.id, t.attempts, t.ready_at, t.plan, t.clone, l.id as lane, l.role, l.agent, l.needs, l.command
from tasks t join lanes l on l.id = t.lane
where t.id = :id and t.state = 'ready' and t.project = :project {for_update_of_t} {skip_locked}

-- name: add_run
-- A new attempt; it is the task's fence from now on. Its number is new, and at least ``least``.
insert into runs (id, project, task, attempt, state, supervised, agent, role, actor, host, host_id, clone, worker_pid,
    worker_start, lease_ms, lease_until, queued_at, claimed_at, started_at)
values ({new_run}, :project, :task, :attempt, :state, :supervised, :agent, :role, :actor, :host, :host_id, :clone, :worker_pid,
    :worker_start, :lease_ms, {now} + :lease_ms, :queued_at, {now}, case when :state = 'running' then {now} end)
returning id, lease_until

-- name: run
-- One run.
select r.*, t.title, t.state as task_state, t.run as task_run, t.plan, t.merge, p.name as plan_name, {now} as now
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan where r.id = :id and r.project = :project

-- name: held_task
-- A run with the task it may hold. For a write the task's row is taken first, then the run's: all do so.
select r.id, r.state as run_state, r.supervised, r.lease_ms, r.next_action, r.summary as run_summary,
    t.id as task, t.state, t.run, t.unmet, t.children, t.retries, t.max_retries, t.retry_delay_s,
    exists (select 1 from holds h where h.run = r.id) as holds,
    exists (select 1 from messages m where m.run = r.id and m.state = 'waiting') as unheard
from runs r join tasks t on t.id = r.task where r.id = :run and r.project = :project
{for_update_of_t}  --? write

-- name: renew_lease
-- The run is alive.
update runs set lease_until = {now} + lease_ms where id = :run and state in ('starting', 'running')
returning lease_until, state

-- name: lease_lasts
-- Another length of the lease, from its next renewal on.
update runs set lease_ms = :lease_ms where id = :run and state in ('starting', 'running')

-- name: run_starts
-- The supervisor owns the run from now on.
update runs set state = 'running', started_at = coalesce(started_at, {now}), pid = :pid, pid_start = :pid_start,
    host = :host, host_id = :host_id, lease_until = {now} + lease_ms
where id = :run and state = 'starting'

-- name: run_notes
-- Facts about an active run, as they become known; null leaves a value as it is.
update runs set phase = coalesce(:phase, phase), workspace = coalesce(:workspace, workspace),
    branch = coalesce(:branch, branch), base_commit = coalesce(:base_commit, base_commit),
    head_commit = coalesce(:head_commit, head_commit), exit_code = coalesce(:exit_code, exit_code),
    session_id = coalesce(:session_id, session_id), files_changed = coalesce(:files_changed, files_changed),
    lines_added = coalesce(:lines_added, lines_added), lines_removed = coalesce(:lines_removed, lines_removed),
    summary = coalesce(:summary, summary), next_action = coalesce(:next_action, next_action),
    lease_until = {now} + lease_ms
where id = :run and state in ('starting', 'running')

-- name: said_by_run
-- What a run says of its work.
select task, summary, claimed_at from runs where id = :run

-- name: run_said
-- What a run said of its work, in other words.
update runs set summary = :summary where id = :run

-- name: task_said
-- The same of its task, where it says what the run said.
update tasks set summary = :summary where id = :id and summary = :found

-- name: run_work_kept
-- Where the work of an ended run was saved.
update runs set head_commit = :head_commit, branch = :branch where id = :run

-- name: run_remarks
-- What a person should know of a run's result.
update runs set remarks = :remarks where id = :run

-- name: run_seals
-- Its work goes into the plan: nobody ends the run from here on.
update runs set sealed_at = {now}, lease_until = {now} + lease_ms where id = :run

-- name: run_unseals
-- Its work is not in the plan yet.
update runs set sealed_at = null, lease_until = {now} + lease_ms where id = :run

-- name: run_interrupted
-- Somebody else ends the run, who cannot see to its processes; no row: it is too late for that.
update runs set unswept = supervised where id = :run and sealed_at is null

-- name: run_swept
-- Nothing of an ended run is left running, and its work is kept.
update runs set unswept = 0 where id = :run and unswept = 1

-- name: unswept_runs
-- Runs that others ended, and nobody saw to since.
select r.*, t.title, p.name as plan_name, {now} as now from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.unswept = 1 and r.project = :project order by r.id

-- name: run_ends
-- The run reaches a final state; no row: it already had.
update runs set state = :to, ended_at = {now}, code = :code, reason = :reason, summary = coalesce(:summary, summary)
where id = :run and state = :found

-- name: last_told_of_run
-- The state that the journal told of last, when, and of which task.
select task, to_state, at from events
where run = :run and project = :project and to_state is not null and substr(kind, 1, 4) = 'run.'
order by id desc limit 1

-- name: run_has_ended
-- A run that is said to be at work, and had ended then.
update runs set state = :to, ended_at = :at where id = :run and state in ('starting', 'running')

-- name: run_to_take_from
-- Of the runs of a task the one that it names, else the newest.
select id, state, supervised, code from runs where task = :task and project = :project
order by case when id = :named then 0 else 1 end, id desc limit 1

-- name: number_attempts
-- Attempts are a task's runs in the order of their numbers.
update runs set attempt = (select count(*) from runs o where o.task = runs.task and o.id <= runs.id)
where task = :task and project = :project
  and attempt <> (select count(*) from runs o where o.task = runs.task and o.id <= runs.id)

-- name: free_slots
-- Slots of a run that ended.
delete from holds where run = :run

-- name: runs_are_elsewhere
-- In a copied store: what its runs left is not here, and nothing of them is to be seen to.
update runs set workspace = null, pid = null, unswept = 0 where project = :project

-- name: active_runs
-- Runs that hold a task, oldest first; `task_run` is the one that the task knows.
select r.*, t.title, t.run as task_run, p.name as plan_name, t.merge, {now} as now
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.state in ('starting', 'running') and r.project = :project
  and r.supervised = :supervised  --? supervised
order by +r.id

-- name: expired_runs
-- Active runs whose lease has run out.
select r.*, p.name as plan_name, t.merge, {now} as now from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.state in ('starting', 'running') and r.lease_until <= {now} and r.project = :project
order by r.lease_until limit 100

-- name: ended_leases
-- Active runs of clients whose lease has run out; a bounded number at a time.
select id from runs where state in ('starting', 'running') and supervised = 0 and lease_until <= {now}
    and project = :project
order by lease_until limit 100

-- name: silent_runs
-- Active runs that did not renew their lease for a time.
select r.*, {now} as now from runs r
where r.state in ('starting', 'running') and r.project = :project
  and (r.lease_until <= {now} or r.lease_until - r.lease_ms <= {now} - :age_ms)
order by +r.id

-- name: accepted_here
-- The same of all plans of this clone, the newest first.
select p.name, r.head_commit from tasks t join runs r on r.id = t.work_run join plans p on p.id = t.plan
where t.project = :project and t.merge = 'auto' and t.state = 'completed' and t.archived_at is null
  and r.head_commit is not null and (p.landed_at is null or t.completed_at > p.landed_at)
  and coalesce(p.began_clone, :clone) = :clone
  and exists (select 1 from tasks o where o.plan = p.id and o.id in {ids[]})  --? ids
order by r.id desc
limit :limit  --? limit

-- name: accepted_work
-- Commits of the completed tasks of a plan that are to be in it and were not landed yet.
select r.head_commit from tasks t join runs r on r.id = t.work_run join plans p on p.id = t.plan
where t.plan = :plan and t.merge = 'auto' and t.state = 'completed' and t.archived_at is null
  and r.head_commit is not null and (p.landed_at is null or t.completed_at > p.landed_at)

-- name: work_of_clone
-- Runs whose work is in a plan of this clone or of none that is known, or is to come into it, and not landed yet, or
-- landed here without having been done here; the newest first.
select r.id, r.head_commit, p.name as plan_name, r.host, r.clone,
    case when t.completed_at <= p.landed_at then p.landed_commit end as landed_commit
from tasks t join runs r on r.id = t.work_run join plans p on p.id = t.plan
where t.project = :project and t.merge = 'auto' and t.state in ('completed', 'review') and t.archived_at is null
  and r.head_commit is not null and coalesce(p.began_clone, :clone) in (:clone, :unknown)
  and (p.landed_at is null or t.completed_at is null or t.completed_at > p.landed_at
       or coalesce(r.clone, '') <> :clone)
  and t.id in {ids[]}  --? ids
order by r.id desc
limit :limit  --? limit

-- name: tips_of_clone
-- Plans of this clone whose accepted work is not landed, and the commit that it came to.
select p.name, p.tip, p.landed_commit from plans p
where p.project = :project and p.tip is not null and coalesce(p.began_clone, :clone) = :clone
  and coalesce(p.landed_commit, '') <> p.tip
  and exists (select 1 from tasks t where t.plan = p.id and t.archived_at is null)
  and exists (select 1 from tasks t where t.plan = p.id and t.id in {ids[]})  --? ids
order by p.id desc
limit :limit  --? limit

-- name: last_run_anywhere
-- The highest number of a run of any project of the store; 0: there is none.
select coalesce(max(id), 0) as id from runs

-- name: runs_anywhere
-- Runs of all projects of the store: whether they are over, and where their supervisors were.
select id, state, unswept, host, host_id, pid, pid_start from runs where id in {ids[]}

-- name: adopt_runs
-- Runs of a worker that is gone belong to another from now on.
update runs set worker_pid = :pid, worker_start = :start where id in {ids[]} and state in ('starting', 'running')

-- name: work_at_paths
-- Accepted work of a plan at some paths, other than one run's: who did it, the newest first.
select distinct r.id, r.task, t.title from files f join runs r on r.id = f.run join tasks t on t.id = r.task
where f.path in {paths[text]} and t.plan = :plan and t.work_run = r.id and t.state = 'completed' and r.id <> :run
order by r.id desc limit 10

-- name: runs_to_retire
-- Of some runs, those whose refs may go: the plan has been landed since their task was done, or the task is archived.
select r.id, r.clone, r.head_commit, t.archived_at is not null as archived
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.id in {ids[]} and r.project = :project and r.ended_at is not null
  and (t.archived_at is not null
       or t.merge = 'auto' and t.state in ('completed', 'cancelled') and t.completed_at <= p.landed_at)

-- name: list_runs
-- Runs, newest first, bounded.
select r.*, t.title, {now} as now from runs r join tasks t on t.id = r.task
where r.project = :project
  and r.id < :before  --? before
  and r.task = :task  --? task
  and r.state in {states[text]}  --? states
order by r.id desc limit :limit
offset :offset  --? offset

-- name: count_runs
-- How many runs list_runs would show in all.
select count(*) as total from runs r where r.project = :project
  and r.task = :task  --? task
  and r.state in {states[text]}  --? states

-- name: runs_of_task
-- All attempts at a task, oldest first.
select r.*, {now} as now from runs r where r.task = :task order by r.id

-- name: runs_cancelled_with
-- Runs that were ended because one of these tasks was cancelled.
select id, task, actor from runs where task in {ids[]} and code = 'cancelled' order by id

-- name: delete_runs_of
-- Whether a task was ever tried.
select 1 as tried from runs where task = :task limit 1

-- name: add_check
-- Evidence: what a check said.
insert into checks (run, stage, go, command, exit_code, output, log, at, duration_ms)
values (:run, :stage, :go, :command, :exit_code, :output, :log, {now}, :duration_ms)

-- name: checks_of
-- Evidence of a run, in order.
select * from checks where run = :run order by id

-- name: add_artifact
-- A result that is kept whole; a further one of the same name is its next version.
insert into artifacts (project, task, run, name, version, type, content, size, sha256, created_at)
select :project, :task, :run, :name,
    coalesce((select max(version) from artifacts where task = :task and name = :name), 0) + 1,
    :type, :content, :size, :sha256, {now}
returning id, version

-- name: artifact
-- One artifact.
select * from artifacts where id = :id and project = :project

-- name: artifact_begins
-- The beginning of one artifact.
select id, name, size, substr(content, 1, :most) as text, length(content) as length from artifacts
where id = :id and project = :project

-- name: artifacts_of
-- Artifacts of tasks, without their content.
select id, task, run, name, version, type, size, sha256, created_at from artifacts where task in {ids[]} order by id

-- name: delays_of_task
-- How often a task waited for a service already.
select count(*) as total from runs where task = :task and code = :code

-- name: last_session
-- The agent session of a task's newest run that had one.
select session_id from runs where task = :task and session_id is not null order by id desc limit 1

-- name: choose_session
-- The session of its agent that a task's next attempt goes on with; null: a new one.
update tasks set session = :session where id = :task and coalesce(session, '') <> coalesce(cast(:session as text), '')

-- name: go_on_with_session
-- The next attempt goes on where a run was, if its agent came as far as having anything to go on with.
update tasks set session = coalesce(
    (select session_id from runs where id = :run and turns > 0), session)
where id = :task

-- name: run_of_session
-- The newest run of a task that worked in an agent session.
select id, agent, host, host_id, head_commit from runs where task = :task and session_id = :session order by id desc limit 1
