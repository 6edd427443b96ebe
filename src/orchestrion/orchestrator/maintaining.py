"""Use case ``maintain``: what was left lying is put in order, looked through, written down or handed over.

Levels say how far it goes. ``basic`` only looks (and writes the shortest document);
``comprehensive`` also ends claims of the dead and sessions of the absent, and archives what
nobody takes and what is settled long since; ``full_audit`` forgets what is past its age and
reads every page of the store. A task that a person is to decide about, or that others wait
for, is never touched: it is named, with what is recommended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from orchestrion.core.errors import Conflict, InvalidInput, StoreProblem
from orchestrion.core.model import check_choice, iso, name, number
from orchestrion.core.values import count
from orchestrion.memory import sessions
from orchestrion.memory.roles import load_roles
from orchestrion.ops import documents, leases, maintenance, retention, stale, structure
from orchestrion.ops.maintenance import ACTIONS, LEVELS, SCOPES, Record
from orchestrion.ops.retention import Doers
from orchestrion.ops.stale import Ages, Stale
from orchestrion.orchestrator import documenting, objects, older_copies
from orchestrion.orchestrator.checking import FETCH_WORK, PUT_BACK, HealthCases
from orchestrion.orchestrator.finding import bounded
from orchestrion.orchestrator.remains import dead_runs
from orchestrion.scheduler import decide, finish, meter, reap, slots
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Said of what was looked at without a record.
UNRECORDED = "no record was written of this: the store may only be read here, or its disk is full"
#: One call puts away so many tasks that nobody takes; the next one goes on.
MOST_PUT_AWAY = 50
#: So many things of each kind are named in a report; all are counted.
NAMED = 50
#: Tasks of a session or below a task that are looked at.
_MOST = 100_000


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, understood."""

    action: str
    #: The scope in force, which is the whole project where no session is known.
    scope: str
    level: str
    dry_run: bool
    #: Numbers of the tasks that are meant; None: all.
    only: list[int] | None
    task: str | None
    session: str | None
    #: What the caller should know of how it was understood.
    notes: tuple[str, ...]

    def reaches(self, level: str) -> bool:
        """Whether it goes as far as ``level``."""
        return LEVELS.index(self.level) >= LEVELS.index(level)

    def only_looks(self) -> bool:
        """Whether nothing is changed, but for the record of it."""
        is_scan = self.action == "scan_cleanup" and not self.reaches("comprehensive")
        return self.dry_run or is_scan or self.action == "validate_structure"


class MaintenanceCases(HealthCases):
    """Keeping a project in order."""

    def maintain(
        self,
        action: str = "scan_cleanup",
        *,
        scope: str = "full_project",
        level: str = "basic",
        task: str | None = None,
        session: str | None = None,
        dry_run: bool = False,
        text: str = "",
    ) -> dict[str, Any]:
        """Does one action of maintenance and records it: ``found``, ``done`` (or ``would_do``), ``recommendations``.
        What only looks is done without a record (``id`` is None) where the store may only be read, or its disk is full.

        ``task`` is meant by the scope specific_subtask, with all below it; ``session`` by
        current_session, else the caller's. ``text`` goes into a handover. Raises InvalidInput,
        NotFound, AlreadyTaken (another maintenance is going on).
        """
        wanted = self._understood(action, scope, level, task, session, dry_run)
        acts = {
            "scan_cleanup": self._scan,
            "validate_structure": self._validate,
            "update_documentation": self._document,
            "prepare_handover": lambda one: self._hand_over(one, text),
            "retention": self._retain,
        }
        removed = [] if wanted.only_looks() else self._clear_half_written(wanted)
        with self._alone(wanted):
            found, done, advice = acts[action](wanted)
        done = [*removed, *done]
        record = Record(action, wanted.scope, level, dry_run, found, () if dry_run else done)
        kept = self._recorded(wanted, record)
        return {
            "id": name("M", kept["maintenance"]) if kept else None,
            "at": kept["at"] if kept else iso(self.store.read(lambda tx: tx.the("clock"))["now"]),
            "action": action,
            "scope": wanted.scope,
            "level": level,
            "dry_run": dry_run,
            "task": wanted.task,
            "session": wanted.session,
            "found": found,
            "would_do" if dry_run else "done": done,
            "recommendations": advice,
            "notes": [*wanted.notes, *([] if kept else [UNRECORDED])],
        }

    def _recorded(self, wanted: _Wanted, record: Record) -> dict[str, Any] | None:
        """Number and time of the record; None: it only looked, and nothing can be written to the store."""
        try:
            return self.store.write(lambda tx: maintenance.keep(tx, record))
        except StoreProblem as problem:
            if problem.code not in ("store_read_only", "disk_full") or not wanted.only_looks():
                raise
        return None

    def maintenance_history(self, action: str | None = None, limit: int = 20) -> dict[str, Any]:
        """What maintenance found and did before, the latest first: ``maintenance``."""
        if action is not None:
            check_choice("action", action, ACTIONS)
        bound = bounded(limit)
        rows = self.store.read(lambda tx: maintenance.history(tx, action, bound))
        return {"maintenance": [{**row, "id": name("M", row.pop("maintenance"))} for row in rows]}

    # -- what was asked for ---------------------------------------------------------------------

    def _understood(
        self, action: str, scope: str, level: str, task: str | None, session: str | None, dry_run: bool
    ) -> _Wanted:
        check_choice("action", action, ACTIONS)
        check_choice("scope", scope, SCOPES)
        check_choice("level", level, LEVELS)
        if action == "retention" and (scope != "full_project" or task):
            raise InvalidInput(
                f"retention goes through the whole project, and {task or scope} was asked for",
                hint="leave that out; scan with level comprehensive archives what is old of one task or session",
                code="invalid_scope",
            )
        about = self.task(task).row if task else None
        if scope == "specific_subtask" and about is None:
            raise InvalidInput(
                "the scope specific_subtask needs a task, and none was named",
                hint="name the task that is meant, as T12",
                code="task_missing",
            )
        notes = () if about is None or scope == "specific_subtask" else (f"{task} only counts with specific_subtask",)
        named = self._session_meant(session) if scope == "current_session" else None
        if scope == "current_session" and named is None:
            if action == "scan_cleanup" and level != "basic" and not dry_run:
                raise InvalidInput(
                    "no session is known to which current_session could refer; nothing was cleaned up",
                    hint="choose the scope full_project, or begin a session first",
                    code="no_current_session",
                )
            scope, notes = "full_project", (*notes, "no session is known: the whole project was meant")
        meant = name("T", about["id"]) if about is not None and scope == "specific_subtask" else None
        only = self._tasks_meant(meant, named if scope == "current_session" else None)
        return _Wanted(action, scope, level, dry_run, only, meant, named, notes)

    def _session_meant(self, session: str | None) -> str | None:
        if session is not None:
            return str(self.session_detail(session)["id"])
        known = self.store.read(sessions.current)
        return None if known is None else name("S", known)

    def _tasks_meant(self, task: str | None, session: str | None) -> list[int] | None:
        def read(tx: Transaction) -> list[int] | None:
            if task is not None:
                one = number(task, "T")
                return [one, *(row["id"] for row in tx.all("descendants", id=one))]
            if session is not None:
                return [row["id"] for row in tx.all("tasks_of_session", session=session, limit=_MOST)]
            return None

        return self.store.read(read)

    def _alone(self, wanted: _Wanted) -> AbstractContextManager[None]:
        """What changes much is done by one process at a time. Raises AlreadyTaken."""
        if wanted.only_looks() or wanted.action == "prepare_handover":
            return nullcontext()
        holder = f"{self.store.origin.actor or 'somebody'} ({self.host.process()})"
        return leases.held(self.store, maintenance.LEASE, holder, maintenance.LEASE_S)

    # -- scan and clean up ----------------------------------------------------------------------

    def _scan(self, wanted: _Wanted) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        dead = dead_runs(self)
        ages = Ages(self.config["stale.hours"], self.config["stale.roles"], self.config["stale.parents_h"])
        roles = set(load_roles(self.project.root))

        def look(tx: Transaction) -> tuple[list[Stale], list[Row]]:
            claims = tx.all("overdue_runs", ids=wanted.only, limit=stale.NAMED)
            return stale.find(tx, ages, roles, wanted.only), [row for row in claims if not dead.lives_here(row)]

        left, claims = self.store.read(look)
        whole = wanted.scope == "full_project"
        silent = self._silent_sessions(dry_run=True) if whole else []
        found = {
            "stale": _stale_found(left),
            "expired_claims": [_claim(row) for row in claims[:NAMED]],
            "silent_sessions": silent[:NAMED],
            **({"sizes": retention.sizes(self.store, self.project.store_dir)} if wanted.reaches("full_audit") else {}),
        }
        done = self._clean_up(wanted, left, claims, silent) if wanted.reaches("comprehensive") else []
        advice = _advice(wanted, left, claims, silent)
        if self._sees_half_written(wanted) and wanted.reaches("full_audit"):
            half_written = objects.half_written(self)
            found["half_written"] = half_written.as_json()
            done = [*([half_written.removal()] if wanted.dry_run and half_written.ours else []), *done]
            advice += half_written.advice()
        return found, done, advice

    def _sees_half_written(self, wanted: _Wanted) -> bool:
        return wanted.scope == "full_project" and self.project.git_root is not None

    def _clear_half_written(self, wanted: _Wanted) -> list[dict[str, Any]]:
        """Removes what we left half-written in the repository, before anything is written: it may fill the disk."""
        if wanted.action != "scan_cleanup" or not wanted.reaches("full_audit") or not self._sees_half_written(wanted):
            return []
        gone = objects.removed(self)
        return [gone.removal()] if gone.ours else []

    def _silent_sessions(self, *, dry_run: bool) -> list[str]:
        cleaned = self.clean_up_sessions("orphaned", self.config["stale.sessions_days"], dry_run)
        return list(cleaned["ended"])

    def _clean_up(
        self, wanted: _Wanted, left: Sequence[Stale], claims: Sequence[Row], silent: Sequence[str]
    ) -> list[dict[str, Any]]:
        if not wanted.dry_run:
            self.store.write(reap.bound)
        done = [self._end_claim(row, wanted.dry_run) for row in claims]
        removable = [one for one in left if one.removable]
        done += [self._put_away(one, wanted.dry_run) for one in removable[:MOST_PUT_AWAY]]
        archived = retention.archive(self.store, self.config, DOERS, dry_run=wanted.dry_run, only=wanted.only)
        done += [
            {"did": "archived", "reason": f"{state} long since", "total": len(tasks), "tasks": tasks[:NAMED]}
            for state, tasks in archived.items()
            if tasks
        ]
        if silent and wanted.scope == "full_project":
            ended = silent if wanted.dry_run else self._silent_sessions(dry_run=False)
            done.append({"did": "ended_sessions", "total": len(ended), "sessions": ended[:NAMED]})
        if wanted.scope == "full_project" and wanted.reaches("full_audit"):
            done += self._tidy(wanted)
        return [one for one in done if one]

    def _end_claim(self, row: Row, dry_run: bool) -> dict[str, Any]:
        """The task of a claim whose holder is gone goes back; nothing, if the holder came back meanwhile."""

        def end(tx: Transaction) -> bool:
            still = [one["id"] for one in tx.all("overdue_runs", ids=[row["task"]], limit=1)]
            if row["id"] in still:
                finish.give_up(tx, row["id"], "no sign of life")
            return row["id"] in still

        is_over = None if dry_run else dead_runs(self).recovered(row, "no sign of life")
        ended = dry_run or (self.store.write(end) if is_over is None else is_over)
        return {"did": "ended_claim", "run": name("R", row["id"]), "task": name("T", row["task"])} if ended else {}

    def _put_away(self, one: Stale, dry_run: bool) -> dict[str, Any]:
        """Cancels and archives a task that nobody takes; nothing, if somebody took it meanwhile."""

        def put_away(tx: Transaction) -> bool:
            row = decide.find(tx, one.task)
            if row["state"] != one.state or row["updated_at"] != one.since:
                return False
            decide.cancel(tx, one.task, f"{one.reason}: {one.detail}; put away by maintenance")
            decide.archive(tx, one.task)
            return True

        try:
            gone = dry_run or self.store.write(put_away)
        except Conflict:
            return {}
        return {"did": "archived", "reason": one.reason, "task": name("T", one.task)} if gone else {}

    def _tidy(self, wanted: _Wanted) -> list[dict[str, Any]]:
        """What is past its age goes, and limits and workers are counted anew."""
        record = maintenance.tidy(self.store, self.config, DOERS, self.project.store_dir, dry_run=wanted.dry_run)
        done = [dict(one) for one in record.done if one["did"] != "archived"]
        if wanted.dry_run:
            done = [{"did": "forgot", **record.found["to_forget"]}]
        gone = self._lost_workers()
        if gone and not wanted.dry_run:
            self.store.write(lambda tx: tx.put("remove_workers", ids=gone))
        freed = 0 if wanted.dry_run else self.store.write(slots.recount)
        done += [{"did": "forgot", "what": "workers", "total": len(gone)}] if gone else []
        return done + ([{"did": "freed_limits", "total": freed}] if freed else [])

    def _lost_workers(self) -> list[int]:
        rows = self.store.read(lambda tx: tx.all("workers"))
        return [row["id"] for row in rows if not self._is_there(row)]

    # -- validate -------------------------------------------------------------------------------

    def _validate(self, wanted: _Wanted) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        verdict = structure.examine(self.store, wanted.level, wanted.only)
        lost = [_lost_work(run) for run in self.work_not_here(ids=wanted.only)]
        plans = self._plans_without_work(ids=wanted.only)
        lost += [_lost_tip(plan) for plan in plans.lost]
        behind = [_moved_back(plan) for plan in plans.behind]
        diverged = [structure.Problem(_REF_HAS_IT, one.details["plan"], one.message) for one in plans.diverged]
        unknown = [_unknown_work(said)] if wanted.only is None and (said := older_copies.told(self)) else []
        problems = [*verdict.problems, *lost, *behind, *diverged, *unknown]
        broken = {problem.rule for problem in verdict.problems}
        found: dict[str, Any] = {
            "valid": not problems,
            "rules": [*verdict.rules, _WORK_IS_HERE, _REF_HAS_IT, _STORE_KNOWS],
            "problems_total": len(problems),
            "problems": [problem.as_json() for problem in problems[:NAMED]],
        }
        if verdict.doubts:
            found["doubts"] = verdict.doubts
        advice = self._how_to_mend(verdict) + [FETCH_WORK] * bool(lost) + [PUT_BACK] * bool(behind)
        advice += [str(one.hint) for one in plans.diverged] + [f"do nothing yet: {older_copies.runbook()}"] * bool(
            unknown
        )
        if structure.WHOLE in broken:
            return found, [], advice
        found["tasks"] = len(wanted.only) if wanted.only is not None else self._count_tasks()
        if wanted.reaches("comprehensive") and wanted.only is None and "nothing_waits_in_a_circle" not in broken:
            drawn = self.graph(format="json")
            ends = drawn["dead_ends"] if isinstance(drawn, dict) else {}
            found["dead_ends"] = dict(list(ends.items())[:NAMED])
            found["dead_ends_total"] = len(ends)
            advice += [f"{one} can never run: `orchestrion why {one}`" for one in list(ends)[:5]]
        return found, [], advice

    def _how_to_mend(self, verdict: structure.Verdict) -> list[str]:
        """What no command sets right begins with a copy; only what two looks say is damage."""
        first = f"before anything else: {self.store.how_to_copy}"
        if any(problem.rule == structure.WHOLE for problem in verdict.problems):
            return [first, "then put a whole copy of before in its place, and report what is damaged"]
        mends, is_all = structure.mends(verdict.problems)
        if verdict.problems and not is_all:
            of_rows = (
                "something else than this program changed rows: put there what a copy of before has, and report it"
            )
            return [first, of_rows, *mends]
        if verdict.problems:
            return mends
        if verdict.doubts:
            said = "every row can be read and fits its table, so nothing is lost"
            return [first, f"{said}: {self.store.how_to_reindex} makes the indexes anew"]
        return []

    def _count_tasks(self) -> int:
        return int(self.store.read(lambda tx: tx.the("count_things"))["tasks"])

    # -- document -------------------------------------------------------------------------------

    def _document(self, wanted: _Wanted) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        texts = documenting.documents(self, wanted.level, task=wanted.task, session=wanted.session)
        folder = self.config["maintenance.docs"]
        written = documents.write_all(self.project.root, folder, texts, dry_run=wanted.dry_run)
        found = {
            "folder": folder,
            **{what: len(paths) for what, paths in written.items()},
            "kept_files": written["kept"],
        }
        done = [{"did": what, "file": path} for what in ("created", "updated") for path in written[what]]
        advice = [f"{path} was written or changed by a person and stays as it is" for path in written["kept"][:20]]
        return found, done, advice

    # -- hand over ------------------------------------------------------------------------------

    def _hand_over(self, wanted: _Wanted, text: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        package = documenting.package(self, wanted.level, only=wanted.only, task=wanted.task, session=wanted.session)
        done = [{"did": "left_handoff"}]
        if not wanted.dry_run:
            left = self.handoff(task=wanted.task, session=wanted.session, text=text)
            done = [{"did": "left_handoff", "handoff": left["id"]}]
        return package, done, list(package["next_steps"])

    # -- retention ------------------------------------------------------------------------------

    def _retain(self, wanted: _Wanted) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        record = maintenance.tidy(self.store, self.config, DOERS, self.project.store_dir, dry_run=wanted.dry_run)
        return dict(record.found), [dict(one) for one in record.done], []


#: What maintenance does through the scheduler.
DOERS = Doers(decide.archive, meter.sum_up)


#: The rule that what runs did is in the repository.
_WORK_IS_HERE = "work_is_in_the_repository"
#: The rule that the ref of a plan has the work that was accepted.
_REF_HAS_IT = "plan_refs_have_the_work"
#: The rule that the store knows of what was done here.
_STORE_KNOWS = "the_store_knows_what_was_done"


def _lost_work(run: Row) -> structure.Problem:
    said = f"work of plan {run['plan_name']}, made on {run['host']}: its commit {run['head_commit'][:12]} is not here"
    return structure.Problem(_WORK_IS_HERE, name("R", run["id"]), said)


def _lost_tip(plan: Row) -> structure.Problem:
    said = f"the accepted work of plan {plan['name']} is said to be commit {plan['tip'][:12]}, which is not here"
    return structure.Problem(_WORK_IS_HERE, plan["name"], said)


def _moved_back(plan: Row) -> structure.Problem:
    said = f"the ref of plan {plan['name']} lacks the accepted work, which is here: commit {plan['tip'][:12]}"
    return structure.Problem(_REF_HAS_IT, plan["name"], said)


def _unknown_work(said: str) -> structure.Problem:
    return structure.Problem(_STORE_KNOWS, "", said)


def _stale_found(left: Sequence[Stale]) -> dict[str, Any]:
    return {
        "total": len(left),
        "by_reason": dict(Counter(one.reason for one in left)),
        "tasks": [one.as_json() for one in left[:NAMED]],
    }


def _claim(row: Row) -> dict[str, Any]:
    return {
        "run": name("R", row["id"]),
        "task": name("T", row["task"]),
        "actor": row["actor"],
        "last_sign_of_life": iso(row["lease_until"] - row["lease_ms"]),
    }


def _advice(wanted: _Wanted, left: Sequence[Stale], claims: Sequence[Row], silent: Sequence[str]) -> list[str]:
    """What to do about what was found and not done."""
    does = wanted.reaches("comprehensive") and not wanted.dry_run
    said = [
        f"{name('T', one.task)} ({one.title[:60]}): {stale.ADVICE[one.reason]}, {one.detail}"
        for one in left
        if not (does and one.removable)
    ][:20]
    removable = sum(one.removable for one in left)
    if not wanted.reaches("comprehensive") and (removable or claims or silent):
        what = f"{count(removable, 'task')}, {count(len(claims), 'claim')} and {count(len(silent), 'session')}"
        said.append(f"the level comprehensive would clean up {what}")
    if does and removable > MOST_PUT_AWAY:
        said.append(f"{removable - MOST_PUT_AWAY} more stale tasks are left for the next call")
    return said
