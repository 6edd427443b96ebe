-- name: add_handoff
-- What a session leaves for the next one.
insert into handoffs (project, task, session, tag, text, said, actor, created_at)
values (:project, :task, :session, :tag, :text, :said, :actor, {now}) returning id

-- name: handoff
-- One handoff.
select * from handoffs where id = :id and project = :project

-- name: handoffs_before
-- Handoffs, the newest first, a few at a time.
select id, actor, text, said, created_at from handoffs where project = :project
  and id < :before  --? before
order by id desc limit :limit

-- name: handoff_said
-- What a handoff says, in other words; the first `length` characters are those of who left it.
update handoffs set text = :text, said = :length where id = :id

-- name: last_handoff
-- The newest handoff, with the beginning of what was said.
select id, task, session, tag, substr(substr(text, 1, cast(said as integer)), 1, 6000) as said, said as length, actor, created_at
from handoffs where project = :project
  and tag = :tag  --? tag
  and task = :task  --? task
  and session = :session  --? session
order by id desc limit 1

-- name: handoffs_last
-- Of a task, a work stream or a session: the newest handoff that says something, that of a person too where a run left
-- a newer one, and how many there are.
with scope as (
    select max(id) as newest, max(case when substr(actor, 1, length(:run)) <> :run then id end) as of_person, count(*) as total
    from handoffs where project = :project and said > 0
      and task = :task  --? task
      and tag = :tag  --? tag
      and session = :session  --? session
)
select h.id, h.task, h.session, h.tag, substr(substr(h.text, 1, cast(h.said as integer)), 1, 6000) as said,
    h.said as length, h.actor, h.created_at, s.total
from scope s join handoffs h on h.id in (s.newest, s.of_person) order by h.id desc

-- name: handoffs_standing
-- The same of every scope, those for everybody first, then work streams, then open tasks. Of a work stream also what is
-- for everybody, and for its tasks.
with scope as (
    select t.id as task, h.tag, max(h.id) as newest, max(case when substr(h.actor, 1, length(:run)) <> :run then h.id end) as of_person
    from handoffs h
    left join tasks t on t.id = h.task and t.state not in ('completed', 'cancelled') and t.archived_at is null
    where h.project = :project and h.said > 0 and (h.task is null or h.tag is not null or t.id is not null)
      and (h.tag = :tag or h.tag is null and (h.task is null or exists (select 1 from tags g where g.task = t.id and g.tag = :tag)))  --? tag
    group by t.id, h.tag)
select h.id, h.task, h.session, h.tag, substr(substr(h.text, 1, cast(h.said as integer)), 1, 6000) as said,
    h.said as length, h.actor, h.created_at
from scope s join handoffs h on h.id in (s.newest, s.of_person)
order by case when s.tag is null and s.task is null then 0 when s.task is null then 1 else 2 end, h.id desc limit :limit

-- name: list_handoffs
-- Handoffs, the newest first, with the beginning of what was said.
select id, task, session, tag, substr(substr(text, 1, cast(said as integer)), 1, 400) as said, actor, created_at
from handoffs where project = :project
  and id < :before  --? before
  and task = :task  --? task
  and session = :session  --? session
  and tag = :tag  --? tag
order by id desc limit :limit

-- name: count_handoffs
-- How many handoffs list_handoffs would show in all.
select count(*) as total {from list_handoffs}

-- name: handoffs_said
-- What was said in handoffs, the newest first, a piece at a time.
select id, substr(text, 1, cast(said as integer)) as said from handoffs where project = :project and said > 0
  and id < :before  --? before
order by id desc limit :limit

-- name: finished_last
-- What was completed last, with the beginning of what was said of it.
select r.id as run, t.id, t.title, substr(t.summary, 1, 400) as summary from runs r join tasks t on t.id = r.task and t.work_run = r.id
where r.project = :project and r.state = 'succeeded' and t.state = 'completed'
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag
order by r.id desc limit :limit

-- name: running_now
-- Runs that hold a task, the newest first.
select r.id, r.task, r.agent, r.actor, r.supervised, r.phase, r.started_at, r.lease_until, t.title, {now} as now
from runs r join tasks t on t.id = r.task
where r.state in ('starting', 'running') and r.project = :project
  and r.supervised = :supervised  --? supervised
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag
order by r.id desc limit :limit

-- name: need_a_person
-- Tasks that only a person can move on, with the beginning of why.
select t.id, t.title, t.state, t.code, substr(coalesce(t.reason, t.error), 1, 400) as said from tasks t
where t.project = :project and t.archived_at is null and t.state in ('blocked', 'review', 'failed')
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag
order by case t.state when 'review' then 0 when 'blocked' then 1 else 2 end, t.id limit :limit

-- name: ready_next
-- What may be claimed now, in that order.
select t.id, t.title, t.priority, l.role from lanes l join tasks t on t.lane = l.id and t.state = 'ready'
where l.project = :project
  and l.role = :role  --? role
  and exists (select 1 from tags g where g.task = t.id and g.tag = :tag)  --? tag
order by t.rank, t.id limit :limit

-- name: tasks_of_stream
-- Tasks of a work stream: those at work first, then those that need somebody, that are ready, that wait, that are over.
select t.id from tags g join tasks t on t.id = g.task
where g.tag = :tag and t.project = :project and t.archived_at is null
order by case t.state when 'in_progress' then 0 when 'review' then 1 when 'blocked' then 2 when 'failed' then 3
    when 'retrying' then 4 when 'ready' then 5 when 'pending' then 6 else 7 end, t.updated_at desc, t.id limit :limit

-- name: tags_known
-- Tags of tasks, by name.
select distinct g.tag from tags g join tasks t on t.id = g.task where t.project = :project order by g.tag limit :limit

-- name: states_of_tag
-- Number of tasks of a work stream in each state.
select t.state, count(*) as total from tags g join tasks t on t.id = g.task
where g.tag = :tag and t.project = :project and t.archived_at is null group by t.state
