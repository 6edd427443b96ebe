-- name: searched
-- Up to which line of the journal the texts of tasks and artifacts can be found.
select searched from projects where id = :project {for_update}

-- name: tasks_told_of
-- Tasks of which the next lines of the journal tell, each with its last line.
select w.task as id, max(w.id) as last from (select id, task, project from events where id > :since order by id
    limit :limit) w
where w.project = :project and w.task is not null group by w.task

-- name: lines_told
-- Where those lines end, how many they are, and where they are settled: no line can appear any more before that one.
-- SQLite commits in the order of its numbers.
select count(*) as total, max(w.id) as last, max(w.id) as settled
from (select id, at from events where id > :since order by id limit :limit) w

-- name: note_searched
-- So far the texts can be found now.
update projects set searched = :line where id = :project

-- name: texts_of_tasks
-- What can be found of tasks.
select id, title, substr(description, 1, :most) as description, substr(summary, 1, :most) as summary,
    substr(result, 1, :most) as result
from tasks where id in {ids[]} and project = :project

-- name: artifacts_to_find
-- Artifacts of tasks that cannot be found yet.
select a.id, a.name, substr(a.content, 1, :most) as content from artifacts a
where a.task in {ids[]} and a.project = :project
  and not exists (select 1 from texts x where x.kind = 'A' and x.thing = a.id)

-- name: forget_texts
-- What could be found of these things so far.
delete from texts where kind = :kind and thing in {ids[]} and project = :project

-- name: texts_known
-- What can be found of these things so far.
select thing, title, words from texts where kind = :kind and thing in {ids[]} and project = :project

-- name: add_texts
-- Things can be found by these words; all in one statement, for PostgreSQL takes its time for each.
insert into texts (project, kind, thing, title, words)
select :project, json_extract(value, '$.kind'), json_extract(value, '$.thing'), json_extract(value, '$.title'),
    json_extract(value, '$.words')
from json_each(:rows)

-- name: find_texts
-- Things in which all of the words, or words that begin so, occur; those that fit best first.
select t.kind, t.thing, t.title from texts_found join texts t on t.id = texts_found.rowid
where texts_found match (select group_concat('"' || value || '"*', ' ') from {words[text]}) and t.project = :project
  and t.kind in {kinds[text]}  --? kinds
order by bm25(texts_found, 4.0, 1.0), t.id desc limit :limit

-- name: related_decisions
-- Decisions in which some of the words occur, or words that begin so; those that fit best first.
select t.thing from decisions_found join texts t on t.id = decisions_found.rowid
where decisions_found match (select group_concat('"' || value || '"*', ' OR ') from {words[text]})
  and t.project = :project
order by bm25(decisions_found, 4.0, 1.0), t.id desc limit :limit

-- name: excerpt_of_decision
-- What a found decision says.
select number, title, status as state, decision as said from decisions where id = :id

-- name: excerpt_of_task
-- What a found task says.
select title, state, substr(coalesce(summary, description), 1, 4000) as said from tasks where id = :id

-- name: excerpt_of_handoff
-- What a found handoff says.
select 'handoff of ' || actor as title, null as state, substr(text, 1, cast(said as integer)) as said from handoffs where id = :id

-- name: excerpt_of_artifact
-- What a found artifact says.
select name as title, task, null as state, substr(content, 1, 100000) as said from artifacts where id = :id
