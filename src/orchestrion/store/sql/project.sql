-- name: meta
-- One fact about the store itself.
select value from meta where key = :key

-- name: project_by_name
-- The project of a name.
select id, paused_at from projects where name = :name

-- name: add_project
-- A new project, unless another process was first (then: no row).
insert into projects (name, created_at) values (:name, {now}) on conflict (name) do nothing returning id

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

-- name: plan_by_name
-- The plan of a name.
select * from plans where project = :project and name = :name

-- name: add_plan
-- A new plan, unless another process was first (then: no row).
insert into plans (project, name, title, created_at) values (:project, :name, :title, {now})
on conflict (project, name) do nothing returning id

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
