-- A project is known by an id, not by its folder's name; a plan remembers where it began, where it is and
-- where it was landed; a run, what a person should know of its result.
-- serves programs from: 1

alter table projects add column uid text;
create unique index projects_by_uid on projects (uid) where uid is not null;

alter table plans add column began_branch text;      -- short name of the branch; null: a detached HEAD, or unknown
alter table plans add column began_commit text;      -- null: not known yet
alter table plans add column began_checkout text;    -- folder of the checkout; null: unknown
alter table plans add column tip text;               -- commit of the accepted work, written with each merge
alter table plans add column landed_branch text;
alter table plans add column landed_commit text;     -- up to which commit of the plan
alter table plans add column landed_at bigint;
alter table plans add column pull_request text;      -- address of the pull request that was opened for it

alter table runs add column remarks text not null default '[]';   -- JSON: what became of the work, beside its commits
