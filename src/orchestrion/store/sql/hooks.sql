-- name: began_just_now
-- How often the journal says that a session began in one way within the last moments.
select count(*) as total from events
where project = :project and session = :session and kind = :kind and at > {now} - :within_ms

-- name: held_by_session
-- Runs that a client claimed in one of these sessions and still holds, oldest first.
select r.id, r.task, t.title, t.checks from runs r join tasks t on t.id = r.task and t.run = r.id
where r.project = :project and r.supervised = 0 and r.state in ('starting', 'running') and r.id in
    (select e.run from events e where e.session in {sessions[text]} and e.kind = 'run.running')
order by r.id

-- name: times_held_back
-- How often a run's session was held back by one hook.
select count(*) as total from events where project = :project and session = :session and kind = :kind and run = :run
