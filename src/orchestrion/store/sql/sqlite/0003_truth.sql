-- What the database says of itself is true.
-- serves programs from: 1

-- How many tasks waited or were ready when they were counted last, and the last task's number then: with the numbers
-- given since that is the most there can be now, so that nobody counts while there is room.
alter table projects add column waiting_counted integer;    -- null: never counted
alter table projects add column waiting_up_to integer;
create index tasks_waiting on tasks (project) where state in ('pending', 'ready');
