-- name: meta
-- One fact about the store itself.
select value from meta where key = :key

-- name: store_is_another
-- A copied store is told apart from the one that it was copied from.
update meta set value = :uuid where key = 'uuid'

-- name: project_by_name
-- The project of a name.
select id, name, uid, paused_at from projects where name = :name

-- name: project_by_uid
-- The project of an id.
select id, name, uid, paused_at from projects where uid = :uid

-- name: project_by_number
-- The project of a number.
select id, name, uid, paused_at from projects where id = :number

-- name: projects
-- All projects of the store.
select id, name, uid from projects order by id

-- name: add_project
-- A new project, unless another process was first (then: no row).
insert into projects (name, uid, created_at) values (:name, :uid, {now}) on conflict (name) do nothing
returning id, name, uid

-- name: project_is_known_as
-- A project gets a name, or an id that it did not have.
update projects set name = :name, uid = coalesce(:uid, uid) where id = :id

-- name: clock
-- The only clock: the database's.
select {now} as now

-- name: paused
-- When the queue was paused; null: it is not.
select paused_at from projects where id = :project

-- name: pause
-- Stops claiming, or lets it go on.
update projects set paused_at = case when :paused = 1 then coalesce(paused_at, {now}) end where id = :project

-- name: lock_shape
-- Changes of the graph's shape happen one at a time. SQLite's write lock sees to it already.
select 1 as locked

-- name: try_lock_shape
-- The same lock, but only if nobody has it.
select 1 as locked

-- name: share_room
-- New tasks are written by many at once, as long as nobody counts. SQLite has one writer anyway.
select 1 as locked

-- name: lock_room
-- Nobody writes new tasks until the end of the transaction. SQLite's write lock sees to it already.
select 1 as locked

-- name: plan_by_name
-- The plan of a name.
select * from plans where project = :project and name = :name

-- name: plan_by_number
-- The plan of a number.
select * from plans where id = :id

-- name: add_plan
-- A new plan, unless another process was first (then: no row).
insert into plans (project, name, title, created_at) values (:project, :name, :title, {now})
on conflict (project, name) do nothing returning id

-- name: plan_begins
-- Where the first task of a plan came from.
update plans set began_branch = :branch, began_commit = :commit, began_checkout = :checkout, began_clone = :clone,
    began_host = :host where id = :plan

-- name: plan_is_bound
-- From now on the plan belongs to this clone; no row: it is bound already.
update plans set began_clone = :clone, began_host = :host, began_checkout = coalesce(:checkout, began_checkout)
where id = :plan and (began_clone is null or began_clone <> :clone) and coalesce(began_clone, '') = coalesce(:before, '')

-- name: tasks_go_with_plan
-- Which clone may take the tasks of a plan follows from the plan's.
update tasks set clone = case when merge = 'auto'
    then coalesce((select began_clone from plans where id = :plan), '') else '' end
where plan = :plan

-- name: unbound_plans
-- Plans of which no clone is known; those of older programs, mostly.
select * from plans where project = :project and coalesce(began_clone, :unknown) = :unknown order by id

-- name: plan_is_elsewhere
-- A plan of no clone belongs to one that is not known; no row: somebody has it by now.
update plans set began_clone = :unknown where id = :plan and began_clone is null

-- name: plans_of_copy
-- In a copied store: what belonged to the clone that was copied belongs to the copy.
update plans set began_clone = :to where began_clone = :found

-- name: tasks_of_copy
-- The same of the tasks.
update tasks set clone = :to where clone = :found

-- name: open_task_of_plan
-- A task of a plan that is still to be done, or waits for a decision.
select id from tasks where plan = :plan and state not in ('completed', 'failed', 'cancelled') limit 1

-- name: open_tasks_of_plan
-- The same with their states, oldest first; what was archived does not count.
select id, state, title from tasks
where plan = :plan and state not in ('completed', 'failed', 'cancelled') and archived_at is null
order by id limit :limit

-- name: failed_tasks_of_plan
-- Tasks of a plan that failed, oldest first.
select id, title from tasks where plan = :plan and state = 'failed' and archived_at is null order by id limit :limit

-- name: tasks_to_propose
-- Leaves of a plan, with how many checks passed for their work and what all their runs cost.
select t.id, t.title, t.state,
    (select count(*) from checks c where c.run = t.work_run and c.exit_code = 0 and c.stage = 'check') as checks_passed,
    (select sum(r.cost_usd) from runs r where r.task = t.id) as cost_usd
from tasks t where t.plan = :plan and t.children = 0 and t.archived_at is null order by t.id limit 500

-- name: plan_moves
-- The plan has the work up to this commit.
update plans set tip = :tip where id = :plan

-- name: plan_starts
-- The plan's first commit, which agents start from; unless the plan has moved on since its row was read.
update plans set tip = :tip, began_commit = :tip where id = :plan and coalesce(tip, '') = coalesce(:before, '')

-- name: run_that_began
-- A run of a plan that had a commit to start from, in this store.
select r.id from runs r join tasks t on t.id = r.task where t.plan = :plan and r.base_commit is not null limit 1

-- name: plans_of_clone
-- Where the plans of this clone are, as far as the store knows.
select id, name, tip, landed_commit, began_branch, began_commit, began_checkout from plans
where project = :project and coalesce(began_clone, :clone) = :clone order by id

-- name: older_copy_is_accepted
-- Runs up to this number that began here and are not in the store count no more.
insert into meta (key, value) values (:key, :value) on conflict (key) do update set value = excluded.value

-- name: plan_is_landed
-- The user's branch has the plan's work up to this commit.
update plans set tip = :commit, landed_commit = :commit, landed_branch = :branch, landed_at = {now},
    began_branch = coalesce(began_branch, :branch)
where id = :plan

-- name: plan_is_proposed
-- A pull request was opened for the plan.
update plans set pull_request = :url where id = :plan

-- name: plan_names
-- What all plans are called.
select id, name from plans where project = :project order by id

-- name: plans
-- All plans with the number of their tasks, newest first.
select p.*, (select count(*) from tasks t where t.plan = p.id) as tasks from plans p
where p.project = :project order by p.id desc limit :limit

-- name: take_merge_queue
-- The run becomes the one that merges into its plan, unless another active run is.
update plans set merge_run = :run where id = :plan and
    (merge_run is null or merge_run = :run or not exists
        (select 1 from runs r where r.id = plans.merge_run and r.state in ('starting', 'running')))

-- name: lane_by_value
-- The lane of a role, an agent, needs, and with a command or without.
select id from lanes
where project = :project and role = :role and agent = :agent and needs = :needs and command = :command

-- name: add_lane
-- A new lane, unless another process was first (then: no row).
insert into lanes (project, role, agent, needs, command) values (:project, :role, :agent, :needs, :command)
on conflict (project, role, agent, needs, command) do nothing returning id

-- name: add_event
-- One line of the journal.
insert into events (project, at, kind, task, run, from_state, to_state, actor, session, correlation, data)
values (:project, {now}, :kind, :task, :run, :from_state, :to_state, :actor, :session, :correlation, :data)

-- name: events
-- The journal after a line, oldest first.
select * from events where project = :project and id > :since
  and task = :task  --? task
  and task = (select r.task from runs r where r.id = :run) and run = :run  --? run
order by id limit :limit

-- name: last_event
-- Where the journal ends now.
select coalesce(max(id), 0) as id from events where project = :project

-- name: schema
-- The newest migration that this database has.
select version, name from migrations order by version desc limit 1
