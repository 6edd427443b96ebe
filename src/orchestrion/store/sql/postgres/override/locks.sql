-- name: lock_shape
-- PostgreSQL has many writers at once, so a lock that ends with the transaction orders them.
select pg_advisory_xact_lock(1869767528, :project::int) as locked

-- name: try_lock_shape
-- PostgreSQL's lock for changes of the shape, without waiting for it.
select pg_try_advisory_xact_lock(1869767528, :project::int)::int as locked

-- name: lock_runs
-- What a run's end deletes is what it saw when it took the run; a hold that is made meanwhile would stay.
lock table runs in exclusive mode

-- name: share_runs
-- Between PostgreSQL's look at the limits and the run that holds them another could be made; as if a run were written.
lock table runs in row exclusive mode

-- name: share_room
-- PostgreSQL's writers of new tasks do not wait for each other.
select pg_advisory_xact_lock_shared(1869767529, :project::int) as locked

-- name: lock_room
-- PostgreSQL waits until no writer of new tasks is left: what they wrote can be counted then.
select pg_advisory_xact_lock(1869767529, :project::int) as locked
