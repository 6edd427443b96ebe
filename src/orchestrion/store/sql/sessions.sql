-- name: add_session
-- A new sitting of a client.
insert into sessions (project, name, client, external, folder, started_at, seen_at)
values (:project, :name, :client, :external, :folder, {now}, {now}) returning id

-- name: sessions_follow
-- The next session has a number above this one.
update sqlite_sequence set seq = :last where name = 'sessions' and seq < :last

-- name: sessions_begin
-- The same where there was none yet.
insert into sqlite_sequence (name, seq)
select 'sessions', :last where not exists (select 1 from sqlite_sequence where name = 'sessions')

-- name: session
-- One session.
select * from sessions where id = :id and project = :project

-- name: session_by_external
-- The session that a client calls by a name of its own.
select * from sessions where project = :project and external = :external

-- name: session_began
-- The line of the journal that says who began a session.
select id, actor, data from events
where project = :project and session = :session and kind = 'session.started' order by id limit 1

-- name: sessions_of_task
-- Sessions with a name that attempts at a task began, seen since then.
select s.id, s.name from sessions s
where s.project = :project and s.seen_at >= :since and s.name <> '' and exists (
    select 1 from events e join runs r on r.task = :task and e.actor = :begins || cast(r.id as text)
    where e.session = 'S' || cast(s.id as text) and e.kind = 'session.started')
order by s.id

-- name: session_goes_on
-- A sign of life; a session that had ended goes on. What a clean-up said of its end is no word of its client.
update sessions set seen_at = {now}, state = 'active', ended_at = null,
    summary = case when summary like :cleaned_up then null else summary end
where id = :id and project = :project

-- name: name_session
-- A session's name, said later than its beginning.
update sessions set name = :name where id = :id and project = :project

-- name: touch_session
-- A sign of life of a session that is active.
update sessions set seen_at = {now} where id = :id and project = :project and state = 'active'

-- name: end_session
-- The client left, and what it said of it.
update sessions set state = 'ended', ended_at = {now}, summary = coalesce(:summary, summary)
where id = :id and project = :project and state = 'active'

-- name: release_external
-- The client's name for a session is free for another.
update sessions set external = null where id = :id and project = :project

-- name: call_session
-- The client's name for a session is another one's from now on.
update sessions set external = :external where id = :id and project = :project

-- name: session_taken_over
-- The line of the journal that says who went on with a session last.
select id, at, actor, data from events
where project = :project and session = :session and kind = 'session.taken_over' order by id desc limit 1

-- name: list_sessions
-- Sessions, those seen last first.
select * from sessions where project = :project
  and state = :state  --? state
order by seen_at desc, id desc limit :limit
offset :offset  --? offset

-- name: count_sessions
-- How many sessions list_sessions would show in all.
select count(*) as total from sessions where project = :project
  and state = :state  --? state

-- name: tasks_of_session
-- Tasks that a session had to do with, the latest first.
select e.task as id, max(e.id) as last from events e join tasks t on t.id = e.task
where e.session = :session and e.project = :project group by e.task order by 2 desc limit :limit

-- name: count_tasks_of_session
-- How many tasks a session had to do with.
select count(distinct e.task) as total from events e join tasks t on t.id = e.task
where e.session = :session and e.project = :project

-- name: sessions_to_end
-- Active sessions that were not seen, or did not begin, since a time, and hold no run by a lease that lasts.
select id, seen_at from sessions where project = :project and state = 'active' and (case when :by_start = 1 then started_at
    else seen_at end) <= {now} - :age_ms
  and not exists (select 1 from events e join runs r on r.id = e.run
    where e.session = 'S' || sessions.id and e.kind = 'run.running' and r.project = :project
      and r.state in ('starting', 'running') and r.supervised = 0 and r.lease_until > {now})
order by id

-- name: sessions_to_remove
-- Ended sessions of which nothing is remembered.
select s.id from sessions s where s.project = :project and s.state = 'ended' and s.summary is null
  and (case when :by_start = 1 then s.started_at else s.ended_at end) <= {now} - :age_ms
  and not exists (select 1 from decisions d where d.session = s.id)
  and not exists (select 1 from files f where f.session = s.id)
  and not exists (select 1 from handoffs h where h.session = s.id)
order by s.id

-- name: remove_session
-- A session of which nothing is remembered goes.
delete from sessions where id = :id and project = :project
