-- name: lines_told
-- PostgreSQL commits lines out of order, though none later than a transaction lasts: the last minute is read again.
select count(*) as total, max(w.id) as last, max(case when w.at < {now} - 60000 then w.id end) as settled
from (select id, at from events where id > :since order by id limit :limit) w

-- name: find_texts
-- PostgreSQL finds words through a GIN index on the same texts; the titles count more here too.
with asked as materialized (
    select to_tsquery('simple', string_agg(w.word || ':*', ' & ')) as query from {words[text]} as w(word))
select t.kind, t.thing, t.title from texts t, asked
where to_tsvector('simple', t.title || ' ' || t.words) @@ asked.query and t.project = :project
  and t.kind in {kinds[text]}  --? kinds
order by ts_rank(setweight(to_tsvector('simple', t.title), 'A') || to_tsvector('simple', t.words), asked.query) desc,
    t.id desc
limit :limit

-- name: related_decisions
-- As above; those that fit by their titles, or are new, are looked at whole, for that takes PostgreSQL a while.
with asked as materialized (
    select to_tsquery('simple', string_agg(w.word || ':*', ' | ')) as query from {words[text]} as w(word)),
likely as materialized (
    select t.id, t.thing, t.title, t.words from texts t, asked
    where to_tsvector('simple', t.title || ' ' || t.words) @@ asked.query and t.project = :project and t.kind = 'D'
    order by ts_rank(to_tsvector('simple', t.title), asked.query) desc, t.id desc limit 40)
select l.thing from likely l, asked
order by ts_rank(setweight(to_tsvector('simple', l.title), 'A') || to_tsvector('simple', l.words), asked.query) desc,
    l.id desc
limit :limit

-- name: add_texts
-- PostgreSQL takes JSON apart in its own way.
insert into texts (project, kind, thing, title, words)
select :project, kind, thing, title, words
from jsonb_to_recordset(cast(:rows as jsonb)) as news (kind text, thing bigint, title text, words text)

-- name: texts_of_tasks
-- Without statistics of a table that was filled just now, PostgreSQL reads all of it for an ``in (select ...)``.
select id, title, substr(description, 1, cast(:most as integer)) as description,
    substr(summary, 1, cast(:most as integer)) as summary, substr(result, 1, cast(:most as integer)) as result
from tasks where id = any(cast(:ids as bigint[])) and project = :project

-- name: texts_known
-- As above.
select thing, title, words from texts where kind = :kind and thing = any(cast(:ids as bigint[])) and project = :project

-- name: forget_texts
-- As above.
delete from texts where kind = :kind and thing = any(cast(:ids as bigint[])) and project = :project

-- name: artifacts_to_find
-- As above.
select a.id, a.name, substr(a.content, 1, cast(:most as integer)) as content from artifacts a
where a.task = any(cast(:ids as bigint[])) and a.project = :project
  and not exists (select 1 from texts x where x.kind = 'A' and x.thing = a.id)
