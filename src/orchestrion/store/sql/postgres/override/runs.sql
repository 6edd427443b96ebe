-- name: take_best
-- PostgreSQL finds each lane's head through its index only when asked laterally; and here others may be
-- taking heads at the same moment, so the best lane's first task that nobody holds is locked. When all of the
-- lane's tasks are held, the lane comes without a task: there may be others behind it.
select t.id, t.attempts, t.ready_at, l.id as lane, l.role, l.agent, l.needs, l.command
from (select b.*, c.clone from lanes b cross join (values (''), (:clone::text)) c (clone) cross join lateral
          (select h.id as head, h.rank from tasks h where h.lane = b.id and h.clone = c.clone and h.state = 'ready'
              and h.plan not in {spent[]}  --? spent
              and h.plan = :plan  --? plan
              order by h.rank, h.id limit 1) h
      where b.project = :project
        and b.role in {roles[text]}  --? roles
        and b.id not in {closed[]}  --? closed
      order by h.rank, h.head limit 1) l
left join lateral
    (select f.id, f.attempts, f.ready_at from tasks f where f.lane = l.id and f.clone = l.clone and f.state = 'ready'
        and f.plan not in {spent[]}  --? spent
        and f.plan = :plan  --? plan
        order by f.rank, f.id limit 1 for no key update skip locked) t on true
