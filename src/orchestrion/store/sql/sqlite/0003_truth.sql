-- What the database says of itself is true: a sound one is never called damaged.
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
