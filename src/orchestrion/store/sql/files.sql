-- name: forget_files_of_run
-- All that was recorded of a run's files: it is recorded anew.
delete from files where run = :run

-- name: add_git_file
-- A file that a run changed, as git has it.
insert into files (project, task, run, op, path, old_path, sha256, size, mode, head, source, seen_at)
select r.project, r.task, r.id, :op, :path, :old_path, :sha256, cast(:size as bigint), :mode, :head, 'git', {now}
from runs r where r.id = :run

-- name: file_of_run
-- What is recorded of a path: of the run, else of the task, else of the session.
select * from files where path = :path
  and run = :run  --? run
  and run is null and task = :task  --? task
  and run is null and task is null and session = :session  --? session

-- name: add_file
-- A file that somebody says was changed.
insert into files (project, task, run, session, op, path, old_path, sha256, size, mode, source, status, detail, seen_at,
    checked_at)
values (:project, :task, :run, :session, :op, :path, :old_path, :sha256, :size, :mode, :source, :status, :detail,
    {now}, {now})

-- name: forget_file
-- What was recorded of one path; it is recorded anew, or was undone.
delete from files where id = :id

-- name: list_files
-- What is recorded of files, in order; with the plan and the run's state.
select f.*, p.name as plan_name, t.work_run from files f left join tasks t on t.id = f.task left join plans p on p.id = t.plan
where f.project = :project
  and f.task = :task  --? task
  and f.run = :run  --? run
  and f.session = :session  --? session
  and f.task in (select g.task from tags g where g.tag = :tag)  --? tag
order by f.id limit :limit

-- name: count_files
-- How many files of a task or session were changed in each way.
select f.op, f.status, count(*) as total from files f where f.project = :project
  and f.task = :task  --? task
  and f.session = :session  --? session
group by f.op, f.status

-- name: others_at_path
-- Who else is recorded to have changed a path, other than one row's run: their content, their commit, and whether later.
select f.id, f.task, f.run, f.op, f.path, f.sha256, f.mode, f.head from files f
where f.project = :project and f.id <> :id and (f.path = :path or f.old_path = :path)
  and (f.run is null or f.run <> coalesce(cast(:run as bigint), 0))
order by f.id desc limit 50

-- name: files_at
-- What was done last to each of some paths, other than by one task.
select f.path, f.op, f.task, f.session from files f where f.project = :project and f.path in {paths[text]}
  and (f.task <> :task or f.task is null and f.session is not null)
  and not exists (select 1 from files n where n.project = f.project and n.path = f.path and n.id > f.id
      and (n.task <> :task or n.task is null and n.session is not null))
order by f.path

-- name: file_is_checked
-- What came of holding a row against what is there.
update files set status = :status, detail = :detail, checked_at = {now} where id = :id
