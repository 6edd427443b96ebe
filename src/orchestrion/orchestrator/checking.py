"""Use case ``health``: how well everything is, what waits and for what, and what is stuck."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orchestrion.core.errors import Conflict, GitProblem, NotFound, OrchestrionError, StoreProblem
from orchestrion.core.model import iso, name
from orchestrion.core.states import Phase
from orchestrion.core.values import count, is_plan_name
from orchestrion.ops import health
from orchestrion.ops.health import DEGRADED, HEALTHY, UNHEALTHY, Part
from orchestrion.orchestrator import older_copies, standing
from orchestrion.orchestrator.clients import ClientCases
from orchestrion.orchestrator.finding import plan_named
from orchestrion.orchestrator.judging import ODD, of_odd_row
from orchestrion.scheduler import breaker, clones, slots
from orchestrion.scheduler.clones import UNKNOWN
from orchestrion.store import Transaction
from orchestrion.store.store import Row

Result = TypeVar("Result")
Other = TypeVar("Other")

#: So many runs and waiting tasks are named; all are counted.
NAMED = 50
#: An agent that wrote nothing for so long is called silent, if no setting says another time, in seconds.
SILENT_S = 300.0
#: A worker of another machine that was not heard for so long is not counted as there, in milliseconds.
HEARD_MS = 90_000
#: The commits of so many runs, the newest, are looked for.
LOOKED_AT = 200
#: What to do about commits that are not here.
FETCH_WORK = (
    "fetch what is missing from the clone that has it, or a backup: "
    "`git fetch PLACE 'refs/orchestrion/*:refs/orchestrion/fetched/*'`"
)
#: What to do about plans whose refs lack what the store knows of.
PUT_BACK = "nothing is lost: the next run of the plan, or `orchestrion land PLAN`, puts it back"
#: A run that was claimed and not launched within this time will never be, in milliseconds.
LAUNCH_MS = 60_000


class _Tips(NamedTuple):
    """Plans whose refs lack accepted work: it is not here; the refs only are behind; or they have other work, and
    this is why they are refused.
    """

    lost: list[Row]
    behind: list[Row]
    diverged: list[Conflict]


class HealthCases(ClientCases):
    """How well everything is."""

    @classmethod
    def health_of(
        cls, folder: Path | str | None = None, *, db: str | None = None, environ: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """As ``health``; a store that cannot even be opened, or not in time, is part of the answer.

        Raises NotFound, InvalidInput.
        """

        def open_store() -> HealthCases:
            opened = cls.open(folder, db=db, environ=environ, create=False)
            opened.store.close()  # this thread's connection
            return opened

        try:
            with health.within(health.PATIENCE_S, open_store) as opened:
                return opened.health()
        except TimeoutError:
            return report([health.silent(health.PATIENCE_S)], {})
        except StoreProblem as problem:
            return report([health.broken("store", problem)], {})

    def health(self, *, extra: Sequence[Part] = (), closing: bool = False) -> dict[str, Any]:
        """Every part with what was measured now; runs and tasks that wait or are stuck.

        ``healthy`` is whether every part does what it is for, ``ready`` whether work can be done.
        ``extra`` are parts that a door knows of; a door that is ``closing`` is not ready.
        """
        store = health.of_store(self.store)
        parts = [store, *self._machine(), *extra]
        if store.status == UNHEALTHY:
            return report(parts, {}, closing=closing)
        try:
            more, found = self._of_project()
        except StoreProblem as problem:  # since a moment ago
            return report([health.broken("store", problem), *parts[1:]], {}, closing=closing)
        return report([*parts, *more], found, closing=closing)

    def _of_project(self) -> tuple[list[Part], dict[str, Any]]:
        """What the store says of workers, runs and tasks, and how they stand. Raises StoreProblem."""
        look = self.store.read(_look)
        alive = self._reckoned(lambda: [row for row in look["workers"] if self._is_there(row)], lambda _: [])
        # Of runs one that cannot be reckoned hides no other.
        stands = [self._reckoned(partial(self._stand, run, look), lambda damaged: damaged) for run in look["runs"]]
        runs = [run for run in stands if isinstance(run, dict)]
        damaged = next((one for one in stands if not isinstance(one, dict)), None)
        parts = [
            self._part("workers", partial(_workers, look, alive)),
            self._part("supervisors", partial(self._supervisors, look, alive)),
            self._part("queue", partial(_queue, look)),
            self._part("breakers", partial(_breakers, look)),
            health.broken("runs", damaged) if damaged else self._part("runs", partial(_runs, runs)),
            self._part("maintenance", partial(self._maintenance, look)),
            self._part("structure", partial(health.of_structure, self.store)),
        ]
        look_at_work = self._work if self.project.git_root is not None else self._work_in_folder
        work = self._part("work", look_at_work)
        if work.facts.get("runs_unknown"):  # no worker starts before that is looked at
            parts = [
                replace(part, advice=work.advice) if part.name in _FOR_WORKERS and part.advice else part
                for part in parts
            ]
        parts.append(work)
        found = {
            "runs": _counted(runs),
            "waiting_tasks": {
                "total": look["waiting"][0]["total"] if look["waiting"] else 0,
                "tasks": [_waits(row) for row in look["waiting"]],
            },
        }
        return parts, found

    def _part(self, part: str, look: Callable[[], Part]) -> Part:
        """A part as ``look`` finds it; an unhealthy one where a row has a value of another kind than its column."""
        return self._reckoned(look, partial(health.broken, part))

    def _reckoned(self, reckon: Callable[[], Result], instead: Callable[[OrchestrionError], Other]) -> Result | Other:
        try:
            return reckon()
        except ODD:
            damaged = of_odd_row(self.store)
            if damaged is None:
                raise
            return instead(damaged)

    # -- the machine --------------------------------------------------------------------------

    def _machine(self) -> list[Part]:
        disk = health.of_disk(health.places_of(self.store, self.project.store_dir, self.environ))
        return [disk, self._git_part()]

    def _git_part(self) -> Part:
        from orchestrion.runs.git import INSTALL_GIT

        program = shutil.which("git", path=self.environ.get("PATH"))
        if self.project.git_root is None:
            said = "the project is no git repository; agents work in the folder itself"
            return Part("git", HEALTHY, said, "", {"repository": False})
        if program is None:
            return Part("git", UNHEALTHY, "git is not installed", INSTALL_GIT, {"repository": True})
        began = time.perf_counter()
        asked = [program, "-C", str(self.project.root), "rev-parse", "--git-dir"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, env=dict(self.environ))
        ms = round((time.perf_counter() - began) * 1000, 3)
        facts = {"repository": True, "answered_ms": ms}
        if answer.returncode:
            said = f"git cannot read the repository: {answer.stderr.strip()[-200:]}"
            return Part("git", UNHEALTHY, said, "look at it with git itself", facts)
        return Part("git", HEALTHY, f"answers in {ms:.0f} ms", "", facts)

    def work_not_here(self, *, ids: Sequence[int] | None = None, limit: int | None = None) -> list[Row]:
        """Runs with accepted work that is in no repository but another: their commits are not here, though they were
        not landed yet, or what was landed for them is.

        Only of the tasks ``ids`` if some are meant; of the newest ``limit`` runs.
        """
        if self.project.git_root is None:
            return []
        rows = self.store.read(lambda tx: tx.all("work_of_clone", ids=ids, limit=limit, unknown=UNKNOWN))
        missing = self._missing(row[commit] for row in rows for commit in ("head_commit", "landed_commit"))
        return [row for row in rows if row["head_commit"] in missing and row["landed_commit"] not in missing]

    def _plans_without_work(self, *, ids: Sequence[int] | None = None, limit: int | None = None) -> _Tips:
        """Plans of this clone with accepted work that is not landed and that their refs have not."""
        from orchestrion.runs.git import Git
        from orchestrion.runs.plan_start import lacks, place_of, refuse_lacking
        from orchestrion.runs.plan_tip import PlanTip, tips

        found = _Tips([], [], [])
        if self.project.git_root is None:
            return found
        git = Git(self.project.root)
        accepted = defaultdict(list)
        for row in self.store.read(lambda tx: tx.all("accepted_here", ids=ids, limit=limit)):
            accepted[row["name"]].append(row["head_commit"])
        rows = _named(self.store.read(lambda tx: tx.all("tips_of_clone", ids=ids, limit=limit)))
        missing, at = self._missing(row["tip"] for row in rows), tips(git)
        for row in (row for row in rows if at.get(row["name"]) != row["tip"]):
            again = partial(self.store.read, partial(plan_named, plan=row["name"]))
            try:
                if row["tip"] in missing:
                    found.lost.append(row)
                elif place_of(PlanTip(git, row["name"]), row, again) == row["tip"]:
                    found.behind.append(row)
            except NotFound:
                found.lost.append(row)
            except Conflict as other:
                found.diverged.append(other)
        if not (found.lost or found.behind or found.diverged) and lacks(git, at.values(), chain(*accepted.values())):
            for plan in filter(is_plan_name, accepted.keys() & at.keys()):
                try:
                    refuse_lacking(PlanTip(git, plan), at[plan], accepted[plan])
                except Conflict as other:
                    found.diverged.append(other)
        return found

    def _split_plans(self) -> list[str]:
        """Plans of no known clone of which all accepted work is here, in parts that lack each other."""
        from orchestrion.runs.git import Git
        from orchestrion.runs.plan_start import is_split
        from orchestrion.runs.plan_tip import PlanTip

        git = Git(self.project.root)
        rows = _named(self.store.read(lambda tx: tx.all("unbound_plans", unknown=UNKNOWN)))
        accepted = {row["name"]: self.store.read(partial(clones.accepted, plan=row)) for row in rows}
        return [row["name"] for row in rows if is_split(PlanTip(git, row["name"]), row, accepted[row["name"]])]

    def _missing(self, commits: Iterable[str | None]) -> set[str]:
        """Those of some commits that are not in the project's repository."""
        from orchestrion.runs.git import Git

        return Git(self.project.root).missing([commit for commit in commits if commit])

    def _work(self) -> Part:
        from orchestrion.runs import refs
        from orchestrion.runs.git import Git
        from orchestrion.runs.landing import interrupted_landings
        from orchestrion.runs.plan_start import kept_aside

        try:
            aside = kept_aside(Git(self.project.root))
            lost, plans = self.work_not_here(limit=LOOKED_AT), self._plans_without_work(limit=LOOKED_AT)
            split, missed = self._split_plans(), older_copies.missed(self)
            gone = sorted(refs.gone(Git(self.project.root), LOOKED_AT))
            half_landed = interrupted_landings(self.project.git_common_dir or self.project.root)
        except GitProblem:
            return Part("work", HEALTHY, "not looked at: git says why", "", {"not_here": None})
        runs, tips = [name("R", row["id"]) for row in lost], [row["name"] for row in plans.lost]
        behind = [row["name"] for row in plans.behind]
        facts = {"not_here": runs[:NAMED], "plans_not_here": tips[:NAMED], "plans_behind": behind[:NAMED]}
        facts |= {"plans_diverged": [one.details["plan"] for one in plans.diverged[:NAMED]]}
        facts |= {
            "plans_split": split[:NAMED],
            "runs_unknown": missed.runs[:NAMED],
            "plans_ahead": missed.plans[:NAMED],
        }
        facts |= {"kept_aside": aside[:NAMED], "half_landed": half_landed[:NAMED]}
        facts["refs_without_commit"] = gone[:NAMED]
        if gone and not runs and not tips:
            said = f"{count(len(gone), 'ref')} of ours name commits that are gone, and git refuses to fetch or pack: "
            advice = "`orchestrion cleanup` deletes them; what was in them is to be done again"
            return Part("work", UNHEALTHY, said + ", ".join(gone[:10]), advice, facts)
        if half_landed:
            said = f"a landing was killed in {', '.join(half_landed[:10])}: some of its files are there"
            advice = f"`orchestrion -C {shlex.quote(half_landed[0])} land PLAN` puts back what was there, and lands"
            return Part("work", DEGRADED, said, advice, facts)
        if split:
            said = f"accepted work of {count(len(split), 'plan')} is here in parts that lack each other: "
            advice = f"`orchestrion take-over {split[0]}` says how to merge them"
            return Part("work", UNHEALTHY, said + ", ".join(split[:10]), advice, facts)
        if plans.diverged and not runs and not tips:
            said = "; ".join(one.message for one in plans.diverged[:10])
            return Part("work", UNHEALTHY, said, str(plans.diverged[0].hint), facts)
        if missed.is_any and not runs and not tips:
            return Part("work", DEGRADED, str(missed), older_copies.runbook(), facts)
        if not runs and not tips and not behind:
            kept = f"; {', '.join(aside[:10])} keeps what plans had in a store that is gone" if aside else ""
            return Part("work", HEALTHY, f"what runs did is in the repository{kept}", "", facts)
        if not runs and not tips:
            said = f"the refs of {count(len(behind), 'plan')} were moved back or deleted: {', '.join(behind[:10])}"
            return Part("work", DEGRADED, said, PUT_BACK, facts)
        of_runs = f"commits of {count(len(runs), 'run')} are not here: {', '.join(runs[:10])}" if runs else ""
        of_plans = f"where {count(len(tips), 'plan')} came to is not here: {', '.join(tips[:10])}" if tips else ""
        return Part("work", UNHEALTHY, "; ".join(filter(None, (of_runs, of_plans))), FETCH_WORK, facts)

    def _work_in_folder(self) -> Part:
        """The same where there is no repository: what agents did is in the folder itself."""
        missed = older_copies.missed(self)
        facts = {"runs_unknown": missed.runs[:NAMED]}
        if missed.is_any:
            return Part("work", DEGRADED, str(missed), older_copies.runbook(), facts)
        return Part("work", HEALTHY, "what runs did is in the project's folder", "", facts)

    # -- workers and supervisors --------------------------------------------------------------

    def _is_there(self, row: Row) -> bool:
        """Whether a worker lives: on this machine its process is asked, elsewhere it must have been heard."""
        from orchestrion.runs import processes

        if self.host.sees(row):
            return processes.is_alive(row["pid"], row["pid_start"])
        return bool(row["now"] - row["seen_at"] <= HEARD_MS)

    def _supervisors(self, look: Mapping[str, Any], alive: Sequence[Row]) -> Part:
        # One that its task does not know is not a worker's to settle: the structure is wrong.
        here = [
            run for run in look["runs"] if run["supervised"] and run["task_run"] == run["id"] and self.host.sees(run)
        ]
        dead = [name("R", run["id"]) for run in here if run["pid"] and not self._lives(run)]
        facts = {"here": len(here), "dead": dead}
        if not dead:
            return Part("supervisors", HEALTHY, f"{len(here)} on this machine, all alive", "", facts)
        said = f"{', '.join(dead[:10])} lost their supervisor"
        if alive:
            return Part("supervisors", DEGRADED, f"{said}; a worker is about to settle them", "", facts)
        return Part("supervisors", UNHEALTHY, said, "start a worker, which settles them: `orchestrion work`", facts)

    def _lives(self, run: Row) -> bool:
        from orchestrion.runs import processes

        return processes.is_alive(run["pid"], run["pid_start"])

    # -- runs ---------------------------------------------------------------------------------

    def _stand(self, run: Row, look: Mapping[str, Any]) -> dict[str, Any]:
        """Where a run stands: working, waiting, silent or stuck; for what, since when, and its last sign of life."""
        heard = run["lease_until"] - run["lease_ms"]
        written = self._last_output(run)
        status, awaits = self._judge(run, look, written)
        return {
            "run": name("R", run["id"]),
            "task": name("T", run["task"]),
            "title": run["title"][:80],
            "agent": run["agent"],
            "host": run["host"],
            "status": status,
            "phase": run["phase"],
            "awaits": awaits,
            "since": iso(min(run["now"], written or heard)) if status != "working" else None,
            "last_sign_of_life": iso(max(heard, written or 0)),
            "last_output": iso(written),
        }

    def _judge(self, run: Row, look: Mapping[str, Any], written: int | None) -> tuple[str, str | None]:
        expired = run["lease_until"] < run["now"]
        if not run["supervised"]:
            return ("stuck", "its client, whose lease ran out; `orchestrion cleanup`") if expired else ("working", None)
        here = self.host.sees(run)
        if standing.is_dead(self, run):
            return "stuck", "a worker that settles it: its supervisor died"
        if not run["pid"] and run["now"] - run["claimed_at"] > LAUNCH_MS:
            return "stuck", "a worker that settles it: it was claimed and never launched"
        if expired and not here:
            return "stuck", f"a worker on {run['host']}: its lease ran out"
        holder = look["merging"].get(run["plan_name"])
        if run["phase"] == Phase.MERGING and holder not in (None, run["id"]):
            return "waiting", f"the merge queue of {run['plan_name']}, which {name('R', holder)} has"
        limit_ms = 1000 * (self.config["run.stall_s"] or SILENT_S)
        if run["phase"] == Phase.WORKING and written is not None and run["now"] - written > limit_ms:
            return "silent", "a word of its agent"
        return "working", None

    def _last_output(self, run: Row) -> int | None:
        """When the run's log grew last, in milliseconds; None: its log is not here."""
        from orchestrion.runs import order

        if not run["supervised"] or not self.has_left(run):
            return None
        try:
            seen = (order.folder(self.project.store_dir, run["id"]) / "log.jsonl").stat().st_mtime
        except OSError:
            return None
        return int(seen * 1000)

    def _maintenance(self, look: Mapping[str, Any]) -> Part:
        last, every = look["last_round"], self.config["maintenance.every_h"]
        facts = {"last": iso(last), "every_h": every}
        said = f"last round {iso(last)}" if last else "no round yet: a worker makes them"
        return Part("maintenance", HEALTHY, said if every else "no rounds: maintenance.every_h is 0", "", facts)


#: Parts for which a worker has to be started, when they are ill.
_FOR_WORKERS = ("workers", "supervisors")


def _named(rows: Iterable[Row]) -> list[Row]:
    """Plans whose names can be those of branches; of others the structure is said to be wrong."""
    return [row for row in rows if is_plan_name(row["name"])]


def _look(tx: Transaction) -> dict[str, Any]:
    """Everything that is judged, of one moment."""
    ready = tx.the("oldest_ready")
    last = tx.all("list_maintenance", action="retention", limit=1)
    return {
        "runs": tx.all("active_runs"),
        "workers": tx.all("workers"),
        "merging": {row["name"]: row["merge_run"] for row in tx.all("merge_queues")},
        "states": {row["state"]: row["total"] for row in tx.all("count_states")},
        "paused_at": tx.the("paused")["paused_at"],
        "ready": ready["total"],
        "ready_since": ready["since"],
        "now": tx.the("clock")["now"],
        "slots": tx.all("slots"),
        "breakers": [dict(one) for one in breaker.overview(tx)],
        "waiting": tx.all("waiting_tasks_named", limit=NAMED),
        "last_round": last[0]["at"] if last else None,
    }


def _workers(look: Mapping[str, Any], alive: Sequence[Row]) -> Part:
    facts = {
        "alive": len(alive),
        "workers": [
            {"host": row["host"], "pid": row["pid"], "slots": row["slots"], "runs": row["runs"],
             "started_at": iso(row["started_at"]), "heard_at": iso(row["seen_at"])}
            for row in alive[:NAMED]
        ],
    }  # fmt: skip
    supervised = sum(1 for run in look["runs"] if run["supervised"])
    if alive:
        return Part("workers", HEALTHY, f"{len(alive)} alive", "", facts)
    if supervised:
        said = f"none is alive, though {supervised} supervised runs are active"
        return Part("workers", DEGRADED, said, "start one, it takes them over: `orchestrion work`", facts)
    ready = f"{count(look['ready'], 'ready task')} {'waits' if look['ready'] == 1 else 'wait'}"
    waits = f"; {ready} for clients or `orchestrion work`" if look["ready"] else ""
    return Part("workers", HEALTHY, f"none is running{waits}", "", facts)


def _queue(look: Mapping[str, Any]) -> Part:
    full = [slot["name"] for slot in look["slots"] if slot["used"] >= slot["capacity"]]
    waited = None if look["ready_since"] is None else round(max(0, look["now"] - look["ready_since"]) / 1000, 1)
    facts = {
        "tasks": look["states"],
        "ready": look["ready"],
        "oldest_ready_s": waited,
        "paused_at": iso(look["paused_at"]),
        "slots": [dict(slots.with_free(slot)) for slot in look["slots"]],
        "full": full,
    }
    said = f"{look['ready']} ready" + (f", the oldest for {waited:g} s" if waited is not None else "")
    if look["paused_at"]:
        advice = "`orchestrion resume` lets workers claim again"
        return Part("queue", DEGRADED, f"paused since {iso(look['paused_at'])}; {said}", advice, facts)
    return Part("queue", HEALTHY, said + (f"; no room in {', '.join(full)}" if full else ""), "", facts)


def _breakers(look: Mapping[str, Any]) -> Part:
    open_ones = look["breakers"]
    facts = {"breakers": look["breakers"]}
    if not open_ones:
        return Part("breakers", HEALTHY, "all closed", "", facts)
    agents = ", ".join(str(one["agent"]) for one in open_ones)
    first = open_ones[0]["agent"]
    advice = f"`orchestrion doctor {first}` says what is wrong; `orchestrion resume --agent {first}` closes it"
    return Part("breakers", DEGRADED, f"open for {agents}", advice, facts)


def _runs(runs: Sequence[Mapping[str, Any]]) -> Part:
    counts = _counts(runs)
    stuck = [run for run in runs if run["status"] == "stuck"]
    said = f"{len(runs)} active" + "".join(f", {total} {status}" for status, total in counts.items() if total)
    if stuck:
        said += f": {stuck[0]['run']} waits for {stuck[0]['awaits']}"
    return Part("runs", DEGRADED if stuck else HEALTHY, said, "", {"active": len(runs), **counts})


def _counts(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        status: sum(run["status"] == status for run in runs) for status in ("working", "waiting", "silent", "stuck")
    }


def _counted(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    order = ("stuck", "silent", "waiting", "working")
    named = sorted(runs, key=lambda run: order.index(str(run["status"])))
    return {"active": len(runs), **_counts(runs), "runs": named[:NAMED]}


def _waits(row: Row) -> dict[str, Any]:
    return {
        "task": name("T", row["id"]),
        "title": row["title"][:80],
        "state": row["state"],
        "awaits": _awaited(row),
        "since": iso(row["updated_at"]),
    }


def _awaited(row: Row) -> str:
    if row["state"] == "retrying":
        return f"its next attempt at {iso(row['retry_at'])}"
    if row["state"] == "review":
        return "a person, who approves or rejects it"
    if row["held"]:
        return f"a decision: {row['reason']}"[:200] if row["reason"] else "a decision"
    return f"{row['reason'] or 'what it waits for failed or was cancelled'}"[:200]


def report(parts: Sequence[Part], found: Mapping[str, Any], *, closing: bool = False) -> dict[str, Any]:
    """The whole of its parts, as ``health`` gives it."""
    from orchestrion import __version__

    status = health.worst(parts)
    ill = [part for part in parts if part.status == UNHEALTHY]
    needed = [part for part in ill if part.name in ("store", "disk") or part.facts.get("code") == "row_damaged"]
    not_ready = [f"{part.name}: {part.said}" for part in needed] + (["the server is restarting"] if closing else [])
    return {
        "healthy": status != UNHEALTHY,
        "status": status,
        "live": True,
        "ready": not not_ready,
        "not_ready": not_ready,
        "at": iso(time.time_ns() // 1_000_000),
        "version": __version__,
        "pid": os.getpid(),
        "components": {part.name: part.as_json() for part in parts},
        **found,
    }
