-- name: add_permission
-- An agent was not allowed to do something; no row: it asked for that before.
insert into permissions (project, task, run, tool, said, rule, asked_at)
values (:project, :task, :run, :tool, :said, :rule, {now})
on conflict do nothing returning id

-- name: permission
-- What was asked for.
select p.*, t.title, t.state as task_state from permissions p join tasks t on t.id = p.task
where p.id = :id and p.project = :project

-- name: decide_permission
-- A person decides.
update permissions set state = :to, decided_at = {now}, decided_by = :by where id = :id and state = 'open'

-- name: list_permissions
-- What agents asked for, the latest first; `pending`: what nobody decided about, of tasks that are not over.
select p.*, t.title, t.state as task_state
from permissions p join tasks t on t.id = p.task
where p.project = :project
  and p.id < :before  --? before
  and p.state = 'open' and t.state not in ('completed', 'cancelled') and t.archived_at is null  --? pending
  and p.task = :task  --? task
  and p.run = :run  --? run
order by p.id desc limit :limit

-- name: count_permissions
-- How many list_permissions would show in all.
select count(*) as total {from list_permissions}

-- name: allowed_rules
-- What a task's agents may do beyond what their role may.
select rule from permissions where task = :task and state = 'allowed' order by id
