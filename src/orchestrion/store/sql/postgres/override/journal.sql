-- Lines of the journal may appear in another order than that of their numbers: only here do transactions write at once.

-- name: journal_numbers
-- Numbers of lines of all projects after one; a missing one may still come.
select id from events where id > :since order by id limit :limit

-- name: transactions
-- The oldest transaction that is going on, and the number that the next one gets.
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as newest
