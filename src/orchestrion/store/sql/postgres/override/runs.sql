-- name: take_best
-- PostgreSQL finds each lane's head through its index only when asked laterally; and here others may be
-- taking heads at the same moment, so the best lane's first task that nobody holds is locked.
select t.id, t.attempts, t.ready_at, l.id as lane, l.role, l.agent, l.needs, l.command
from tasks t join lanes l on l.id = t.lane
where t.state = 'ready' and t.lane = (
    select b.id from lanes b cross join lateral
        (select h.id as head, h.rank from tasks h where h.lane = b.id and h.state = 'ready'
            order by h.rank, h.id limit 1) h
    where b.project = :project
      and b.role in {roles[text]}  --? roles
      and b.id not in {closed[]}  --? closed
    order by h.rank, h.head limit 1)
order by t.rank, t.id limit 1 for no key update of t skip locked
