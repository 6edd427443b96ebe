-- name: lock_project
-- Decisions are numbered one at a time, without gaps. SQLite's write lock sees to it already.
select id from projects where id = :project {for_update}

-- name: add_decision
-- What was decided, under the project's next number.
insert into decisions (project, number, title, status, category, impact, context, decision, rationale, alternatives,
    files, components, trade_offs, risks, criteria, task, run, session, actor, replaces, relation, created_at, updated_at)
select :project, coalesce((select max(number) from decisions where project = :project), 0) + 1, :title, :status,
    :category, :impact, :context, :decision, :rationale, :alternatives, :files, :components, :trade_offs, :risks,
    :criteria, cast(:task as bigint), cast(:run as bigint), cast(:session as bigint), :actor, cast(:replaces as bigint),
    :relation, {now}, {now}
returning id, number

-- name: decision_by_number
-- One decision, and which earlier one it changes.
select d.*, r.number as replaced from decisions d left join decisions r on r.id = d.replaces
where d.project = :project and d.number = :number

-- name: changed_by
-- Later decisions that change one, oldest first.
select number, relation, status, was from decisions where replaces = :id order by number

-- name: holds_instead
-- The decision that holds in the place of one that was superseded or reversed, over however many.
with recursive chain(id) as (
    select d.id from decisions d
    where d.replaces = :id and d.relation <> 'refines' and coalesce(d.was, d.status) in ('accepted', 'implemented')
    union
    select d.id from decisions d join chain c on d.replaces = c.id
    where d.relation <> 'refines' and coalesce(d.was, d.status) in ('accepted', 'implemented'))
select d.*, r.number as replaced from chain c join decisions d on d.id = c.id left join decisions r on r.id = d.replaces
where d.status in ('accepted', 'implemented')

-- name: earlier_decisions
-- The chain of decisions that one goes back to, the nearest first.
with recursive chain(id, depth) as (
    select replaces, 1 from decisions where id = :id and replaces is not null
    union all
    select d.replaces, c.depth + 1 from decisions d join chain c on d.id = c.id
    where d.replaces is not null and c.depth <= :limit)
select d.number, d.title, d.status from chain c join decisions d on d.id = c.id order by c.depth limit :limit

-- name: decision_moves
-- A decision has another status now, and is whose status that is; of one whose place was taken it is kept which it had.
update decisions set status = :to, actor = :actor, was = case when :to = 'superseded' then status end, updated_at = {now}
where id = :id and status = :found

-- name: list_decisions
-- Decisions, newest first, bounded.
select d.*, r.number as replaced
from decisions d left join decisions r on r.id = d.replaces
where d.project = :project
  and d.number < :before  --? before
  and d.id in {ids[]}  --? ids
  and d.category = :category  --? category
  and d.impact = :impact  --? impact
  and d.status in {statuses[text]}  --? statuses
  and length(replace(d.files, :file, '')) < length(d.files)  --? file
  and d.task in {tasks[]}  --? tasks
  and d.session = :session  --? session
  and d.task in (select g.task from tags g where g.tag = :tag)  --? tag
order by d.number desc limit :limit
offset :offset  --? offset

-- name: count_decisions
-- How many decisions list_decisions would show in all.
select count(*) as total {from list_decisions}

-- name: decisions_in_short
-- Decisions that hold, the newest first, without their long texts.
select d.id, d.number, d.title, d.status, d.impact, substr(d.decision, 1, 400) as decision, d.files, d.task
from decisions d where d.project = :project and d.status in ('accepted', 'implemented')
order by
  case when exists (select 1 from tags g where g.task = d.task and g.tag = :tag) then 0 else 1 end,  --? tag
  d.number desc limit :limit
