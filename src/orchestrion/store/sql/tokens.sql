-- name: add_token
-- A new key to the server.
insert into tokens (project, name, role, hash, actor, created_at, expires_at)
values (:project, :name, :role, :hash, :actor, {now}, case when :age_ms > 0 then {now} + :age_ms end)
on conflict do nothing returning id

-- name: token_by_hash
-- The token that a caller showed.
select *, {now} as now from tokens where hash = :hash and project = :project

-- name: tokens
-- All keys, those that still open first.
select *, {now} as now from tokens where project = :project order by revoked_at is not null, id

-- name: revoke_token
-- A key opens nothing any more.
update tokens set revoked_at = {now}
where project = :project and revoked_at is null and (name = :name or id = :id) returning id, name

-- name: use_token
-- A key was used.
update tokens set used_at = {now} where id = :id
