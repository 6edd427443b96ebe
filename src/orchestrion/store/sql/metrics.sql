-- name: metered_run
-- What a run is said to have used so far. It stays so until the transaction ends.
select r.id, r.task, r.agent, r.session_id, r.model, r.tools, r.turns, r.tokens_input, r.tokens_output,
    r.tokens_cache_read, r.tokens_cache_write, r.cost_usd, (select t.plan from tasks t where t.id = r.task) as plan
from runs r where r.id = :run and r.project = :project {for_update}

-- name: news_known
-- Whether these news of a run were told before.
select 1 as known from metrics where run = :run and once = :once

-- name: add_metric
-- A difference in what a run used.
insert into metrics (project, plan, run, at, source, once, session_id, model, turns, tokens_input, tokens_output,
    tokens_cache_read, tokens_cache_write, cost_usd, tools, field, old_value, new_value, actor, reason)
values (:project, :plan, :run, {now}, :source, :once, :session_id, :model, :turns, :tokens_input, :tokens_output,
    :tokens_cache_read, :tokens_cache_write, :cost_usd, :tools, :field, :old_value, :new_value, :actor, :reason)

-- name: run_used
-- What a run used in all, as its differences add up; whether it is over does not matter.
update runs set turns = :turns, tokens_input = :tokens_input, tokens_output = :tokens_output,
    tokens_cache_read = :tokens_cache_read, tokens_cache_write = :tokens_cache_write, cost_usd = :cost_usd,
    tools = :tools, model = coalesce(:model, model), session_id = coalesce(:session_id, session_id)
where id = :run

-- name: metrics_of_run
-- All differences of a run, in the order in which they were told.
select * from metrics where run = :run and project = :project order by id

-- name: metrics_of_session
-- All differences of one session of an agent, over all runs; those that were told before a run knew its session are its.
select m.* from metrics m join runs r on r.id = m.run
where m.session_id = :session_id and r.agent = :agent and r.project = :project
union all
select m.* from runs r join metrics m on m.run = r.id and m.session_id is null
where r.session_id = :session_id and r.agent = :agent and r.project = :project

-- name: metrics
-- Differences of all runs, oldest first, bounded.
select m.*, r.task, r.agent, r.role, p.name as plan_name
from metrics m join runs r on r.id = m.run join plans p on p.id = m.plan
where m.project = :project and m.id > :after
  and r.claimed_at >= :since  --? since
  and r.agent = :agent  --? agent
  and r.role = :role  --? role
  and p.name = :plan  --? plan
order by m.id limit :limit

-- name: spent_since
-- What all runs cost since a moment.
select coalesce(sum(cost_usd), 0) as usd from metrics where project = :project and cost_usd <> 0 and at >= :since

-- name: spent_by_plan
-- What each plan cost that cost something.
select s.plan, p.name, s.usd from
    (select plan, sum(cost_usd) as usd from metrics where project = :project and cost_usd <> 0 group by plan) s
    join plans p on p.id = s.plan order by s.plan

-- name: spent_of_plan
-- What one plan cost.
select coalesce(sum(cost_usd), 0) as usd from metrics where project = :project and plan = :plan and cost_usd <> 0

-- name: measured_runs
-- What is counted of runs.
select r.id, r.state, r.agent, r.role, r.supervised, r.queued_at, r.claimed_at, r.started_at, r.ended_at, r.turns,
    r.tokens_input, r.tokens_output, r.tokens_cache_read, r.tokens_cache_write, r.cost_usd, r.tools, p.name as plan_name
from runs r join tasks t on t.id = r.task join plans p on p.id = t.plan
where r.project = :project
  and r.claimed_at >= :since  --? since
  and r.agent = :agent  --? agent
  and r.role = :role  --? role
  and p.name = :plan  --? plan
order by r.id

-- name: runs_forward
-- Runs, oldest first, bounded.
select r.*, t.title, p.name as plan_name, {now} as now from runs r join tasks t on t.id = r.task
    join plans p on p.id = t.plan
where r.project = :project and r.id > :after
  and r.claimed_at >= :since  --? since
  and r.agent = :agent  --? agent
  and r.role = :role  --? role
  and p.name = :plan  --? plan
order by r.id limit :limit

-- name: runs_to_sum_up
-- Runs that ended long ago and of which more than one difference is kept, with their number.
select m.run, count(*) as total from metrics m join runs r on r.id = m.run
where m.project = :project and m.source in ('stream', 'log') and r.ended_at <= {now} - :age_ms
group by m.run having count(*) > 1 order by m.run limit :limit

-- name: add_sum
-- What a run used in one session with one model, instead of the differences that it is the sum of.
insert into metrics (project, plan, run, at, source, session_id, model, turns, tokens_input, tokens_output,
    tokens_cache_read, tokens_cache_write, cost_usd, tools)
values (:project, :plan, :run, :at, 'sum', :session_id, :model, :turns, :tokens_input, :tokens_output,
    :tokens_cache_read, :tokens_cache_write, :cost_usd, :tools)

-- name: drop_summed
-- Differences of a run that are in a sum now.
delete from metrics where run = :run and source in ('stream', 'log') and id <= :last
