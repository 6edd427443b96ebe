-- name: edges_follow
-- Two settlements that share dependants take their rows in the same order, so that neither waits for the other.
with held as materialized (
    select id from tasks where id in (select task from edges where prerequisite in {ids[]}) order by id for no key update)
update edges as e set state = {edge_state} from tasks p
where p.id = e.prerequisite and p.id in {ids[]} and e.state <> 'waived' and e.state <> {edge_state}
    and e.task in (select id from held)
returning task
