-- name: add_message
-- Something that a person says to a run's agent.
insert into messages (project, run, text, actor, created_at)
values (:project, :run, :text, :actor, {now}) returning id

-- name: waiting_messages
-- What the agent of a run has not heard yet, oldest first.
select id, text from messages where run = :run and state = 'waiting' order by id

-- name: give_messages
-- The agent heard these.
update messages set state = 'given', how = :how, given_at = {now} where id in {ids[]} and state = 'waiting'
returning id, run, (select task from runs where runs.id = messages.run) as task

-- name: messages_of_run
-- All that was said to a run's agent.
select * from messages where run = :run order by id

-- name: drop_messages
-- What the agent of an ended run did not hear.
update messages set state = 'dropped' where run = :run and state = 'waiting'
