-- name: add_edge
-- A dependency on a task; its state follows from the prerequisite's.
insert into edges (task, prerequisite, kind, state, heir_of, reason, created_at)
select :task, p.id, e.kind, case when :waived = 1 then 'waived' else {edge_state} end, :heir_of, :reason, {now}
from tasks p, (select cast(:kind as text) as kind) e
where p.id = :prerequisite and not exists
    (select 1 from edges o where o.task = :task and o.prerequisite = :prerequisite and o.kind = :kind
        and o.heir_of = :heir_of)

-- name: add_gate
-- A gate of a task; open until somebody or the clock opens it.
insert into gates (project, task, kind, name, opens_at, created_at)
values (:project, :task, :kind, :name, :opens_at, {now}) returning id

-- name: add_gate_edge
-- The task, or one of its descendants, waits for the gate.
insert into edges (task, gate, kind, state, heir_of, created_at) values (:task, :gate, :kind, 'open', :heir_of, {now})

-- name: inherit_edges
-- A child waits for whatever its parent waits for, the parent's children excepted. The prerequisites are held, so that
-- none of them changes without this edge; gates are decided under the same lock as shapes.
insert into edges (task, prerequisite, gate, kind, state, heir_of, reason, created_at)
select :task, e.prerequisite, e.gate, e.kind, case when e.state = 'waived' then 'waived' else {edge_state} end,
    e.heir_of, e.reason, {now}
from edges e join
    (select id, state from tasks where id in
        (select w.prerequisite from edges w where w.task = :parent and w.kind <> 'child' and w.prerequisite is not null)
     order by id {for_update}) p on p.id = e.prerequisite
where e.task = :parent and e.kind <> 'child' and e.prerequisite <> :task
union all
select :task, g.prerequisite, g.gate, g.kind, g.state, g.heir_of, g.reason, {now}
from edges g where g.task = :parent and g.gate is not null

-- name: edges_follow
-- Edges whose prerequisite changed take the state that follows from it; the tasks they belong to.
update edges as e set state = {edge_state} from tasks p
where p.id = e.prerequisite and p.id in {ids[]} and e.state <> 'waived' and e.state <> {edge_state}
returning task

-- name: open_gate
-- A gate is decided: met or dead.
update gates set state = :state, answer = :answer, decided_by = :decided_by, decided_at = {now}
where id = :gate and state = 'open'

-- name: gate_edges_follow
-- Edges of decided gates; the tasks they belong to.
update edges set state = :state where gate in {gates[]} and state = 'open' returning task

-- name: due_gates
-- Time gates whose moment has come.
select id, task from gates where state = 'open' and kind = 'time' and opens_at <= {now} and project = :project
order by opens_at limit 100

-- name: open_gates_of
-- Gates of a task that are still open, oldest first.
select * from gates where task = :task and state = 'open'
  and kind = :kind  --? kind
  and name = :name  --? name
order by id

-- name: gates_of
-- All gates of a task.
select * from gates where task = :task order by id

-- name: gate
-- One gate.
select * from gates where id = :id and project = :project

-- name: dependency
-- Edges that one dependency stands for: the task's own and those its descendants inherited.
select id, task, state, kind from edges where heir_of = :task and prerequisite = :on
  and kind = :kind  --? kind
  and kind <> 'child'

-- name: remove_edges
-- A dependency ends, for the task and its heirs.
delete from edges where id in {ids[]}

-- name: waive_edges
-- A dependency no longer binds, and why; this stays.
update edges set state = 'waived', reason = :reason where id in {ids[]} and state <> 'waived'

-- name: remove_inherited
-- Tasks that leave a hierarchy no longer wait for what their old ancestors wait for.
delete from edges where task in {ids[]} and heir_of in {ancestors[]} and kind <> 'child'

-- name: remove_child_edge
-- A parent no longer waits for a child.
delete from edges where task = :parent and prerequisite = :child and kind = 'child'

-- name: prerequisites_to_inherit
-- Tasks that children of these tasks wait for because their parents do.
select distinct prerequisite from edges where task in {ids[]} and prerequisite is not null and kind <> 'child'

-- name: edges_of
-- Everything a task waits for, with the state of each prerequisite.
select e.*, p.state as prerequisite_state, p.title as prerequisite_title, g.name as gate_name, g.opens_at,
    g.state as gate_state, g.answer
from edges e left join tasks p on p.id = e.prerequisite left join gates g on g.id = e.gate
where e.task = :task order by e.id limit :limit

-- name: own_prerequisites
-- Prerequisites that tasks were given themselves (not inherited, not their children).
select e.task, e.prerequisite from edges e
where e.task in {ids[]} and e.heir_of = e.task and e.prerequisite is not null and e.kind <> 'child'
order by e.task, e.id

-- name: dead_edges
-- Why blocked tasks are blocked.
select e.task, e.prerequisite, e.kind, e.gate, e.state from edges e
where e.task in {ids[]} and (e.state = 'dead' or (e.state = 'open' and e.kind in ('approval', 'question')))
order by e.id limit 1000

-- name: dependents
-- Tasks that wait for one of these tasks, for which, and whose dependency it is.
select e.task as id, t.state, e.kind, e.state as edge_state, e.prerequisite, e.heir_of from edges e join tasks t on t.id = e.task
where e.prerequisite in {ids[]} and e.kind <> 'child' order by e.task

-- name: reaches
-- Whether one of the starts waits, over any number of tasks, for one of the targets.
with recursive reach(id) as (
    select id from tasks where id in {starts[]}
    union
    select e.prerequisite from edges e join reach on e.task = reach.id where e.prerequisite is not null)
select id from reach where id in {targets[]} limit 1

-- name: reach_edges
-- All edges over which the start waits for anything, for drawing the circle.
with recursive reach(id) as (
    select id from tasks where id = :start
    union
    select e.prerequisite from edges e join reach on e.task = reach.id where e.prerequisite is not null)
select e.task, e.prerequisite from edges e join reach on e.task = reach.id where e.prerequisite is not null

-- name: graph_tasks
-- What a drawing of the graph needs of each task.
select t.id, t.title, t.state, t.parent, t.effort_min, t.key, t.code, p.name as plan_name
from tasks t join plans p on p.id = t.plan
where t.project = :project and t.archived_at is null
  and p.name = :plan  --? plan
order by t.id limit :limit

-- name: graph_edges
-- Edges between tasks, without inherited ones.
select e.task, e.prerequisite, e.kind, e.state from edges e join tasks t on t.id = e.task join plans p on p.id = t.plan
where t.project = :project and e.prerequisite is not null and (e.heir_of = e.task or e.kind = 'child')
  and p.name = :plan  --? plan
order by e.id limit :limit

-- name: unmet_edges
-- What a task still waits for, and what will never come.
select e.*, p.state as prerequisite_state, p.title as prerequisite_title, g.name as gate_name, g.opens_at
from edges e left join tasks p on p.id = e.prerequisite left join gates g on g.id = e.gate
where e.task = :task and e.state in ('open', 'dead')
order by e.state, e.id limit :limit

-- name: open_gates
-- Gates that are still open, with the task each belongs to; those of settled tasks are awaited by nobody.
select g.id, g.kind, g.name, g.opens_at, g.task, t.title from gates g join tasks t on t.id = g.task
where g.project = :project and g.state = 'open' and t.state in ('pending', 'blocked')
order by g.id limit :limit
