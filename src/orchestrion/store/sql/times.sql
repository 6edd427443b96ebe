-- Rows with a time that is none: before 1970, or behind the year 9999. Of a glance the newest rows alone are looked at.

-- name: times_of_projects
-- The project with a time that is none.
select * from (
    select p.name, p.paused_at, p.created_at from projects p
    where p.id = :project
    ) as w
where w.paused_at not between 0 and :last or w.created_at not between 0 and :last
limit :limit

-- name: times_of_plans
-- Plans with a time that is none.
select * from (
    select p.name, p.created_at, p.landed_at from plans p
    where p.project = :project
    order by p.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last or w.landed_at not between 0 and :last
limit :limit

-- name: times_of_tasks
-- Tasks with a time that is none.
select * from (
    select t.id, t.ready_at, t.retry_at, t.due_at, t.created_at, t.updated_at, t.started_at, t.completed_at, t.archived_at
    from tasks t
    where t.project = :project
      and t.id in {ids[]}  --? ids
    order by t.id desc limit :newest  --? newest
    ) as w
where w.ready_at not between 0 and :last or w.retry_at not between 0 and :last or w.due_at not between 0 and :last
   or w.created_at not between 0 and :last or w.updated_at not between 0 and :last
   or w.started_at not between 0 and :last or w.completed_at not between 0 and :last
   or w.archived_at not between 0 and :last
limit :limit

-- name: times_of_gates
-- Gates with a time that is none.
select * from (
    select g.id, g.task, g.opens_at, g.decided_at, g.created_at from gates g
    where g.project = :project
      and g.task in {ids[]}  --? ids
    order by g.id desc limit :newest  --? newest
    ) as w
where w.opens_at not between 0 and :last or w.decided_at not between 0 and :last
   or w.created_at not between 0 and :last
limit :limit

-- name: times_of_edges
-- Edges with a time that is none.
select * from (
    select e.id, e.task, e.created_at from edges e join tasks t on t.id = e.task
    where t.project = :project
      and e.task in {ids[]}  --? ids
    order by e.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last
limit :limit

-- name: times_of_runs
-- Runs with a time that is none.
select * from (
    select r.id, r.state, r.lease_until, r.queued_at, r.claimed_at, r.started_at, r.ended_at, r.sealed_at from runs r
    where r.project = :project
      and r.task in {ids[]}  --? ids
    order by r.id desc limit :newest  --? newest
    ) as w
where w.lease_until not between 0 and :last or w.queued_at not between 0 and :last
   or w.claimed_at not between 0 and :last or w.started_at not between 0 and :last
   or w.ended_at not between 0 and :last or w.sealed_at not between 0 and :last
limit :limit

-- name: times_of_metrics
-- Metrics with a time that is none.
select * from (
    select m.id, m.run, m.at from metrics m
    where m.project = :project
    order by m.id desc limit :newest  --? newest
    ) as w
where w.at not between 0 and :last
limit :limit

-- name: times_of_breakers
-- Breakers with a time that is none.
select * from (
    select b.agent, b.until from breakers b
    where b.project = :project
    order by b.agent desc limit :newest  --? newest
    ) as w
where w.until not between 0 and :last
limit :limit

-- name: times_of_messages
-- Messages with a time that is none.
select * from (
    select m.id, m.run, m.created_at, m.given_at from messages m
    where m.project = :project
    order by m.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last or w.given_at not between 0 and :last
limit :limit

-- name: times_of_changes
-- Changes with a time that is none.
select * from (
    select c.run, c.path, c.seen_at from changes c join runs r on r.id = c.run
    where r.project = :project
    order by c.run desc limit :newest  --? newest
    ) as w
where w.seen_at not between 0 and :last
limit :limit

-- name: times_of_meetings
-- Meetings with a time that is none.
select * from (
    select m.run, m.other, m.path, m.seen_at from meetings m join runs r on r.id = m.run
    where r.project = :project
    order by m.run desc limit :newest  --? newest
    ) as w
where w.seen_at not between 0 and :last
limit :limit

-- name: times_of_checks
-- Checks with a time that is none.
select * from (
    select c.id, c.run, c.at from checks c join runs r on r.id = c.run
    where r.project = :project
    order by c.id desc limit :newest  --? newest
    ) as w
where w.at not between 0 and :last
limit :limit

-- name: times_of_artifacts
-- Artifacts with a time that is none.
select * from (
    select a.id, a.created_at from artifacts a
    where a.project = :project
    order by a.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last
limit :limit

-- name: times_of_events
-- Events with a time that is none.
select * from (
    select e.id, e.at from events e
    where e.project = :project
    order by e.id desc limit :newest  --? newest
    ) as w
where w.at not between 0 and :last
limit :limit

-- name: times_of_sessions
-- Sessions with a time that is none.
select * from (
    select s.id, s.started_at, s.seen_at, s.ended_at from sessions s
    where s.project = :project
    order by s.id desc limit :newest  --? newest
    ) as w
where w.started_at not between 0 and :last or w.seen_at not between 0 and :last
   or w.ended_at not between 0 and :last
limit :limit

-- name: times_of_decisions
-- Decisions with a time that is none.
select * from (
    select d.number, d.created_at, d.updated_at from decisions d
    where d.project = :project
    order by d.number desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last or w.updated_at not between 0 and :last
limit :limit

-- name: times_of_files
-- Files with a time that is none.
select * from (
    select f.id, f.path, f.seen_at, f.checked_at from files f
    where f.project = :project
    order by f.id desc limit :newest  --? newest
    ) as w
where w.seen_at not between 0 and :last or w.checked_at not between 0 and :last
limit :limit

-- name: times_of_handoffs
-- Handoffs with a time that is none.
select * from (
    select h.id, h.created_at from handoffs h
    where h.project = :project
    order by h.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last
limit :limit

-- name: times_of_maintenance
-- Maintenance with a time that is none.
select * from (
    select m.id, m.at from maintenance m
    where m.project = :project
    order by m.id desc limit :newest  --? newest
    ) as w
where w.at not between 0 and :last
limit :limit

-- name: times_of_workers
-- Workers with a time that is none.
select * from (
    select w.host, w.pid, w.started_at, w.seen_at from workers w
    where w.project = :project
    order by w.id desc limit :newest  --? newest
    ) as w
where w.started_at not between 0 and :last or w.seen_at not between 0 and :last
limit :limit

-- name: times_of_leases
-- Leases with a time that is none.
select * from (
    select l.name, l.until from leases l
    where l.project = :project
    order by l.name desc limit :newest  --? newest
    ) as w
where w.until not between 0 and :last
limit :limit

-- name: times_of_tokens
-- Tokens with a time that is none.
select * from (
    select t.name, t.created_at, t.expires_at, t.revoked_at, t.used_at from tokens t
    where t.project = :project
    order by t.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last or w.expires_at not between 0 and :last
   or w.revoked_at not between 0 and :last or w.used_at not between 0 and :last
limit :limit

-- name: times_of_requests
-- Requests with a time that is none.
select * from (
    select q.actor, q.label, q.at from requests q
    where q.project = :project
    order by q.actor desc limit :newest  --? newest
    ) as w
where w.at not between 0 and :last
limit :limit

-- name: times_of_alerts
-- Alerts with a time that is none.
select * from (
    select a.id, a.opened_at, a.seen_at, a.closed_at from alerts a
    where a.project = :project
    order by a.id desc limit :newest  --? newest
    ) as w
where w.opened_at not between 0 and :last or w.seen_at not between 0 and :last
   or w.closed_at not between 0 and :last
limit :limit

-- name: times_of_permissions
-- Permissions with a time that is none.
select * from (
    select o.id, o.asked_at, o.decided_at from permissions o
    where o.project = :project
    order by o.id desc limit :newest  --? newest
    ) as w
where w.asked_at not between 0 and :last or w.decided_at not between 0 and :last
limit :limit

-- name: times_of_logins
-- Logins with a time that is none.
select * from (
    select l.id, l.created_at, l.expires_at, l.ended_at from logins l
    where l.project = :project
    order by l.id desc limit :newest  --? newest
    ) as w
where w.created_at not between 0 and :last or w.expires_at not between 0 and :last
   or w.ended_at not between 0 and :last
limit :limit
