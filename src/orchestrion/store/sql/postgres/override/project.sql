-- name: add_events
-- All lines of a transaction in one statement, so that they travel with the commit.
insert into events (project, at, kind, task, run, from_state, to_state, actor, session, correlation, data)
select :project, {now}, e.kind, e.task, e.run, e.from_state, e.to_state, e.actor, e.session, e.correlation, e.data
from json_to_recordset(cast(:events as json)) as e (
    kind text, task bigint, run bigint, from_state text, to_state text, actor text, session text, correlation text,
    data text)
