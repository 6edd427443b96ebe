-- name: wrong_edges
-- Edges whose state is not what their prerequisite's state makes of it.
select e.task, e.prerequisite, e.kind, e.state from edges e join tasks p on p.id = e.prerequisite
where p.project = :project and e.state <> 'waived' and e.state <> {edge_state}
  and e.task in {ids[]}  --? ids
limit :limit

-- name: wrong_gate_edges
-- Edges whose kind or state is not that of their gate.
select e.task, e.gate, e.kind, e.state from edges e join gates g on g.id = e.gate
where g.project = :project and (e.kind <> g.kind or (e.state <> 'waived' and e.state <> g.state))
  and e.task in {ids[]}  --? ids
limit :limit

-- name: wrong_gates
-- Gates that the task to which they belong does not wait for.
select g.task, g.id as gate, g.kind from gates g
where g.project = :project
  and not exists (select 1 from edges e where e.task = g.task and e.gate = g.id and e.heir_of = g.task)
  and g.task in {ids[]}  --? ids
limit :limit

-- name: wrong_inheritance
-- What a task should wait for because its parent does, or an ancestor further up, and does not; and what it waits for
-- because of one that has no such dependency, or is none.
with recursive above(task, ancestor) as (
    select t.id, t.parent from tasks t
    where t.project = :project and t.parent is not null
      and t.id in {ids[]}  --? ids
    union
    select a.task, p.parent from above a join tasks p on p.id = a.ancestor where p.parent is not null)
select a.task, a.ancestor, e.kind from above a
join edges e on e.task = a.ancestor and e.heir_of = a.ancestor and e.kind <> 'child'
where not exists (select 1 from edges i where i.task = a.task and i.heir_of = a.ancestor and i.kind = e.kind
                      and (i.prerequisite = e.prerequisite or i.gate = e.gate))
union all
select e.task, e.heir_of, e.kind from edges e join tasks t on t.id = e.task
where t.project = :project and e.heir_of <> e.task and e.kind <> 'child'
  and (not exists (select 1 from above a where a.task = e.task and a.ancestor = e.heir_of)
    or not exists (select 1 from edges o where o.task = e.heir_of and o.heir_of = e.heir_of and o.kind = e.kind
                       and (o.prerequisite = e.prerequisite or o.gate = e.gate)))
  and e.task in {ids[]}  --? ids
limit :limit

-- name: own_ancestors
-- Tasks that are a part of themselves, by whatever number of steps.
with recursive above(task, ancestor) as (
    select t.id, t.parent from tasks t
    where t.project = :project and t.parent is not null
      and t.id in {ids[]}  --? ids
    union
    select a.task, p.parent from above a join tasks p on p.id = a.ancestor where p.parent is not null)
select task, ancestor as parent from above where ancestor = task order by task
limit :limit

-- name: wrong_counters
-- Tasks whose counters are not what their edges say.
select t.id as task from tasks t left join (
    select e.task, sum(case when e.state in ('open', 'dead') then 1 else 0 end) as unmet,
        sum(case when e.state = 'dead' then 1 else 0 end) as dead,
        sum(case when e.state = 'open' and e.kind in ('approval', 'question') then 1 else 0 end) as held,
        sum(case when e.kind = 'child' then 1 else 0 end) as children
    from edges e where true
      and e.task in {ids[]}  --? ids
    group by e.task) c on c.task = t.id
where t.project = :project and (coalesce(t.unmet, -1) <> coalesce(c.unmet, 0) or coalesce(t.dead, -1) <> coalesce(c.dead, 0)
    or coalesce(t.held, -1) <> coalesce(c.held, 0) or coalesce(t.children, -1) <> coalesce(c.children, 0))
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_waiting
-- Tasks that wait, or do not, against what their counters say.
select t.id as task, t.state from tasks t
where t.project = :project and t.state in ('pending', 'ready', 'blocked')
  and t.state <> case when t.dead > 0 or t.held > 0 then 'blocked' when t.unmet > 0 then 'pending' else 'ready' end
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_ranks
-- Ready tasks whose place in the queue is not that of their priority, where one step is an hour. Blocking others is a
-- step more, which two changes at once may leave out. A minute is for a clock that a statement reads twice.
select w.task from (
    select t.id as task, t.ready_at - t.rank as ahead,
        t.priority + 2 * t.urgent - case when t.retries > 0 then 1 else 0 end as steps
    from tasks t
    where t.project = :project and t.state = 'ready'
      and t.id in {ids[]}  --? ids
    ) as w
where abs(w.ahead - 3600000 * {greatest}(1, w.steps)) > 60000
  and abs(w.ahead - 3600000 * {greatest}(1, w.steps + 1)) > 60000
limit :limit

-- name: wrong_lanes
-- Tasks in a lane or plan of another project, or in the lane of tasks with a command though they have none.
select t.id as task from tasks t join lanes l on l.id = t.lane join plans p on p.id = t.plan
where t.project = :project and (l.project <> t.project or p.project <> t.project
    or l.command <> case when t.command is null then 0 else 1 end)
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_projects
-- Tasks, and what the scheduler keeps of them and of their runs, of another project than that to which they belong, and
-- what they are in words. PostgreSQL reads all rows of all parts if the tasks are chosen from their whole.
select * from (
    select t.id as task, 'is of another project than its plan' as said from tasks t join plans p on p.id = t.plan
    where t.project <> p.project
      and t.id in {ids[]}  --? ids
    union all
    select r.task, 'is of another project than its R' || r.id from runs r join tasks t on t.id = r.task
    where r.project <> t.project
      and r.task in {ids[]}  --? ids
    union all
    select g.task, 'is of another project than its G' || g.id from gates g join tasks t on t.id = g.task
    where g.project <> t.project
      and g.task in {ids[]}  --? ids
    union all
    select a.task, 'is of another project than its A' || a.id from artifacts a join tasks t on t.id = a.task
    where a.project <> t.project
      and a.task in {ids[]}  --? ids
    union all
    select o.task, 'is of another project than its permission ' || o.id from permissions o join tasks t on t.id = o.task
    where o.project <> t.project
      and o.task in {ids[]}  --? ids
    union all
    select r.task, 'has R' || r.id || ', which is of another project than what it used'
    from metrics m join runs r on r.id = m.run where m.project <> r.project
      and r.task in {ids[]}  --? ids
    union all
    select r.task, 'has R' || r.id || ', which is of another project than a message to it'
    from messages m join runs r on r.id = m.run where m.project <> r.project
      and r.task in {ids[]}  --? ids
    union all
    select r.task, 'has R' || r.id || ', which is of another project than ' || h.slot || ', which it holds'
    from holds h join runs r on r.id = h.run where h.project <> r.project
      and r.task in {ids[]}  --? ids
    ) as wrong
limit :limit

-- name: wrong_holders
-- Tasks that are in progress without an active run of theirs.
select t.id as task, t.run from tasks t
where t.project = :project and t.state = 'in_progress'
  and not exists (select 1 from runs r where r.id = t.run and r.task = t.id and r.state in ('starting', 'running'))
  and t.id in {ids[]}  --? ids
limit :limit

-- name: stray_runs
-- Active runs whose task does not know them.
select r.task, r.id as run from runs r join tasks t on t.id = r.task
where r.project = :project and r.state in ('starting', 'running') and (t.run is null or t.run <> r.id)
  and r.task in {ids[]}  --? ids
limit :limit

-- name: wrong_attempts
-- Tasks that count other attempts than they have runs.
select t.id as task, t.attempts, (select count(*) from runs r where r.task = t.id) as runs from tasks t
where t.project = :project and t.attempts <> (select count(*) from runs r where r.task = t.id)
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_attempt_numbers
-- Runs whose attempt is not their place among the runs of their task.
select n.task, n.id as run, n.attempt, n.place from (
    select r.task, r.id, r.attempt, row_number() over (partition by r.task order by r.id) as place from runs r
    where r.project = :project
      and r.task in {ids[]}  --? ids
    ) as n
where n.attempt <> n.place
limit :limit

-- name: wrong_leases
-- Active runs that may be silent for longer than any lease lasts.
select r.task, r.id as run from runs r
where r.project = :project and r.state in ('starting', 'running') and r.lease_until > {now} + 2 * r.lease_ms
  and r.task in {ids[]}  --? ids
limit :limit

-- name: wrong_times
-- Tasks that are settled and have no time at which they were, or the other way round; that have attempts and never
-- began, or the other way round; that are ready at no time.
select t.id as task, t.state, t.attempts from tasks t
where t.project = :project and ((t.state in ('completed', 'failed', 'cancelled')) <> (t.completed_at is not null)
    or (t.attempts > 0) <> (t.started_at is not null) or (t.state = 'ready' and t.ready_at is null))
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_sums
-- Runs that are said to have used something else than what was told of them adds up to; a millionth
-- of a dollar is for sums of fractions.
select r.task, r.id as run from runs r left join (
    select m.run, sum(m.turns) as turns, sum(m.tokens_input) as tokens_input, sum(m.tokens_output) as tokens_output,
        sum(m.tokens_cache_read) as tokens_cache_read, sum(m.tokens_cache_write) as tokens_cache_write,
        sum(m.cost_usd) as cost_usd
    from metrics m where true
      and m.run in (select s.id from runs s where s.task in {ids[]})  --? ids
    group by m.run) u on u.run = r.id
where r.project = :project and (coalesce(r.turns, 0) <> coalesce(u.turns, 0)
    or coalesce(r.tokens_input, 0) <> coalesce(u.tokens_input, 0)
    or coalesce(r.tokens_output, 0) <> coalesce(u.tokens_output, 0)
    or coalesce(r.tokens_cache_read, 0) <> coalesce(u.tokens_cache_read, 0)
    or coalesce(r.tokens_cache_write, 0) <> coalesce(u.tokens_cache_write, 0)
    or abs(coalesce(r.cost_usd, 0) - coalesce(u.cost_usd, 0)) > 0.000001)
  and r.task in {ids[]}  --? ids
limit :limit

-- name: wrong_parents
-- Completed parents of which a child is still to be done.
select e.task, e.prerequisite from edges e join tasks t on t.id = e.task
where t.project = :project and t.state = 'completed' and e.kind = 'child' and e.state in ('open', 'dead')
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_hierarchy
-- Children whose parent does not wait for them, and parents that wait for a child that is another's.
select * from (
    select t.id as task, t.parent from tasks t
    where t.project = :project and t.parent is not null and not exists
        (select 1 from edges e where e.task = t.parent and e.prerequisite = t.id and e.kind = 'child')
    union all
    select c.id, e.task from edges e join tasks c on c.id = e.prerequisite
    where c.project = :project and e.kind = 'child' and (c.parent is null or c.parent <> e.task)) as wrong
where wrong.task in {ids[]}  --? ids
limit :limit

-- name: lost_parents
-- Tasks that are a part of one that is not there.
select t.id as task, t.parent from tasks t
where t.project = :project and t.parent is not null and not exists (select 1 from tasks p where p.id = t.parent)
  and t.id in {ids[]}  --? ids
limit :limit

-- name: lost_edges
-- Tasks that count more edges than they have, were these as their prerequisites make them: one is gone, or a hand wrote
-- the number.
select t.id as task from tasks t left join (
    select d.task, sum(case when d.state in ('open', 'dead') then 1 else 0 end) as unmet,
        sum(case when d.state = 'dead' then 1 else 0 end) as dead,
        sum(case when d.state = 'open' and d.kind in ('approval', 'question') then 1 else 0 end) as held,
        sum(case when d.kind = 'child' then 1 else 0 end) as children
    from (select e.task, e.kind, case when e.state = 'waived' or p.id is null then e.state else {edge_state} end as state
          from edges e left join tasks p on p.id = e.prerequisite where true
            and e.task in {ids[]}  --? ids
          ) as d
    group by d.task) c on c.task = t.id
where t.project = :project and (t.unmet > coalesce(c.unmet, 0) or t.dead > coalesce(c.dead, 0)
    or t.held > coalesce(c.held, 0) or t.children > coalesce(c.children, 0))
  and t.id in {ids[]}  --? ids
limit :limit

-- name: recount_edges
-- What tasks count of their edges, counted anew.
update tasks set
    unmet = (select count(*) from edges e where e.task = tasks.id and e.state in ('open', 'dead')),
    dead = (select count(*) from edges e where e.task = tasks.id and e.state = 'dead'),
    held = (select count(*) from edges e
            where e.task = tasks.id and e.state = 'open' and e.kind in ('approval', 'question')),
    children = (select count(*) from edges e where e.task = tasks.id and e.kind = 'child')
where id in {ids[]}

-- name: wrong_references
-- Rows that name a row that is not there, or a run that is another task's, and what is wrong with them in words.
select * from (
    select e.task, 'waits for T' || e.prerequisite || ', which is not there' as said from edges e
    where e.prerequisite is not null and not exists (select 1 from tasks p where p.id = e.prerequisite)
    union all
    select e.task, 'waits for G' || e.gate || ', which is not there' from edges e
    where e.gate is not null and not exists (select 1 from gates g where g.id = e.gate)
    union all
    select e.task, 'is not there, and has dependencies' from edges e where not exists (select 1 from tasks t where t.id = e.task)
    union all
    select t.id, 'is of plan ' || t.plan || ', which is not there' from tasks t where not exists (select 1 from plans p where p.id = t.plan)
    union all
    select t.id, 'is in lane ' || t.lane || ', which is not there' from tasks t where not exists (select 1 from lanes l where l.id = t.lane)
    union all
    select t.id, 'has the work of R' || t.work_run || coalesce(', which is of T' || r.task, ', which is not there')
    from tasks t left join runs r on r.id = t.work_run
    where t.work_run is not null and (r.id is null or r.task <> t.id)
    union all
    select r.task, 'is not there, and has R' || r.id from runs r where not exists (select 1 from tasks t where t.id = r.task)
    union all
    select a.task, 'has A' || a.id || ' of R' || a.run || ', which is not there' from artifacts a
    where a.run is not null and not exists (select 1 from runs r where r.id = a.run)) as wrong
where true
  and wrong.task in {ids[]}  --? ids
limit :limit

-- name: wrong_work
-- Tasks that do not know whose work their result is, though a run succeeded that did not end with a question.
select t.id as task, t.state, min(r.id) as run from tasks t join runs r on r.task = t.id
where t.project = :project and t.work_run is null and r.state = 'succeeded' and coalesce(r.code, '') <> 'question'
  and t.id in {ids[]}  --? ids
group by t.id, t.state
limit :limit

-- name: work_of_nobody
-- Completed tasks without parts of which no run succeeded. One that its parts completed is said to be by the journal,
-- wherever they are since (moved, deleted). Where the journal does not go back to its beginning, nothing is said.
select t.id as task from tasks t
where t.project = :project and t.state = 'completed' and t.children = 0
  and not exists (select 1 from tasks c where c.parent = t.id)
  and not exists (select 1 from runs r where r.task = t.id and r.state = 'succeeded')
  and exists (select 1 from events b where b.task = t.id and b.kind = 'task.created' and b.to_state <> 'completed')
  and not exists (select 1 from events c where c.task = t.id and c.kind = 'task.completed' and c.data is not null
      and c.from_state = 'pending')
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_work_run
-- Tasks whose result is said to be the work of a run that did not succeed.
select t.id as task, r.id as run, r.state from tasks t join runs r on r.id = t.work_run
where t.project = :project and r.state <> 'succeeded'
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_tags
-- Tasks that are found by other tags than their list has: a row that is not in the list, or a member of the list without
-- a row. Members are counted by their quotes, of which a tag has none. What is no list of texts another rule names.
-- All tags are read once, for they are in order of their names.
select t.id as task from tasks t left join (
    select g.task, min(length(o.tags) - length(replace(o.tags, '"' || g.tag || '"', ''))) as least,
        sum(2 * (length(o.tags) - length(replace(o.tags, '"' || g.tag || '"', ''))) / (length(g.tag) + 2)) as quotes
    from tags g cross join tasks o where o.id = g.task
      and g.task in {ids[]}  --? ids
    group by g.task) f on f.task = t.id
where t.project = :project and substr(t.tags, 1, 1) = '[' and substr(t.tags, length(t.tags)) = ']'
  and length(replace(t.tags, '""', '')) = length(t.tags)
  and (f.least = 0 or length(t.tags) - length(replace(t.tags, '"', '')) <> coalesce(f.quotes, 0))
  and t.id in {ids[]}  --? ids
order by t.id limit :limit

-- name: wrong_archive
-- Open tasks that were never archived, and are said to be. One that older programs took up again stays archived; of
-- that its line in the journal tells, or none about it from before is left. The lines are counted, so that PostgreSQL
-- reads the journal only where there is such a task.
select t.id as task, t.state from tasks t
where t.project = :project and t.archived_at is not null and t.state not in ('completed', 'failed', 'cancelled')
  and (select count(*) from events c where c.task = t.id and c.kind = 'task.created') > 0
  and (select count(*) from events a where a.task = t.id and a.kind = 'task.archived') = 0
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_failures
-- Failed tasks without a code that says why.
select t.id as task from tasks t
where t.project = :project and t.state = 'failed' and t.code is null
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_clones
-- Tasks that another clone may take than the one that has their plan.
select t.id as task, t.clone, coalesce(p.began_clone, '') as plan_clone from tasks t join plans p on p.id = t.plan
where t.project = :project and t.clone <> case when t.merge = 'auto' then coalesce(p.began_clone, '') else '' end
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_landings
-- Plans that were landed at no commit, or at no time.
select p.name from plans p
where p.project = :project and (p.landed_at is null) <> (p.landed_commit is null) limit :limit

-- name: lost_projects
-- Projects of which there are plans or lanes, and which are not there themselves.
select o.project, count(*) as things from (select project from plans union all select project from lanes) as o
where not exists (select 1 from projects p where p.id = o.project)
group by o.project order by o.project limit :limit

-- name: wrong_slots
-- Limits that count other than their holds.
select s.name, s.used, (select count(*) from holds h where h.project = s.project and h.slot = s.name) as holds from slots s
where s.project = :project
  and s.used <> (select count(*) from holds h where h.project = s.project and h.slot = s.name)
limit :limit

-- name: wrong_holds
-- Limits that runs hold that have ended, or are not there.
select h.run, h.slot from holds h left join runs r on r.id = h.run
where h.project = :project and (r.id is null or r.state not in ('starting', 'running')) limit :limit

-- name: unheld_slots
-- Limits that bind an active run, and that it does not hold: those of runs by what the run is, and the resources that
-- its task needs, unless these were changed since it began. Hosts are left out, for they can be renamed meanwhile.
select r.id as run, s.name as slot from runs r join tasks t on t.id = r.task join lanes l on l.id = t.lane
join slots s on s.project = r.project
where r.project = :project and r.state in ('starting', 'running')
  and not exists (select 1 from holds h where h.run = r.id and h.slot = s.name)
  and ((r.supervised = 1 and (s.name in ('global', :of_agent || r.agent) or (r.role <> '' and s.name = :of_role || r.role)))
    or (substr(s.name, 1, 9) = :of_resource
        and length(replace(l.needs, '"' || substr(s.name, 10) || '"', '')) < length(l.needs)
        and not exists (select 1 from events e where e.task = r.task and e.kind = 'task.updated'
            and length(replace(e.data, '"needs"', '')) < length(e.data)
            and e.id > coalesce((select max(b.id) from events b where b.run = r.id and b.kind = 'task.in_progress'), 0))))
limit :limit

-- name: lost_slots
-- Limits that runs hold, and that are not there.
select h.run, h.slot from holds h
where h.project = :project and not exists (select 1 from slots s where s.project = h.project and s.name = h.slot)
limit :limit

-- name: wrong_merges
-- Plans whose merge queue a run has that is not of the plan.
select p.name, p.merge_run from plans p
where p.project = :project and p.merge_run is not null
  and not exists (select 1 from runs r join tasks t on t.id = r.task where r.id = p.merge_run and t.plan = p.id)
limit :limit

-- name: wrong_decisions
-- Decisions that are superseded, and no other one holds in their place; that hold beside the one that does; and that
-- had a status before which none has.
select d.number, d.status, n.number as other from decisions d left join decisions n
    on n.replaces = d.id and n.relation <> 'refines' and coalesce(n.was, n.status) in ('accepted', 'implemented')
where d.project = :project and ((d.status = 'superseded') <> (n.id is not null)
    or d.was not in ('proposed', 'accepted', 'implemented', 'rejected'))
order by d.number limit :limit

-- name: decision_numbers
-- How many decisions there are, and the largest number.
select count(*) as total, coalesce(max(number), 0) as last from decisions where project = :project

-- name: wrong_journal
-- Tasks whose last line in the journal, of those after `after`, is not the state they are in.
select t.id as task, t.state, e.to_state from (
    select l.task, max(l.id) as last from events l
    where l.id > :after and l.project = :project and l.task is not null and l.to_state is not null
      and substr(l.kind, 1, 5) = 'task.'
    group by l.task) n
join events e on e.id = n.last join tasks t on t.id = n.task
where t.project = :project and t.state <> e.to_state
  and t.id in {ids[]}  --? ids
limit :limit

-- name: wrong_run_journal
-- Runs whose last line in the journal, of those after `after`, is not the state they are in.
select r.task, r.id as run, r.state, e.to_state from (
    select l.run, max(l.id) as last from events l
    where l.id > :after and l.project = :project and l.run is not null and l.to_state is not null
      and substr(l.kind, 1, 4) = 'run.'
    group by l.run) n
join events e on e.id = n.last join runs r on r.id = n.run
where r.project = :project and r.state <> e.to_state
  and r.task in {ids[]}  --? ids
limit :limit

-- name: wrong_chain
-- Lines of the journal, of those after `after`, that do not begin where the line before them of the same task or run
-- ended: one between them is gone. Of what is archived lines are forgotten.
select n.task, n.id as line, n.from_state, n.before from (
    select l.id, l.task, l.from_state,
        lag(l.to_state) over (partition by l.task, case when substr(l.kind, 1, 4) = 'run.' then l.run end order by l.id) as before
    from events l
    where l.id > :after and l.project = :project and l.task is not null and l.to_state is not null
      and (substr(l.kind, 1, 5) = 'task.' or substr(l.kind, 1, 4) = 'run.')
      and l.task in {ids[]}  --? ids
    ) as n join tasks t on t.id = n.task
where t.archived_at is null and n.before is not null and n.before <> coalesce(n.from_state, '')
limit :limit

-- name: wrong_moves
-- Lines of the journal, of those after `after`, that tell a move which nothing makes.
select l.task, l.id as line, l.from_state, l.to_state from events l
where l.id > :after and l.project = :project and l.task is not null and l.from_state is not null
  and l.to_state is not null and l.from_state <> l.to_state
  and ((substr(l.kind, 1, 5) = 'task.' and l.from_state || '>' || l.to_state not in {task_moves})
    or (substr(l.kind, 1, 4) = 'run.' and l.from_state || '>' || l.to_state not in {run_moves}))
  and l.task in {ids[]}  --? ids
limit :limit

-- name: lost_tasks
-- Tasks that were made and not deleted, by the lines of the journal after `after`, and are not there.
select l.task, l.id as line from events l
where l.id > :after and l.project = :project and l.kind = 'task.created'
  and not exists (select 1 from tasks t where t.id = l.task)
  and not exists (select 1 from events d where d.task = l.task and d.kind = 'task.deleted')
  and l.task in {ids[]}  --? ids
limit :limit

-- name: wrong_beginning
-- Tasks and runs whose beginning is not in the journal, if the whole journal is looked at. Of what is archived lines are
-- forgotten, and a task that came back from there goes on without them.
select w.task, case when w.run = 0 then 'has no line in the journal that says that it was made'
    else 'has R' || w.run || ', and no line in the journal says that it began' end as said
from (
    select t.id as task, 0 as run from tasks t
    where :after = 0 and t.project = :project and t.archived_at is null
      and t.id in {ids[]}  --? ids
    union all
    select r.task, r.id from runs r join tasks t on t.id = r.task
    where :after = 0 and r.project = :project and t.archived_at is null
      and r.task in {ids[]}  --? ids
    except
    select l.task, case when l.kind = 'task.created' then 0 else l.run end from events l
    where :after = 0 and l.project = :project and l.from_state is null
      and l.kind in ('task.created', 'run.starting', 'run.running')
      and l.task in {ids[]}  --? ids
    ) as w
where w.task not in (select b.task from events b where b.kind = 'task.unarchived' and b.task is not null)
limit :limit

-- name: open_edges
-- Who waits for whom.
select e.task, e.prerequisite from edges e join tasks t on t.id = e.task
where t.project = :project and e.prerequisite is not null and e.state in ('open', 'dead')

-- name: json_of_tasks
-- Lists and objects of tasks, the newest first; of those alone that are not large.
select t.id, l.needs, t.checks, t.tags, t.context, t.metadata from tasks t join lanes l on l.id = t.lane
where t.project = :project
  and t.id < :before  --? before
  and t.id in {ids[]}  --? ids
  and length(t.checks) + length(t.tags) + length(t.context) + length(t.metadata) <= :most  --? most
order by t.id desc limit :limit

-- name: json_of_runs
-- Lists and objects of runs, the newest first; of those alone that are not large.
select r.id, r.tools, r.remarks from runs r
where r.project = :project
  and r.id < :before  --? before
  and r.task in {ids[]}  --? ids
  and length(r.tools) + length(r.remarks) <= :most  --? most
order by r.id desc limit :limit

-- name: json_of_decisions
-- Lists of decisions, the newest first.
select d.number as id, d.alternatives, d.files, d.components, d.trade_offs, d.risks, d.criteria from decisions d
where d.project = :project
  and d.number < :before  --? before
order by d.number desc limit :limit

-- name: json_of_metrics
-- What differences of runs hold beside numbers, the newest first.
select m.id, m.run, m.tools, m.old_value, m.new_value from metrics m
where m.project = :project
  and m.id < :before  --? before
order by m.id desc limit :limit

-- name: json_of_alerts
-- To whom alerts were told, the newest first.
select a.id, a.told from alerts a
where a.project = :project
  and a.id < :before  --? before
order by a.id desc limit :limit

-- name: json_of_maintenance
-- What maintenance found and did, the newest first.
select m.id, m.found, m.done from maintenance m
where m.project = :project
  and m.id < :before  --? before
order by m.id desc limit :limit

-- name: json_of_events
-- What lines of the journal hold, the newest first.
select e.id, e.data from events e
where e.project = :project
  and e.id < :before  --? before
order by e.id desc limit :limit

-- name: artifacts_after
-- Stored results with their content, a bounded number at a time.
select id, task, name, content, size, sha256 from artifacts where project = :project and id > :after
order by id limit :limit

-- name: integrity
-- What the database itself finds wrong with its pages, indexes and constraints. SQLite's quick check will not do: some
-- versions report sound tables that have no row numbers.
select integrity_check as problem from pragma_integrity_check(10) where integrity_check <> 'ok'

-- name: tasks_to_look_at
-- The next tasks by number, with those that are of a plan of this project and are said to be of another.
select t.id from tasks t
where t.id > :after
  and (t.project = :project or exists (select 1 from plans p where p.id = t.plan and p.project = :project))
order by t.id limit :limit

-- name: newest_line
-- Number of the journal's newest line.
select coalesce(max(id), 0) as id from events

-- name: results_to_look_at
-- Stored results of tasks that are not large, bounded.
select id, task, name, content, size, sha256 from artifacts
where project = :project and size <= :most
  and task in {ids[]}
order by id desc limit :limit

-- name: looked_until
-- Up to which task was looked last.
insert into meta (key, value) values (:key, :value) on conflict (key) do update set value = excluded.value

-- name: last_numbers
-- The highest number of a row of each table whose rows have one.
select 'projects' as "table", max(id) as last from projects union all
select 'plans' as "table", max(id) as last from plans union all
select 'lanes' as "table", max(id) as last from lanes union all
select 'tasks' as "table", max(id) as last from tasks union all
select 'gates' as "table", max(id) as last from gates union all
select 'edges' as "table", max(id) as last from edges union all
select 'runs' as "table", max(id) as last from runs union all
select 'metrics' as "table", max(id) as last from metrics union all
select 'messages' as "table", max(id) as last from messages union all
select 'checks' as "table", max(id) as last from checks union all
select 'artifacts' as "table", max(id) as last from artifacts union all
select 'events' as "table", max(id) as last from events union all
select 'sessions' as "table", max(id) as last from sessions union all
select 'decisions' as "table", max(id) as last from decisions union all
select 'files' as "table", max(id) as last from files union all
select 'handoffs' as "table", max(id) as last from handoffs union all
select 'maintenance' as "table", max(id) as last from maintenance union all
select 'workers' as "table", max(id) as last from workers union all
select 'tokens' as "table", max(id) as last from tokens union all
select 'alerts' as "table", max(id) as last from alerts union all
select 'permissions' as "table", max(id) as last from permissions union all
select 'texts' as "table", max(id) as last from texts union all
select 'logins' as "table", max(id) as last from logins

-- name: last_task_told_of
-- The highest number of a task in the journal, whether the task is there still or not.
select coalesce(max(task), 0) as id from events
