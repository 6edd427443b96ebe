-- The first schema. SQLite and PostgreSQL have the same tables under the same numbers;
-- a test migrates both and compares. Times are integer milliseconds since 1970 (UTC),
-- booleans are 0 or 1, lists and objects are JSON text.

create table meta (
    key   text primary key,
    value text not null
) strict;

create table projects (
    id         integer primary key autoincrement,
    name       text not null unique,
    paused_at  integer,
    searched   integer not null default 0,
    traced     integer,                    -- up to this line of the journal spans were sent
    created_at integer not null
) strict;

create table plans (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    name       text not null,
    title      text not null default '',
    merge_run  integer,                       -- the run that holds the merge queue
    created_at integer not null,
    unique (project, name)
) strict;

-- A lane is everything about a task for which a claim may pass it over: its role, its agent, what
-- it needs, and whether it has a command. There are few lanes, so the best ready task is the best
-- of the lanes' heads.
create table lanes (
    id      integer primary key autoincrement,
    project integer not null references projects (id),
    role    text not null default '',
    agent   text not null default '',
    needs   text not null default '[]',
    command integer not null default 0 check (command in (0, 1)),
    unique (project, role, agent, needs, command)
) strict;

create table tasks (
    id            integer primary key autoincrement,
    project       integer not null references projects (id),
    plan          integer not null references plans (id),
    lane          integer not null references lanes (id),
    parent        integer references tasks (id),
    state         text not null default 'pending' check (state in
        ('pending', 'ready', 'in_progress', 'retrying', 'blocked', 'review', 'completed', 'failed', 'cancelled')),
    run           integer references runs (id),
    unmet         integer not null default 0 check (unmet >= 0),
    dead          integer not null default 0 check (dead between 0 and unmet),
    held          integer not null default 0 check (held between 0 and unmet),
    children      integer not null default 0 check (children >= 0),
    priority      integer not null default 5 check (priority between 1 and 10),
    urgent        integer not null default 0 check (urgent in (0, 1)),
    rank          integer not null default 0,
    ready_at      integer,
    retry_at      integer,
    due_at        integer,
    retries       integer not null default 0,
    attempts      integer not null default 0,
    max_retries   integer not null default 3 check (max_retries >= 0),
    retry_delay_s real not null default 60 check (retry_delay_s >= 0),
    timeout_s     real check (timeout_s > 0),
    key           text,
    title         text not null check (length(title) between 1 and 255),
    description   text not null default '',
    type          text not null default 'standard',
    complexity    text not null default 'moderate',
    effort_min    real check (effort_min >= 0),
    command       text,
    checks        text not null default '[]',
    setup         text,
    merge         text not null default 'auto' check (merge in ('auto', 'none')),
    tags          text not null default '[]',
    context       text not null default '{}',
    metadata      text not null default '{}',
    code          text,
    reason        text,
    error         text,
    feedback      text,                       -- what a person said of the last attempt, for the next brief
    summary       text,
    result        text,
    work_run      integer,                    -- the run whose work the task's result is
    session       text,                       -- the agent's session that the next attempt goes on with
    correlation   text,                       -- the request that made it, or decided about it last
    created_at    integer not null,
    updated_at    integer not null,
    started_at    integer,
    completed_at  integer,
    archived_at   integer,
    check ((state = 'in_progress') = (run is not null)),
    check (state <> 'retrying' or retry_at is not null)
) strict;

create unique index tasks_by_key on tasks (plan, key) where key is not null;
create index tasks_to_claim on tasks (lane, rank, id) where state = 'ready';
create index tasks_to_promote on tasks (due_at) where state = 'ready' and urgent = 0 and due_at is not null;
create index tasks_to_retry on tasks (retry_at) where state = 'retrying';
create index tasks_that_need_you on tasks (project, id) where state in ('blocked', 'review', 'failed');
create index tasks_by_plan on tasks (plan, id);
create index tasks_by_parent on tasks (parent) where parent is not null;

-- The columns stand as in the key: else older releases of SQLite call every row damaged when they are asked.
create table tags (
    tag  text not null,
    task integer not null references tasks (id) on delete cascade,
    primary key (tag, task)
) strict, without rowid;

create table gates (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    task       integer not null references tasks (id) on delete cascade,
    kind       text not null check (kind in ('time', 'approval', 'question', 'external')),
    state      text not null default 'open' check (state in ('open', 'met', 'dead')),
    name       text not null default '',
    opens_at   integer,
    answer     text,
    decided_by text,
    decided_at integer,
    created_at integer not null,
    check ((kind = 'time') = (opens_at is not null))
) strict;

create index gates_to_open on gates (opens_at) where state = 'open' and kind = 'time';
create index gates_by_task on gates (task);

-- The only way a task waits. `heir_of` is the task whose dependency this is: the task itself,
-- or an ancestor from which it is inherited.
create table edges (
    id           integer primary key autoincrement,
    task         integer not null references tasks (id) on delete cascade,
    prerequisite integer references tasks (id),
    gate         integer references gates (id) on delete cascade,
    kind         text not null check (kind in
        ('blocks', 'data', 'soft', 'on_failure', 'child', 'time', 'approval', 'question', 'external')),
    state        text not null default 'open' check (state in ('open', 'met', 'dead', 'waived')),
    heir_of      integer not null references tasks (id) on delete cascade,
    reason       text,
    created_at   integer not null,
    check ((prerequisite is null) <> (gate is null)),
    check ((gate is not null) = (kind in ('time', 'approval', 'question', 'external'))),
    check (prerequisite is null or prerequisite <> task)
) strict;

create unique index edges_once on edges (task, prerequisite, kind, heir_of);
create unique index edges_gate_once on edges (task, gate, heir_of) where gate is not null;
create index edges_by_prerequisite on edges (prerequisite) where prerequisite is not null;
create index edges_by_gate on edges (gate) where gate is not null;

-- Runs and events are numbered upwards by their largest number, which is never deleted.
create table runs (
    id            integer primary key,
    project       integer not null references projects (id),
    task          integer not null references tasks (id),
    attempt       integer not null,
    state         text not null default 'starting' check (state in
        ('starting', 'running', 'succeeded', 'failed', 'timed_out', 'killed', 'lost')),
    phase         text not null default 'preparing' check (phase in ('preparing', 'working', 'checking', 'merging')),
    supervised    integer not null check (supervised in (0, 1)),
    agent         text not null default '',
    role          text not null default '',
    actor         text not null default '',
    host          text not null default '',
    worker_pid    integer,
    worker_start  real,
    pid           integer,
    pid_start     real,
    lease_ms      integer not null check (lease_ms > 0),
    lease_until   integer not null,
    code          text,
    reason        text,
    workspace     text,
    branch        text,
    base_commit   text,
    head_commit   text,
    session_id    text,
    next_action   text,
    summary       text,
    queued_at     integer,
    claimed_at    integer not null,
    started_at    integer,
    ended_at      integer,
    turns         integer check (turns >= 0),
    tokens_input       integer check (tokens_input >= 0),
    tokens_output      integer check (tokens_output >= 0),
    tokens_cache_read  integer check (tokens_cache_read >= 0),
    tokens_cache_write integer check (tokens_cache_write >= 0),
    cost_usd      real check (cost_usd >= 0),
    model         text,
    tools         text not null default '{}',   -- tool -> how often it was called
    files_changed integer check (files_changed >= 0),
    lines_added   integer check (lines_added >= 0),
    lines_removed integer check (lines_removed >= 0),
    exit_code     integer,
    sealed_at     integer,                    -- since then its work goes into the plan
    unswept       integer not null default 0,  -- somebody else ended it; what it left is to be seen to
    check ((ended_at is null) = (state in ('starting', 'running')))
) strict;

create unique index runs_one_active on runs (task) where state in ('starting', 'running');
create index runs_unswept on runs (host) where unswept = 1;
create index runs_by_task on runs (task, id);
create index runs_by_session on runs (session_id) where session_id is not null;

-- What runs used, as it became known. Each row is a difference; what `runs` says of a run is the sum of its rows.
create table metrics (
    id          integer primary key,
    project     integer not null references projects (id),
    plan        integer not null references plans (id),
    run         integer not null references runs (id) on delete cascade,
    at          integer not null,
    source      text not null check (source in ('stream', 'log', 'correction', 'sum')),
    once        text,                         -- names the news: told again, they are not counted again
    session_id  text,
    model       text,
    turns       integer not null default 0,
    tokens_input       integer not null default 0,
    tokens_output      integer not null default 0,
    tokens_cache_read  integer not null default 0,
    tokens_cache_write integer not null default 0,
    cost_usd    real,                         -- null: unknown
    tools       text not null default '{}',
    field       text,                         -- what somebody corrected
    old_value   text,
    new_value   text,
    actor       text not null default '',
    reason      text,
    check (field is null or (source = 'correction' and reason is not null))
) strict;

create unique index metrics_once on metrics (run, once) where once is not null;
create index metrics_by_run on metrics (run, id);
create index metrics_by_session on metrics (session_id) where session_id is not null;
create index metrics_paid on metrics (project, at, cost_usd) where cost_usd <> 0;
create index metrics_paid_by_plan on metrics (project, plan, cost_usd) where cost_usd <> 0;

create table slots (
    project integer not null references projects (id),
    name    text not null,
    capacity integer not null check (capacity >= 0),
    used    integer not null default 0 check (used >= 0),
    primary key (project, name)
) strict, without rowid;

create table holds (
    run     integer not null references runs (id),
    project integer not null,
    slot    text not null,
    primary key (run, slot),
    foreign key (project, slot) references slots (project, name)
) strict, without rowid;

create index holds_by_slot on holds (project, slot);

-- Agents that have failed by themselves lately. `until`: no claim uses the agent before.
create table breakers (
    project  integer not null references projects (id),
    agent    text not null,
    failures integer not null default 0 check (failures >= 0),
    until    integer,
    code     text,
    trips    integer not null default 0 check (trips >= 0),
    probe    integer,
    primary key (project, agent)
) strict, without rowid;

create table messages (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    run        integer not null references runs (id) on delete cascade,
    text       text not null check (length(text) > 0),
    actor      text not null default '',
    state      text not null default 'waiting' check (state in ('waiting', 'given', 'dropped')),
    how        text check (how in ('while_running', 'next_turn')),
    created_at integer not null,
    given_at   integer,
    check ((state = 'given') = (how is not null))
) strict;

create index messages_by_run on messages (run, state);

-- Files that runs have changed until now, as their supervisors saw it last.
create table changes (
    run           integer not null references runs (id) on delete cascade,
    path          text not null,
    kind          text not null check (kind in ('created', 'modified', 'deleted', 'moved', 'copied')),
    lines_added   integer,
    lines_removed integer,
    seen_at       integer not null,
    primary key (run, path)
) strict, without rowid;

create index changes_by_path on changes (path);

-- Which run was told which other run is at the same file: each is told once.
create table meetings (
    run     integer not null references runs (id) on delete cascade,
    other   integer not null references runs (id) on delete cascade,
    path    text not null,
    seen_at integer not null,
    primary key (run, other, path)
) strict, without rowid;

create index meetings_by_other on meetings (other);

create table checks (
    id          integer primary key autoincrement,
    run         integer not null references runs (id),
    stage       text not null check (stage in ('check', 'merge', 'done', 'land', 'setup')),
    go          integer not null,
    command     text not null,
    exit_code   integer,
    output      text not null,
    log         text,
    at          integer not null,
    duration_ms integer not null check (duration_ms >= 0)
) strict;

create index checks_by_run on checks (run);

create table artifacts (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    task       integer not null references tasks (id) on delete cascade,
    run        integer references runs (id),
    name       text not null,
    version    integer not null,
    type       text not null default 'general',
    content    text not null,
    size       integer not null,
    sha256     text not null,
    created_at integer not null,
    unique (task, name, version)
) strict;

create table events (
    id          integer primary key,
    project     integer not null,
    at          integer not null,
    kind        text not null,
    task        integer,
    run         integer,
    from_state  text,
    to_state    text,
    actor       text not null default '',
    session     text,
    correlation text,
    data        text
) strict;

create index events_by_session on events (session, id) where session is not null;

-- One sitting of a client: of an agent or a person. `external` is what the client itself calls it.
create table sessions (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    name       text not null default '',
    client     text not null default '',
    external   text,
    folder     text not null default '',
    state      text not null default 'active' check (state in ('active', 'ended')),
    started_at integer not null,
    seen_at    integer not null,
    ended_at   integer,
    summary    text,
    unique (project, external),
    check ((state = 'ended') = (ended_at is not null))
) strict;

create index sessions_by_use on sessions (project, seen_at);

-- What was decided, and why. `replaces` is the earlier decision that this one changes, `relation` says how.
create table decisions (
    id           integer primary key autoincrement,
    project      integer not null references projects (id),
    number       integer not null check (number > 0),
    title        text not null check (length(title) between 1 and 255),
    status       text not null check (status in ('proposed', 'accepted', 'implemented', 'superseded', 'rejected')),
    category     text not null default '',
    impact       text not null default '' check (impact in ('', 'low', 'medium', 'high', 'critical')),
    context      text not null default '',
    decision     text not null default '',
    rationale    text not null default '',
    alternatives text not null default '[]',
    files        text not null default '[]',
    components   text not null default '[]',
    trade_offs   text not null default '[]',
    risks        text not null default '[]',
    criteria     text not null default '[]',
    task         integer references tasks (id) on delete set null,
    run          integer references runs (id) on delete set null,
    session      integer references sessions (id) on delete set null,
    actor        text not null default '',
    replaces     integer references decisions (id),
    relation     text check (relation in ('supersedes', 'refines', 'reverses')),
    was          text,                      -- its status before another decision took its place
    created_at   integer not null,
    updated_at   integer not null,
    unique (project, number),
    check ((replaces is null) = (relation is null)),
    check (replaces is null or replaces < id),
    check ((status = 'superseded') = (was is not null))
) strict;

create index decisions_by_task on decisions (task) where task is not null;
create index decisions_by_session on decisions (session) where session is not null;
create index decisions_by_replaced on decisions (replaces) where replaces is not null;

-- What became of a file: one row for each path of a run, else of a task, else of a session. `head` is the commit that
-- has it; null: it is in the project's folder. `checked_at` is when the row was last held against what is there.
create table files (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    task       integer references tasks (id) on delete cascade,
    run        integer references runs (id) on delete cascade,
    session    integer references sessions (id) on delete set null,
    op         text not null check (op in ('created', 'modified', 'deleted', 'moved', 'copied')),
    path       text not null check (length(path) > 0),
    old_path   text,
    sha256     text,
    size       integer check (size >= 0),
    mode       text,
    head       text,
    source     text not null check (source in ('git', 'reported', 'hook')),
    status     text not null default 'pending' check (status in ('pending', 'verified', 'partial', 'failed')),
    detail     text,
    seen_at    integer not null,
    checked_at integer,
    check (op not in ('moved', 'copied') or old_path is not null),
    check (source <> 'git' or head is not null)
) strict;

create unique index files_of_run on files (run, path) where run is not null;
create unique index files_of_task on files (task, path) where run is null and task is not null;
create unique index files_of_session on files (session, path) where run is null and task is null;
create index files_by_task on files (task, id) where task is not null;
create index files_by_session on files (session, id) where session is not null;
create index files_by_path on files (project, path);

-- What a session leaves for the next one. `tag` is the work stream it is about; the first `said` characters are what
-- it said itself.
create table handoffs (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    task       integer references tasks (id) on delete cascade,
    session    integer references sessions (id) on delete set null,
    tag        text,
    text       text not null check (length(text) > 0),
    said       integer not null check (said >= 0),
    actor      text not null default '',
    created_at integer not null
) strict;

create index handoffs_by_project on handoffs (project, id);

-- What maintenance found and did.
create table maintenance (
    id      integer primary key autoincrement,
    project integer not null references projects (id),
    action  text not null,
    scope   text not null default '',
    level   text not null default '',
    dry_run integer not null check (dry_run in (0, 1)),
    found   text not null default '{}',
    done    text not null default '[]',
    actor   text not null default '',
    at      integer not null
) strict;

create index maintenance_by_project on maintenance (project, id);

-- Workers that are there, as they said last. Whether one of this machine lives is asked of its process.
create table workers (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    host       text not null,
    pid        integer not null,
    pid_start  real not null,
    slots      integer not null,
    agent      text,
    started_at integer not null,
    seen_at    integer not null,
    unique (project, host, pid)
) strict;

-- What one process at a time may do. `until` is when another may have it, whoever `holder` is.
create table leases (
    project integer not null references projects (id),
    name    text not null,
    holder  text not null,
    until   integer not null,
    primary key (project, name)
) strict, without rowid;

-- Keys to the server. Only a token's hash is kept; `used_at` is written now and then.
create table tokens (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    name       text not null check (length(name) > 0),
    role       text not null check (role in ('read', 'operate', 'admin')),
    hash       text not null unique,
    actor      text not null default '',
    created_at integer not null,
    expires_at integer,
    revoked_at integer,
    used_at    integer
) strict;

create unique index tokens_by_name on tokens (project, name) where revoked_at is null;

-- Requests that may be sent again without being done again, by the key that their sender gave them. `holder` is the
-- process that does it; without `status` it has no answer yet.
create table requests (
    project     integer not null references projects (id),
    actor       text not null,
    label       text not null,
    fingerprint text not null,
    holder      text not null,
    correlation text not null,
    status      integer,
    media       text not null default '',
    body        text not null default '',
    at          integer not null,
    primary key (project, actor, label)
) strict, without rowid;

create index requests_by_age on requests (project, at);

-- What asked for attention: a rule, and the thing it is about. Without `closed_at` it still does.
create table alerts (
    id        integer primary key autoincrement,
    project   integer not null references projects (id),
    rule      text not null,
    subject   text not null,
    said      text not null,
    opened_at integer not null,
    seen_at   integer not null,
    closed_at integer,
    told      text not null default '[]',
    check (closed_at is null or closed_at >= opened_at)
) strict;

create unique index alerts_open on alerts (project, rule, subject) where closed_at is null;
create index alerts_by_project on alerts (project, id);

-- What an agent asked for and was not allowed. `rule` is what would allow it, for the task's next attempts; without one
-- it cannot be allowed by itself. Asked again by a later run it is the same.
create table permissions (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    task       integer not null references tasks (id),
    run        integer not null references runs (id),
    tool       text not null,
    said       text not null,
    rule       text,
    state      text not null default 'open' check (state in ('open', 'allowed', 'refused')),
    asked_at   integer not null,
    decided_at integer,
    decided_by text,
    unique (task, tool, said),
    check ((state = 'open') = (decided_at is null)),
    check (state <> 'allowed' or rule is not null)
) strict;

create index permissions_open on permissions (project, id) where state = 'open';

-- What full-text search looks into: the words of a decision (D), a task (T) or an artifact (A), in lower case. Tasks and
-- artifacts come here when somebody searches; `projects.searched` is the line of the journal up to which they did.
create table texts (
    id      integer primary key autoincrement,
    project integer not null references projects (id),
    kind    text not null check (kind in ('D', 'T', 'A')),
    thing   integer not null,
    title   text not null,
    words   text not null,
    unique (kind, thing)
) strict;

create virtual table texts_found using fts5 (title, words, content = 'texts', content_rowid = 'id');

-- Decisions alone: a brief looks for them, and a word that thousands of tasks have must cost it nothing.
create virtual table decisions_found using fts5 (title, words, content = 'texts', content_rowid = 'id');

create trigger texts_added after insert on texts begin
    insert into texts_found (rowid, title, words) values (new.id, new.title, new.words);
    insert into decisions_found (rowid, title, words) select new.id, new.title, new.words where new.kind = 'D';
end;

create trigger texts_gone after delete on texts begin
    insert into texts_found (texts_found, rowid, title, words) values ('delete', old.id, old.title, old.words);
    insert into decisions_found (decisions_found, rowid, title, words)
    select 'delete', old.id, old.title, old.words where old.kind = 'D';
end;


-- What follows is what the database refuses by itself, whoever writes.

create trigger tasks_birth before insert on tasks begin
    select raise(abort, 'illegal_move: a task is born pending or completed')
        where new.state not in ('pending', 'completed');
    select raise(abort, 'illegal_move: a task is never replaced')
        where exists (select 1 from tasks where id = new.id)
           or (new.key is not null and exists (select 1 from tasks where plan = new.plan and key = new.key));
end;

create trigger tasks_move before update of state on tasks
when old.state <> new.state and instr(
    ' pending>ready pending>blocked pending>completed pending>cancelled ready>in_progress' ||
    ' ready>pending ready>blocked ready>cancelled in_progress>completed in_progress>review' ||
    ' in_progress>retrying in_progress>failed in_progress>pending in_progress>cancelled' ||
    ' retrying>pending retrying>failed retrying>cancelled blocked>pending blocked>cancelled' ||
    ' blocked>failed review>completed review>pending review>failed review>cancelled' ||
    ' failed>pending failed>cancelled completed>pending ',
    ' ' || old.state || '>' || new.state || ' ') = 0
begin
    select raise(abort, 'illegal_move: the transition table has no such move of a task');
end;

create trigger tasks_held before update of state, run on tasks
when new.run is not null and new.run is not old.run and not exists
    (select 1 from runs where id = new.run and task = new.id and state in ('starting', 'running'))
begin
    select raise(abort, 'illegal_move: a task is held only by an active run of its own');
end;

create trigger tasks_identity before update of id, project, plan, key on tasks
when old.id <> new.id or old.project <> new.project
     or (new.key is not null and (new.key is not old.key or new.plan <> old.plan)
         and exists (select 1 from tasks where plan = new.plan and key = new.key and id <> old.id))
begin
    select raise(abort, 'illegal_move: a task keeps its identity and takes nobody else''s');
end;

create trigger tasks_end before delete on tasks when old.state = 'in_progress' begin
    select raise(abort, 'illegal_move: a task in progress cannot be deleted');
end;

create trigger runs_birth before insert on runs begin
    select raise(abort, 'illegal_move: a run is born starting, a client''s run running')
        where new.state <> case new.supervised when 1 then 'starting' else 'running' end;
    select raise(abort, 'illegal_move: a run is never replaced')
        where exists (select 1 from runs where id = new.id)
           or exists (select 1 from runs where task = new.task and state in ('starting', 'running'));
end;

create trigger runs_move before update of state on runs
when old.state <> new.state and instr(
    ' starting>running starting>failed starting>killed starting>lost running>succeeded' ||
    ' running>failed running>timed_out running>killed running>lost ',
    ' ' || old.state || '>' || new.state || ' ') = 0
begin
    select raise(abort, 'illegal_move: the transition table has no such move of a run');
end;

create trigger runs_identity before update of id, task, project on runs
when old.id <> new.id or old.task <> new.task or old.project <> new.project
begin
    select raise(abort, 'illegal_move: a run keeps its identity');
end;

create trigger runs_end before delete on runs
when old.state in ('starting', 'running') or old.id = (select max(id) from runs) begin
    select raise(abort, 'illegal_move: an active run, or the newest, cannot be deleted');
end;

create trigger metrics_append_only before update on metrics begin
    select raise(abort, 'illegal_move: what a run used is append-only');
end;

create trigger metrics_end before delete on metrics
when exists (select 1 from runs where id = old.run) and (old.source not in ('stream', 'log')
    or not exists (select 1 from metrics where run = old.run and source = 'sum' and id > old.id)) begin
    select raise(abort, 'illegal_move: what a run used is kept as long as the run, or as a sum');
end;

create trigger metrics_birth before insert on metrics
when exists (select 1 from metrics where id = new.id) or exists
    (select 1 from metrics where run = new.run and once = new.once) begin
    select raise(abort, 'illegal_move: what a run used is append-only');
end;

create trigger events_append_only before update on events begin
    select raise(abort, 'illegal_move: the journal is append-only');
end;

create trigger events_birth before insert on events when exists (select 1 from events where id = new.id) begin
    select raise(abort, 'illegal_move: the journal is append-only');
end;

-- A task's counters change with its edge rows and with nothing else.

create trigger edges_birth before insert on edges begin
    select raise(abort, 'illegal_move: an edge is never replaced')
        where exists (select 1 from edges where id = new.id)
           or exists (select 1 from edges where task = new.task and prerequisite = new.prerequisite
                          and kind = new.kind and heir_of = new.heir_of)
           or exists (select 1 from edges where task = new.task and gate = new.gate and heir_of = new.heir_of);
end;

create trigger edges_identity before update of id, task, prerequisite, gate, kind, heir_of on edges begin
    select raise(abort, 'illegal_move: an edge keeps its ends');
end;

create trigger edges_added after insert on edges begin
    update tasks set
        unmet = unmet + (new.state in ('open', 'dead')),
        dead = dead + (new.state = 'dead'),
        held = held + (new.state = 'open' and new.kind in ('approval', 'question')),
        children = children + (new.kind = 'child')
    where id = new.task;
end;

-- By far the most frequent change, written so that it costs least.
create trigger edges_met after update of state on edges
when old.state = 'open' and new.state = 'met' and new.gate is null begin
    update tasks set unmet = unmet - 1 where id = new.task;
end;

create trigger edges_changed after update of state on edges
when old.state <> new.state and not (old.state = 'open' and new.state = 'met' and new.gate is null) begin
    update tasks set
        unmet = unmet + (new.state in ('open', 'dead')) - (old.state in ('open', 'dead')),
        dead = dead + (new.state = 'dead') - (old.state = 'dead'),
        held = held + (new.kind in ('approval', 'question')) * ((new.state = 'open') - (old.state = 'open'))
    where id = new.task;
end;

create trigger edges_removed after delete on edges begin
    update tasks set
        unmet = unmet - (old.state in ('open', 'dead')),
        dead = dead - (old.state = 'dead'),
        held = held - (old.state = 'open' and old.kind in ('approval', 'question')),
        children = children - (old.kind = 'child')
    where id = old.task;
end;

-- A slot's use is the number of its holds.

create trigger holds_birth before insert on holds
when exists (select 1 from holds where run = new.run and slot = new.slot) begin
    select raise(abort, 'illegal_move: a hold is never replaced');
end;

create trigger holds_added after insert on holds begin
    update slots set used = used + 1 where project = new.project and name = new.slot;
end;

create trigger holds_removed after delete on holds begin
    update slots set used = used - 1 where project = old.project and name = old.slot;
end;
