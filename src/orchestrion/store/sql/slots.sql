-- name: slots
-- All limits and how far they are used.
select name, capacity, used from slots where project = :project order by name

-- name: full_slots
-- Names of the limits that have no room.
select name from slots where project = :project and used >= capacity

-- name: slots_named
-- Those of these names that are limited at all, held against other claims, in an order that all claims share.
select name, used < capacity as room from slots
where project = :project and name in {names[text]} order by name {for_update}

-- name: lock_runs
-- No run begins or ends while a limit is made that counts those that are active. SQLite's write lock sees to it already.
select 1 as locked

-- name: share_runs
-- No limit is made while a run begins that knows which there are. SQLite's write lock sees to it already.
select 1 as locked

-- name: add_slot
-- A limit, unless it exists.
insert into slots (project, name, capacity) values (:project, :name, :capacity) on conflict (project, name) do nothing

-- name: set_slot
-- A limit changes at run time.
update slots set capacity = :capacity where project = :project and name = :name

-- name: free_slot
-- Nobody holds a limit any more, for it is taken away.
delete from holds where project = :project and slot = :name

-- name: remove_slot
-- A limit that nobody holds is taken away.
delete from slots where project = :project and name = :name

-- name: hold_slot
-- The run takes one unit of a limit.
insert into holds (run, project, slot) values (:run, :project, :slot)

-- name: hold_slot_if_active
-- The run takes one unit of a limit that was made while it ran, or whose hold is lost, unless it has just ended or has
-- one.
insert into holds (run, project, slot)
select r.id, r.project, :slot from runs r where r.id = :run and r.state in ('starting', 'running')
  and not exists (select 1 from holds h where h.run = r.id and h.slot = :slot) {for_update}

-- name: free_orphaned_slots
-- Holds of runs that have ended, or are not there, are no holds.
delete from holds
where project = :project
  and not exists (select 1 from runs r where r.id = holds.run and r.state in ('starting', 'running'))

-- name: recount_slots
-- Every limit's use is the number of its holds.
update slots set used = (select count(*) from holds h where h.project = slots.project and h.slot = slots.name)
where project = :project and coalesce(used, -1) <>
    (select count(*) from holds h where h.project = slots.project and h.slot = slots.name)
