-- name: breakers
-- Agents that have failed by themselves lately; open until a time, and whether a run tries one out.
select b.agent, b.failures, b.code, b.until, b.trips, b.until <= {now} as due,
    exists (select 1 from runs r where r.id = b.probe and r.state in ('starting', 'running')) as trying
from breakers b where b.project = :project order by b.agent

-- name: breaker
-- One of them, held until the transaction ends.
select agent, failures, until, until <= {now} as due from breakers where project = :project and agent = :agent
{for_update}

-- name: breaker_fails
-- One more failure in a row.
insert into breakers (project, agent, failures) values (:project, :agent, 1)
on conflict (project, agent) do update set failures = breakers.failures + 1
returning failures, until, until <= {now} as due, trips

-- name: breaker_opens
-- Nobody uses the agent until then.
update breakers set until = {now} + :ms, code = :code, trips = trips + 1, probe = null where project = :project and agent = :agent

-- name: breaker_tries
-- This run tries whether the agent works again, unless another one does.
update breakers set probe = :run
where project = :project and agent = :agent and until <= {now}
  and not exists (select 1 from runs r where r.id = breakers.probe and r.state in ('starting', 'running'))

-- name: breaker_heals
-- The agent works. While the breaker is open only runs say so that were begun before.
delete from breakers where project = :project and agent = :agent and (until is null or until <= {now}) returning until

-- name: breaker_closes
-- Somebody says that the agent works.
delete from breakers where project = :project and agent = :agent returning until
