-- The database says the truth of itself, and whose a run and a plan are: hosts are known by more than their
-- names, and plans are bound to the clone in which they began.
-- serves programs from: 1

-- SQLite 3.40 calls each row of `holds` damaged, for its columns do not stand as in its key (see `tags`).
-- The triggers come after the rows, which are counted already.
create table holds_in_order (
    run     integer not null references runs (id),
    slot    text not null,
    project integer not null,
    primary key (run, slot),
    foreign key (project, slot) references slots (project, name)
) strict, without rowid;

insert into holds_in_order (run, slot, project) select run, slot, project from holds;
drop table holds;
alter table holds_in_order rename to holds;
create index holds_by_slot on holds (project, slot);

create trigger holds_birth before insert on holds
when exists (select 1 from holds where run = new.run and slot = new.slot) begin
    select raise(abort, 'illegal_move: a hold is never replaced');
end;

create trigger holds_added after insert on holds begin
    update slots set used = used + 1 where project = new.project and name = new.slot;
end;

create trigger holds_removed after delete on holds begin
    update slots set used = used - 1 where project = old.project and name = old.slot;
end;

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

-- Ways into the page. Only a hash is kept of what the browser shows; a link ends when it is followed, a session when
-- somebody logs out.
create table logins (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    kind       text not null check (kind in ('link', 'session')),
    hash       text not null unique,
    token      integer references tokens (id),   -- whose session it is; null: that of who has the key
    created_at integer not null,
    expires_at integer not null,
    ended_at   integer
) strict;

-- How many tasks waited or were ready when they were counted last, and the last task's number then: with the numbers
-- given since that is the most there can be now, so that nobody counts while there is room.
alter table projects add column waiting_counted integer;    -- null: never counted
alter table projects add column waiting_up_to integer;
create index tasks_pending on tasks (project) where state = 'pending';   -- those that are ready are in tasks_to_claim

-- The newest handoff of each task and work stream, without reading what all of them say.
create index handoffs_by_scope on handoffs (project, task, tag, session, actor, said, id);
