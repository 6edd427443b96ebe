-- name: query_tasks
-- Tasks as clients ask for them, oldest first, paged by number of rows.
select t.*, p.name as plan_name, l.role, l.agent, l.needs
from tasks t join plans p on p.id = t.plan join lanes l on l.id = t.lane
where t.project = :project
  and t.archived_at is null  --? unarchived
  and t.archived_at is not null  --? archived
  and t.state in {states[text]}  --? states
  and (t.archived_at is not null or t.state in {either[text]})  --? either
  and t.type in {types[text]}  --? types
  and l.role in {roles[text]}  --? roles
  and t.complexity in {complexities[text]}  --? complexities
  and t.parent = :parent  --? parent
  and t.id = :task  --? task
  and p.name = :plan  --? plan
  and t.created_at >= :created_after  --? created_after
  and t.created_at <= :created_before  --? created_before
  and (lower(t.title) like :pattern escape '\' or lower(t.description) like :pattern escape '\')  --? pattern
order by t.id limit :limit offset :offset

-- name: count_query
-- How many tasks query_tasks would show in all.
select count(*) as total {from query_tasks}

-- name: count_roles
-- Number of tasks of each role in each state.
select l.role, t.state, count(*) as total from tasks t join lanes l on l.id = t.lane
where t.project = :project and t.archived_at is null group by l.role, t.state

-- name: last_completed
-- Completed tasks, the latest first.
select t.*, p.name as plan_name, l.role, l.agent, l.needs
from tasks t join plans p on p.id = t.plan join lanes l on l.id = t.lane
where t.project = :project and t.state = 'completed' and t.archived_at is null
order by t.completed_at desc, t.id desc limit :limit offset :offset

-- name: drop_artifacts_of
-- Somebody asked for a task's stored results to be thrown away.
delete from artifacts where task = :task

-- name: events_of_kind
-- Lines of the journal of one kind, the latest first.
select * from events where project = :project and kind = :kind order by id desc limit :limit
