-- name: add_login
-- A one-time link, or a session.
insert into logins (project, kind, hash, token, created_at, expires_at)
values (:project, :kind, :hash, :token, {now}, {now} + :age_ms)

-- name: follow_link
-- A link is followed: once, in its time.
update logins set ended_at = {now}
where project = :project and kind = 'link' and hash = :hash and ended_at is null and expires_at > {now} returning id

-- name: session_by_hash
-- A session that goes on, with its token; that of a token which opens nothing any more does not.
select l.token, t.name, t.role from logins l left join tokens t on t.id = l.token
where l.project = :project and l.kind = 'session' and l.hash = :hash and l.ended_at is null and l.expires_at > {now}
  and (l.token is null or t.revoked_at is null and coalesce(t.expires_at > {now}, true))

-- name: end_login
-- A session is over.
update logins set ended_at = {now} where project = :project and hash = :hash and ended_at is null

-- name: forget_logins
-- What has ended by its time is of no use.
delete from logins where project = :project and expires_at < {now}
