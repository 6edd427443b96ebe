-- name: edges_follow
-- Two settlements that share dependants take their rows in the same order, so that neither waits for the other.
with held as materialized (
    select id from tasks where id in (select task from edges where prerequisite in {ids[]}) order by id for no key update)
update edges as e set state = {edge_state} from tasks p
where p.id = e.prerequisite and p.id in {ids[]} and e.state <> 'waived' and e.state <> {edge_state}
    and e.task in (select id from held)
returning task

-- name: reaches
-- Asked laterally, PostgreSQL finds the edges of each step through their index instead of reading all of them again.
with recursive reach(id) as (
    select id from tasks where id in {starts[]}
    union
    select n.prerequisite from reach cross join lateral
        (select e.prerequisite from edges e where e.task = reach.id and e.prerequisite is not null offset 0) n)
select id from reach where id in {targets[]} limit 1

-- name: reach_edges
-- Laterally for the same reason.
with recursive reach(id) as (
    select id from tasks where id = :start
    union
    select n.prerequisite from reach cross join lateral
        (select e.prerequisite from edges e where e.task = reach.id and e.prerequisite is not null offset 0) n)
select n.task, n.prerequisite from reach cross join lateral
    (select e.task, e.prerequisite from edges e where e.task = reach.id and e.prerequisite is not null offset 0) n
