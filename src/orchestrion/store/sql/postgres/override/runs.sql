-- name: lane_heads
-- PostgreSQL finds each lane's head through its index only when asked laterally.
select l.id as lane, l.role, l.agent, l.needs, t.id, t.rank
from lanes l cross join lateral
    (select h.id, h.rank from tasks h where h.lane = l.id and h.state = 'ready' order by h.rank, h.id limit 1) t
where l.project = :project
  and l.role in {roles[text]}  --? roles
order by t.rank, t.id
