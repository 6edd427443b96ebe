-- name: open_alert
-- Something asks for attention, unless it does already (then: it was seen again, and no row).
insert into alerts (project, rule, subject, said, opened_at, seen_at)
values (:project, :rule, :subject, :said, {now}, {now})
on conflict do nothing returning id, opened_at

-- name: see_alert
-- It still asks for attention.
update alerts set seen_at = {now}, said = :said
where project = :project and rule = :rule and subject = :subject and closed_at is null

-- name: close_alert
-- It does no more.
update alerts set closed_at = {now} where id = :id and closed_at is null

-- name: tell_alert
-- To whom it was told, and how that went.
update alerts set told = :told where id = :id

-- name: open_alerts
-- What asks for attention.
select * from alerts where project = :project and closed_at is null order by id limit :limit

-- name: alerts
-- What asked for attention, the latest first.
select * from alerts where project = :project
  and id < :before  --? before
  and closed_at is null  --? unclosed
order by id desc limit :limit

-- name: count_alerts
-- How many alerts the list has in all.
select count(*) as total from alerts where project = :project
  and closed_at is null  --? unclosed

-- name: forget_alerts
-- Alerts that are over long since.
delete from alerts where project = :project and closed_at <= {now} - :age_ms

-- name: late_tasks
-- Open tasks of roles, with when they became ready, the earliest first.
select t.id, t.title, t.state, l.role, t.ready_at, {now} as now from lanes l join tasks t on t.lane = l.id
where l.project = :project and l.role in {roles[text]} and t.archived_at is null and t.ready_at is not null
  and t.state in ('ready', 'in_progress', 'retrying', 'review')
order by t.ready_at limit :limit

-- name: waits_by_role
-- How long tasks took from ready to completed since a time, and how long open ones have taken until now, the latest first.
select l.role, t.completed_at, coalesce(t.completed_at, {now}) - t.ready_at as ms
from lanes l join tasks t on t.lane = l.id
where l.project = :project and t.archived_at is null and t.ready_at is not null
  and (t.state in ('ready', 'in_progress', 'retrying', 'review') or t.state = 'completed' and t.completed_at >= :since)
order by t.id desc limit :limit

-- name: ended_since
-- How many runs ended in each way since so many milliseconds ago.
select state, count(*) as total from runs where project = :project and ended_at >= {now} - :age_ms group by state

-- name: run_totals
-- What all runs together took, by agent and the way they ended.
select agent, state, count(*) as total, coalesce(sum(cost_usd), 0) as usd, coalesce(sum(tokens_input), 0) as input,
    coalesce(sum(tokens_output), 0) as output, coalesce(sum({greatest}(0, ended_at - claimed_at)), 0) as ms
from runs where project = :project group by agent, state order by agent, state
