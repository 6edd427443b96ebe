"""A crowd of agents that all work at the same moment, each as if it were alone.

    python -m tests.runs.crowd --agents 50 --workers 3

Half of them are commands, half speak in events (``scripted_claude.py``). Each one waits
until all are there (``crowd_member.py``), so that all of them really are active at once;
at that moment it is counted what the store, the process table and the slots say, and what
their supervisors weigh together. When all have gone on, every run must have succeeded, the
numbers be exact, no process be left, every slot be free, and nobody have seen anything of
anybody else.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import truth

from direct import connect_raw
from orchestrion.core.masking import masked_address
from orchestrion.runs import processes
from scheduler.invariants import look, violations
from stage import PATIENCE_S, Stage, wait_for

HERE = Path(__file__).parent
#: So long the crowd may take to gather, in seconds.
GATHERING_S = 200.0
#: And to go home, for each of them, in seconds.
LEAVING_S = 5.0


class Crowd:
    """One gathering."""

    def __init__(self, folder: Path, agents: int, workers: int, db: str | None) -> None:
        self.agents = agents
        self.place = folder / "crowd"
        for inner in ("signs", "records"):
            (self.place / inner).mkdir(parents=True)
        self.ledger = folder / "ledger"
        self.stage = Stage(folder / "stage", os.environ)
        program = [sys.executable, str(HERE / "scripted_claude.py"), "--ledger", str(self.ledger)]
        self.stage.open(
            agents={truth.AGENT: {"program": shlex.join(program)}},
            slots__global=agents,
            retry__max=0,
            run__timeout_s=GATHERING_S + LEAVING_S * agents,
            **({"db": db} if db else {}),
        )
        self.before = self.stage.user_sees()
        self.home = sorted(str(file) for file in (folder / "stage" / "home").rglob("*"))
        self.slots = [agents // workers + (number < agents % workers) for number in range(workers)]
        #: What was seen while all were there.
        self.seen: dict[str, Any] = {}
        self.peak_mb = 0.0
        self.wrong: list[str] = []

    def play(self) -> None:
        """From the first agent's start to the last worker's end."""
        self._add_tasks()
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(self.stage.worker(slots=slots)) for slots in self.slots]
            try:
                self._wait_until(lambda: self._signs() >= self.agents, "all agents are there", GATHERING_S, workers)
                self._look_at_all()
                (self.place / "open").touch()
                leaving = PATIENCE_S + LEAVING_S * self.agents
                self._wait_until(lambda: all(one.poll() is not None for one in workers), "all went home", leaving)
            except AssertionError as never:
                self.wrong.append(f"{never}: {self._signs()} signs, {self.stage.orchestrion.status()['tasks']}")
            ended = [worker.poll() for worker in workers]
            # A worker that has nothing left to do goes, and says (8) that others are still at it.
            if 0 not in ended or set(ended) - {0, 8}:
                self.wrong.append(f"the workers ended with {ended}")

    def _add_tasks(self) -> None:
        member = shlex.join([sys.executable, str(HERE / "crowd_member.py"), str(self.place), str(self.agents)])
        for number in range(self.agents):
            check = "test -f member-${ORCHESTRION_RUN##*/}.txt"
            if number % 2:
                self.stage.add(member, title=f"command {number}", checks=(check,))
            else:
                work = {"steps": ["ls", member, "echo done"], "pause_s": 0.05}
                text = f"[[work: {json.dumps(work)}]]"
                self.stage.orchestrion.add(f"speaker {number}", agent=truth.AGENT, description=text, checks=(check,))

    def _signs(self) -> int:
        return len(list((self.place / "signs").iterdir()))

    def _wait_until(self, done: Any, what: str, patience_s: float, workers: Any = ()) -> None:
        def look() -> bool:
            self._weigh()
            time.sleep(0.2)
            gone = [worker.returncode for worker in workers if worker.poll() is not None]
            assert not gone, f"workers ended ({gone}) before {what}"
            return bool(done())

        wait_for(look, what, patience_s)

    # -- while all are there --------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        runs = self.stage.orchestrion.status()["runs"]
        used = {slot["name"]: slot["used"] for slot in self.stage.orchestrion.slots()}
        carriers = self.stage.carriers()
        alive = [run for run in runs if run["pid"] and processes.start_time(run["pid"])]
        self.seen = {
            "active runs": sum(run["state"] == "running" and run["phase"] == "working" for run in runs),
            "supervisors": len({run["pid"] for run in alive}),
            "with processes": len(carriers),
            "by agent": dict(collections.Counter(run["agent"] for run in runs)),
            "slots used": used,
        }
        for what in ("active runs", "supervisors", "with processes"):
            if self.seen[what] != self.agents:
                self.wrong.append(f"of {self.agents} agents that were there, {what}: {self.seen[what]}")
        if set(used.values()) != {self.agents}:
            self.wrong.append(f"slots used by {self.agents} agents: {used}")

    def _weigh(self) -> None:
        """The memory of all supervisors together; pages that they share count for each."""
        runs = self.stage.orchestrion.status()["runs"]
        pids = {run["pid"] for run in runs if run["pid"]}
        self.peak_mb = max(self.peak_mb, sum(_resident_mb(pid) for pid in pids))

    # -- what is left ---------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Everything that is not as it should be."""
        orchestrion = self.stage.orchestrion
        runs = list(orchestrion.all_runs())
        bad = [(run["id"], run["state"], run["code"], run["reason"]) for run in runs if run["state"] != "succeeded"]
        wrong = [*self.wrong, *(f"did not succeed: {one}" for one in bad)]
        if len(runs) != self.agents:
            wrong.append(f"{len(runs)} runs for {self.agents} tasks")
        wrong += [f"slot still held: {slot}" for slot in orchestrion.slots() if slot["used"]]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.stage.carriers(), "nobody is left", 10)
        wrong += [f"still running: {left}" for left in self.stage.carriers().items()]
        if self.stage.user_sees() != self.before:
            wrong.append("the user's checkout is not as it was")
        wrong += list(self._wrong_in_database()) + list(self._shared(runs)) + self._not_merged(runs)
        return wrong + truth.wrong_numbers(orchestrion, self.ledger, {run["id"] for run in runs})

    def _wrong_in_database(self) -> Iterator[str]:
        raw = connect_raw(self.stage.orchestrion.store.url)
        yield from violations(look(raw))
        raw.close()

    def _shared(self, runs: list[dict[str, Any]]) -> Iterator[str]:
        """What two runs had in common, and what one found of another."""
        found = {run["id"]: self.place / "records" / f"{run['id']}.json" for run in runs}
        records = {run: json.loads(file.read_text()) for run, file in found.items() if file.exists()}
        if records.keys() != found.keys():
            yield f"no record of {sorted(found.keys() - records.keys())}"
        for what in ("ORCHESTRION_RUN", "ORCHESTRION_TASK", "ORCHESTRION_BRIEF", "ORCHESTRION_PORT_OFFSET"):
            values = collections.Counter(record["environment"].get(what) for record in records.values())
            yield from (f"{times} runs with {what}={value}" for value, times in values.items() if times > 1)
        for what in ("cwd", "git", "branch"):
            values = collections.Counter(record[what] for record in records.values())
            yield from (f"{times} runs with the {what} {value}" for value, times in values.items() if times > 1)
        for run, record in records.items():
            own = (record["mark"], record["private"], record["members"], record["together"])
            if own != (run, run, [f"member-{run}.txt"], self.agents):
                yield f"{run} found {own} in its workspace"
            if record["home"] != self.home:
                yield f"{run} found in HOME: {sorted(set(record['home']) ^ set(self.home))[:5]}"

    def _not_merged(self, runs: list[dict[str, Any]]) -> list[str]:
        files = self.stage.git("ls-tree", "-r", "--name-only", "refs/orchestrion/plans/default").splitlines()
        return [f"{run['id']} is not in the plan" for run in runs if f"member-{run['id']}.txt" not in files]


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def gather(agents: int, workers: int, db: str | None, folder: Path) -> dict[str, Any]:
    """Gathers once; what there is to tell, with ``wrong`` empty when all is well."""
    one = Crowd(folder, agents, workers, db)
    began = time.monotonic()
    one.play()
    seconds = round(time.monotonic() - began, 1)
    told = {
        "agents": agents,
        "workers": workers,
        "db": masked_address(db) if db else "sqlite",
        "seconds": seconds,
        "peak MB of all supervisors": round(one.peak_mb),
        "all at once": one.seen,
        "wrong": one.check(),
    }
    one.stage.close()
    return told


def main() -> int:
    """Gathers as the command line asks; 0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1, help="that share them")
    parser.add_argument("--db", default=None, help="address of an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orchestrion-crowd-"))
    print(f"folder {folder}", file=sys.stderr, flush=True)
    told = gather(asked.agents, asked.workers, asked.db, folder)
    print(json.dumps(told, indent=1))
    if not asked.keep and not told["wrong"]:
        subprocess.run(["rm", "-rf", folder], check=True)
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
