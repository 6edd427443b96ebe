"""A plan of many small tasks that is worked on while everything is being killed.

    python -m tests.runs.kills --kills 1000 --untouched 2000 --seed 7

Supervisors and workers end by SIGKILL at named points of the settling sequence, by chance;
agents, their git, supervisors and workers also at any moment. Whoever was killed is started
again, as a person or a service manager would. About half of the tasks are done by an agent
that speaks in events (``scripted_claude.py``); people talk to it, go on with its sessions,
and now and then end a run. When enough have died work goes on until so many runs were left
alone, the rest is worked off, and what is left must be as if nobody had ever been killed:
every task completed, its change in the plan exactly once, no commit lost, no process left, no
lock in the way, the database sound, the user's checkout untouched, the numbers of every run
those of its log. Two shares are judged: of the runs that no kill touched 99.9 % must have
succeeded, and of the failures that the taxonomy calls transient 95 % must have been made
good without a person.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import truth
from touched import Casualties, Shift, ended_by_themselves

from orchestrion.core.errors import Conflict
from orchestrion.core.retry import FAILURES
from orchestrion.core.states import ACTIVE_RUN
from orchestrion.runs import launch, points
from stage import Stage, python, wait_for

CHAPTERS = 30
#: Tasks that are open at least, while there are kills left.
OPEN = 14
WORKERS = 2
#: How a task may end when a program inside its agent or check is killed; nothing else ends one for good.
KILLED_INSIDE = ("agent_failed", "check_failed", "merge_recheck_failed")
#: Kills for each completed task, at most.
PACE = 2.5
#: How often a person says something to an agent at a look.
WORDS = 0.13
#: Share of the runs that no kill touched that must succeed.
SUCCESS = 0.999
#: Share of the failures listed here that must recover: those that the taxonomy calls transient.
RECOVERY = 0.95
LISTED = frozenset(failure.code for failure in FAILURES.values() if failure.transient)
#: Nothing completed for so long: something is stuck, in seconds.
STUCK_S = 180.0

_TEMPFAIL = "test $ORCHESTRION_ATTEMPT != 1 || exit 75"
_STUBBORN = python("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)")


class Kills:
    """One such play."""

    def __init__(self, folder: Path, kills: int, untouched: int, seed: int, chance: float, stops: float) -> None:
        self.wanted = kills
        #: So many runs at least must be left alone.
        self.untouched = untouched
        self.seed = seed
        self.chance = chance
        self.stops = stops
        self.random = random.Random(seed)
        self.diaries = folder / "accidents"
        self.diaries.mkdir()
        self.ledger = folder / "ledger"
        self.killed: collections.Counter[str] = collections.Counter()
        self.casualties = Casualties(chance)
        self.workers: list[subprocess.Popen[str]] = []
        self.retried = 0
        #: Runs whose failure only a person made good.
        self.by_hand: set[str] = set()
        self.said = 0
        self.success: dict[str, Any] = {}
        self.recovery: dict[str, str] = {}
        self.stage = Stage(folder / "stage", os.environ)
        self._write_book()
        program = [sys.executable, str(Path(__file__).parent / "scripted_claude.py"), "--ledger", str(self.ledger)]
        self.stage.open(
            retry__delay_s=0,
            retry__max=1000,
            run__grace_s=0.5,
            breaker__cooldown_s=0.2,
            agents={truth.AGENT: {"program": shlex.join(program)}},
        )
        self.before = self.stage.user_sees()

    def _write_book(self) -> None:
        pages = [f"chapter {number}: nothing yet\n\n\n\n\n" for number in range(CHAPTERS)]
        (self.stage.root / "book.txt").write_text("".join(pages))
        self.stage.git("add", ".")
        self.stage.git("commit", "-qm", "an empty book")

    # -- the play ------------------------------------------------------------------------------------

    def play(self) -> None:
        """Kills until there were enough, leaves the next runs alone, then lets the rest be worked off."""
        self._progress, self._since = 0, time.monotonic()
        while self.total() < self.wanted:
            self._add_tasks()
            self._keep_workers(accidents=True)
            time.sleep(self.random.uniform(0.02, 0.3))
            self._kill_somebody()
            self._talk()
            self._retry_failed()
            self._refuse_to_be_stuck()
        self._end_workers()
        while len(self._verdicts()["untouched"]) < self.untouched:
            self._add_tasks()
            self._keep_workers(accidents=False)
            self._retry_failed()
            time.sleep(1.0)
            self._refuse_to_be_stuck()
        while not self._all_completed():
            self._keep_workers(accidents=False)
            self._retry_failed()
            time.sleep(0.2)
            self._refuse_to_be_stuck()
        self._end_workers()

    def total(self) -> int:
        """Kills so far."""
        return sum(self.killed.values()) + len(self.casualties.accidents())

    def _states(self) -> dict[str, int]:
        return dict(self.stage.orchestrion.status()["tasks"])

    def _all_completed(self) -> bool:
        return set(self._states()) <= {"completed"}

    def _add_tasks(self) -> None:
        states = self._states()
        missing = OPEN - sum(total for state, total in states.items() if state != "completed")
        last = sum(states.values())
        for number in range(last + 1, last + 1 + missing):
            recent = range(max(1, number - 8), number)
            waits = self.random.sample(recent, min(len(recent), self.random.choice((0, 0, 1, 2))))
            steps, check = self._work(number)
            who = self._speaker(steps) if self.random.random() < 0.5 else {"command": "; ".join(steps)}
            after = [f"T{one}" for one in waits]
            self.stage.orchestrion.add(f"task {number}", checks=(check,), after=after, **who)

    def _speaker(self, steps: list[str]) -> dict[str, str]:
        """The same work for the agent that speaks in events; it may find what an earlier attempt of its session did."""
        overloaded = _TEMPFAIL in steps
        work = {
            "steps": ["rm -f done/$ORCHESTRION_TASK-*", *(step for step in steps if step != _TEMPFAIL)],
            "overloaded_until": int(overloaded),
            "pause_s": 0.05,
        }
        return {"agent": truth.AGENT, "description": f"[[work: {json.dumps(work)}]]"}

    def _work(self, number: int) -> tuple[list[str], str]:
        """What a task does: a file of its own, named after the attempt, and a line of the book."""
        own = "done/$ORCHESTRION_TASK-$ORCHESTRION_ATTEMPT"
        chapter = number % CHAPTERS
        steps = ["mkdir -p done", f"echo $ORCHESTRION_RUN > {own}"]
        if number > CHAPTERS:
            # Two tasks of the same chapter at the same time would be a conflict: this one has its own page.
            steps.append(f"echo $ORCHESTRION_ATTEMPT > page-{number}.txt")
        else:
            steps.append(f"sed -i 's/^chapter {chapter}:.*/chapter {chapter}: task {number}/' book.txt")
        check = f"test -f {own}"
        match self.random.randrange(6):
            case 0:
                steps.append("git add -A && git -c user.name=A -c user.email=a@b commit -qm 'by the agent'")
            case 1:
                steps.append(f"(setsid {_STUBBORN} > /dev/null 2>&1 &)")
            case 2:
                steps.append("sleep 0.3")
            case 3:
                steps.append(f"test $ORCHESTRION_GO = 1 || touch second-{number}")
                check = f"test -f second-{number}"
            case 4:
                steps.append(_TEMPFAIL)
        return steps, check

    def _keep_workers(self, *, accidents: bool) -> None:
        for worker in [worker for worker in self.workers if worker.poll() is not None]:
            assert worker.returncode in (0, 8, -signal.SIGKILL), f"a worker ended with {worker.returncode}"
            self._bury(worker)
        while len(self.workers) < WORKERS:
            number = len(self.casualties.shifts) + 1
            diary, seed = self.diaries / str(number), f"{self.seed}-{number}"
            extra = {points.VARIABLE: f"any:{self.chance}:{seed}", points.DIARY: str(diary)} if accidents else {}
            born = time.time_ns() // 1_000_000
            worker = self.stage.start_worker(slots=2, **extra)
            self.workers.append(worker)
            self.casualties.shifts.append(Shift(worker.pid, born, seed if accidents else "", diary))

    def _end_workers(self) -> None:
        for worker in list(self.workers):
            worker.kill()
            self._bury(worker)

    def _bury(self, worker: subprocess.Popen[str]) -> None:
        worker.communicate()
        self.workers.remove(worker)
        if worker.returncode == -signal.SIGKILL:
            self.casualties.fallen.add(worker.pid)

    def _kill_somebody(self) -> None:
        if self.total() > PACE * (self._progress + OPEN):
            return  # a slow machine: some work must get done, or there is nothing to be proved
        kind = self.random.choices(("agent", "supervisor", "worker", "nobody"), (4, 3, 1, 3))[0]
        candidates = sorted(self._candidates(kind))
        if candidates:
            pid, run = self.random.choice(candidates)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed[kind] += 1
                self.casualties.direct.add(run)

    def _talk(self) -> None:
        """A person says something to an agent, or ends a run."""
        runs = self.stage.orchestrion.status()["runs"]
        chance = self.random.random()
        if not runs or chance > self.stops + WORDS:
            return
        run = self.random.choice(runs)["id"]
        with contextlib.suppress(Conflict):  # it was over a moment ago
            if chance < self.stops:
                self.stage.orchestrion.kill(run)
                self.casualties.stopped.add(run)
            else:
                self.stage.orchestrion.message(run, "and be quick", wait_s=0)
                self.said += 1

    def _retry_failed(self) -> None:
        """A person closes a breaker that our kills opened, and starts failed tasks again."""
        for one in self.stage.orchestrion.status()["breakers"]:
            if self.random.random() < 0.1:
                self.stage.orchestrion.resume(one["agent"])
        self._retry_tasks()

    def _retry_tasks(self) -> None:
        """A program that died in the middle of an agent or check is a failure like any other: a person tries again."""
        for task in self.stage.orchestrion.list_tasks(states=["failed"], limit=100).items:
            name, code = f"T{task.row['id']}", task.row["code"]
            assert code in (*KILLED_INSIDE, "killed"), f"{name}: {code}, {task.row['error']}"
            self.by_hand.add(self.stage.runs(name)[-1]["id"])
            resume = self.random.random() < 0.5 and any(run["session_id"] for run in self.stage.runs(name))
            self.stage.orchestrion.retry(name, resume=resume)
            self.retried += 1

    def _candidates(self, kind: str) -> list[tuple[int, str]]:
        """Processes that may be killed, with their run."""
        if kind == "agent":
            return [(pid, run) for run, carriers in self.stage.carriers().items() for pid, _ in carriers]
        if kind == "supervisor":
            runs = self.stage.orchestrion.status()["runs"]
            return [(run["pid"], run["id"]) for run in runs if run["pid"] and self._is_supervisor(run["pid"])]
        return [(worker.pid, "") for worker in self.workers if worker.poll() is None] if kind == "worker" else []

    def _is_supervisor(self, pid: int) -> bool:
        try:
            return b"supervise" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _refuse_to_be_stuck(self) -> None:
        done = self._states().get("completed", 0)
        if done > self._progress:
            self._progress, self._since = done, time.monotonic()
        if time.monotonic() - self._since > STUCK_S:
            raise AssertionError(f"stuck: {self._states()}, {self._unsettled()}")

    def _unsettled(self) -> list[Any]:
        return [
            (f"T{task['id']}", task["state"], task["code"], task["error"], task["reason"])
            for task in self._tasks()
            if task["state"] != "completed"
        ][:20]

    def _tasks(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.stage.orchestrion.store.read(lambda tx: tx.all("list_tasks", limit=100_000))]

    # -- what is left ------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Everything that is not as it should be."""
        wrong: list[str] = []
        if not self._all_completed():
            wrong.append(f"not completed: {self._unsettled()}")
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self._still_running(), "nobody is left", 10)
        wrong += [f"still running: {left}" for left in self._still_running()]
        try:
            self.stage.check(self.before)
        except AssertionError as violated:
            wrong.append(f"database or checkout: {violated}")
        wrong += self._wrong_in_plan() + self._lost_commits() + self._locks() + self._held()
        return wrong + self._wrong_ends()

    def _still_running(self) -> list[str]:
        runs = sorted(self.stage.run_folder().parent.iterdir())
        return [*self.stage.carriers(), *(run.name for run in runs if launch.is_supervised(run))]

    def _resumed(self) -> set[str]:
        """Tasks that went on with an agent's session, and so with the commits of an earlier run."""
        query = "select task from runs where session_id is not null group by task, session_id having count(*) > 1"
        with self.stage.direct() as database:
            return {f"T{row['task']}" for row in database.rows(query)}

    def _wrong_in_plan(self) -> list[str]:
        tip = "refs/orchestrion/plans/default"
        files = self.stage.git("ls-tree", "-r", "--name-only", tip).splitlines()
        done = collections.Counter(file.split("/")[1].split("-")[0] for file in files if file.startswith("done/"))
        messages = self.stage.git("log", "--format=%B", tip)
        merges = collections.Counter(re.findall(r"\((T\d+)\)$", messages, re.MULTILINE))
        authors = collections.Counter(task for task, _ in set(re.findall(r"Task (T\d+), run (R\d+)", messages)))
        wrong, resumed = [], self._resumed()
        for task in self._tasks():
            name = f"T{task['id']}"
            run = self.stage.orchestrion.run(f"R{task['work_run']}").row if task["work_run"] else None
            if done[name] != 1:
                wrong.append(f"{name} is {done[name]} times in the plan")
            elif run is None or f"done/{name}-{run['attempt']}" not in files:
                wrong.append(f"{name} is in the plan by another run than the one that completed it")
            if merges[name] > 1 or (authors[name] > 1 and name not in resumed):
                wrong.append(f"{name} was merged twice")
        return wrong

    def _lost_commits(self) -> list[str]:
        wrong = []
        for run in self._runs():
            if not run["head_commit"]:
                continue
            branch = f"refs/heads/{run['branch']}"
            found = subprocess.run(
                ["git", "merge-base", "--is-ancestor", run["head_commit"], branch],
                cwd=self.stage.root, env=self.stage.environ, capture_output=True, check=False,
            )  # fmt: skip
            if found.returncode:
                wrong.append(f"R{run['id']}: {run['head_commit']} is not on {branch}")
        return wrong

    def _runs(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.stage.orchestrion.store.read(lambda tx: tx.all("list_runs", limit=100_000))]

    def _locks(self) -> list[str]:
        """Locks of git that nobody holds any more; they must not keep the next task from being merged."""
        before = len(self._runs())
        self.stage.add("mkdir -p done; echo 1 > done/$ORCHESTRION_TASK-$ORCHESTRION_ATTEMPT", title="the last one")
        self.stage.drain(slots=1)
        ran = self._runs()[: len(self._runs()) - before]
        return [] if [run["state"] for run in ran] == ["succeeded"] else [f"the last task took {ran}"]

    def _wrong_ends(self) -> list[str]:
        """Runs that did not end, that ended badly although nobody touched them, or whose numbers are wrong."""
        runs, events = self._runs(), self._events()
        open_ = [run for run in runs if run["state"] in ACTIVE_RUN or run["ended_at"] is None]
        wrong = [f"R{run['id']} is {run['state']}, {run['phase']}, ended {run['ended_at']}" for run in open_]
        befell = self.casualties.verdicts(runs, events)
        self.success = {what: _success(found) for what, found in befell.items()}
        wrong += self._too_few_succeeded(befell["untouched"]) + self._too_few_recovered(runs)
        lived = ended_by_themselves(runs, events)
        return wrong + truth.wrong_numbers(self.stage.orchestrion, self.ledger, lived)

    def _events(self) -> list[dict[str, Any]]:
        with self.stage.direct() as database:
            return database.rows("select run, kind, actor, at from events where kind like 'run.%' order by id")

    def _verdicts(self) -> dict[str, list[dict[str, Any]]]:
        over = [run for run in self._runs() if run["ended_at"] is not None]
        return self.casualties.verdicts(over, self._events())

    def _too_few_succeeded(self, untouched: list[dict[str, Any]]) -> list[str]:
        bad = [run for run in untouched if run["state"] != "succeeded"]
        few = len(untouched) < self.untouched
        wrong = [f"only {len(untouched)} runs were left alone, not {self.untouched}"] if few else []
        if len(bad) > (1 - SUCCESS) * len(untouched):
            told = [(f"R{run['id']}", run["state"], run["code"], (run["reason"] or "")[:300]) for run in bad]
            wrong.append(f"{len(bad)} of {len(untouched)} that nobody touched did not succeed: {told}")
        return wrong

    def _too_few_recovered(self, runs: list[dict[str, Any]]) -> list[str]:
        """A failure is made good when its task is completed, and no person had to try again for it."""
        states = {task["id"]: task["state"] for task in self._tasks()}
        failures = [run for run in runs if run["state"] != "succeeded" and run["code"] in LISTED]
        stayed = [f"R{r['id']}" for r in failures if f"R{r['id']}" in self.by_hand or states[r["task"]] != "completed"]
        every = collections.Counter(run["code"] for run in failures)
        lost = collections.Counter(run["code"] for run in failures if f"R{run['id']}" in stayed)
        self.recovery = {code: f"{total - lost[code]} of {total}" for code, total in every.items()}
        good = len(failures) - len(stayed)
        self.recovery["all"] = f"{good} of {len(failures)}" + (f" ({good / len(failures):.2%})" if failures else "")
        return [f"of {len(failures)} failures these did not recover: {stayed}"] * (good < RECOVERY * len(failures))

    def _held(self) -> list[str]:
        wrong = [f"{slot}" for slot in self.stage.orchestrion.slots() if slot["used"]]
        return [f"slots are still held: {wrong}"] if wrong else []


def _success(runs: list[dict[str, Any]]) -> str:
    """``succeeded of all (share)``."""
    good = sum(run["state"] == "succeeded" for run in runs)
    return f"{good} of {len(runs)}" + (f" ({good / len(runs):.2%})" if runs else "")


def play(kills: int, untouched: int, seed: int, chance: float, stops: float, folder: Path) -> dict[str, Any]:
    """Plays once; what there is to tell, with ``wrong`` empty when all is well."""
    began = time.monotonic()
    one = Kills(folder, kills, untouched, seed, chance, stops)
    try:
        one.play()
        wrong = one.check()
    finally:
        one._end_workers()
    states = collections.Counter(run["state"] for run in one._runs())
    told = {
        "seed": seed,
        "kills": one.total(),
        "at points": dict(collections.Counter(one.casualties.accidents())),
        "at any moment": dict(one.killed),
        "tasks": one._states(),
        "runs": dict(states),
        "runs by agent": dict(collections.Counter(run["agent"] for run in one._runs())),
        "succeeded of": one.success,
        "recovered of": one.recovery,
        "workers started": len(one.casualties.shifts),
        "retried by hand": one.retried,
        "in the same session": len(one._resumed()),
        "ended by a person": len(one.casualties.stopped),
        "messages": one.said,
        "seconds": round(time.monotonic() - began, 1),
        "wrong": wrong,
    }
    one.stage.close()
    return told


def main() -> int:
    """Plays as the command line asks; 0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--untouched", type=int, default=0, help="runs that must be left alone, at least")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--chance", type=float, default=0.05, help="of an accident at each point")
    parser.add_argument("--stops", type=float, default=0.02, help="how often a person ends a run, at each look")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    asked = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="orchestrion-kills-"))
    print(f"seed {seed}, folder {folder}", file=sys.stderr, flush=True)
    told = play(asked.kills, asked.untouched, seed, asked.chance, asked.stops, folder)
    print(json.dumps(told, indent=1))
    if not asked.keep and not told["wrong"]:
        subprocess.run(["rm", "-rf", folder], check=True)
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
