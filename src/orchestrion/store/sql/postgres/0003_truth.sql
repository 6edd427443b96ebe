-- The database says the truth of itself, and whose a run and a plan are: hosts are known by more than their
-- names, and plans are bound to the clone in which they began.
-- serves programs from: 1

-- Hosts and clones. A host's name does not tell two containers apart, and its processes are others after a restart.

alter table runs add column host_id text;            -- null: written by an older program, whose hosts are names
alter table runs add column clone text;              -- id of the clone whose worker claimed it; null: unknown
alter table workers add column host_name text;       -- since there are ids, `host` is one; null: it is a name
alter table plans add column began_clone text;       -- id of the clone that has its work; null: not bound yet
alter table plans add column began_host text;        -- name of that clone's host

-- Which clone alone may take the task, for a claim finds tasks through this index; empty: any. It follows from the
-- plan's clone, and from whether the task's work goes into the plan.
alter table tasks add column clone text not null default '';
drop index tasks_to_claim;
create index tasks_to_claim on tasks (lane, clone, rank, id) where state = 'ready';
