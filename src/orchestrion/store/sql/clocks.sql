-- name: set_ahead_of_time
-- Whether something holds for longer than anything may: it was set while the clock ran ahead.
select (exists (select 1 from runs where state in ('starting', 'running') and lease_until > {now} + 2 * lease_ms
                    and project = :project)
     or exists (select 1 from tasks t where t.state = 'retrying' and t.retry_at > {now} + 60000 and t.project = :project
                    and exists (select 1 from runs r where r.task = t.id and r.ended_at between {now} + 60000 and t.retry_at))
     or exists (select 1 from breakers where until > {now} + :breaker_ms and project = :project)) as found

-- name: bound_leases
-- Runs that were claimed while the clock ran ahead: they have one lease from now to give a sign of life.
update runs set lease_until = {now} + lease_ms
where state in ('starting', 'running') and lease_until > {now} + 2 * lease_ms and project = :project

-- name: bound_retries
-- Tasks whose attempt ended while the clock ran ahead: they wait from now for as long as they were to wait then.
update tasks set retry_at = {now} + retry_at - (select max(r.ended_at) from runs r where r.task = tasks.id)
where state = 'retrying' and retry_at > {now} + 60000 and project = :project
  and exists (select 1 from runs r where r.task = tasks.id and r.ended_at between {now} + 60000 and tasks.retry_at)

-- name: bound_breakers
-- No agent is passed over for longer than its service may ask for.
update breakers set until = {now} + :breaker_ms where until > {now} + :breaker_ms and project = :project
