-- name: begin_request
-- Somebody does a request, unless it was begun before (then: no row).
insert into requests (project, actor, label, fingerprint, holder, correlation, at)
values (:project, :actor, :label, :fingerprint, :holder, :correlation, {now})
on conflict do nothing returning at

-- name: request
-- A request that was begun before.
select *, {now} as now from requests where project = :project and actor = :actor and label = :label

-- name: take_over_request
-- Somebody else does it, for who did it is gone.
update requests set holder = :holder, correlation = :correlation, at = {now}
where project = :project and actor = :actor and label = :label and holder = :before and status is null

-- name: finish_request
-- Its answer.
update requests set status = :status, media = :media, body = :body
where project = :project and actor = :actor and label = :label and holder = :holder

-- name: drop_request
-- It may be sent anew, as if it had never been.
delete from requests where project = :project and actor = :actor and label = :label and holder = :holder

-- name: forget_requests
-- Answers that nobody asks for any more.
delete from requests where project = :project and at <= {now} - :age_ms

-- name: done_under
-- What a request changed, by its correlation id.
select distinct kind, task, run from events where project = :project and correlation = :correlation
order by task, run limit 20
