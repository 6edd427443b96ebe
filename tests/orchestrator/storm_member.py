"""One of the many who do random things to one project: ``python storm_member.py HOW ROOT URL SEED``.

HOW is ``actor`` (every operation of the scheduler), ``python`` (use cases) or ``command`` (the
command line). It goes on until it is killed; a refusal is an answer, anything else ends it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orchestrion import Orchestrator
from orchestrion.core.errors import EnvironmentProblem, OrchestrionError, StoreProblem
from scheduler.actor import Actor

#: What the command line answers when it was refused something: no such thing, a conflict, nothing to claim.
REFUSED = (0, 3, 4, 5, 6)


@contextmanager
def suppress_waiting() -> Iterator[None]:
    """Sixteen on a slow machine may wait for each other for too long, and are told so."""
    try:
        yield
    except StoreProblem as problem:
        if problem.code not in ("store_locked", "store_busy"):
            raise


def act(root: str, url: str, seed: int) -> None:
    """Every operation of the scheduler."""
    actor = Actor(Orchestrator.open(root, db=url).store, seed)
    while True:
        with suppress_waiting():
            actor.act()


def use(root: str, url: str, seed: int) -> None:
    """Use cases, as a Python program calls them."""
    opened, chance = Orchestrator.open(root, db=url), random.Random(seed)

    def ask(act: Callable[..., Any], *values: Any, **given: Any) -> Any:
        try:
            with suppress_waiting():
                return act(*values, **given)
        except EnvironmentProblem:
            raise
        except OrchestrionError:
            return None

    while True:
        tasks = [task.as_json()["id"] for task in opened.list_tasks(limit=50).items]
        ask(opened.add, "a task", after=chance.sample(tasks, min(len(tasks), 2)), needs=chance.choice(((), ("gpu",))))
        claimed = ask(opened.claim)
        if claimed and claimed["run"]:
            ask(chance.choice((opened.done, opened.fail)), claimed["run"], "so")
        if tasks:
            ask(chance.choice((opened.cancel, opened.reopen)), chance.choice(tasks), "so")


def command(root: str, url: str, seed: int) -> None:
    """The same by the command line."""
    chance = random.Random(seed)

    def ask(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrion", "-C", root, "--db", url, *words, "--json"],
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode not in REFUSED and not any(code in done.stderr for code in (b"store_locked", b"store_busy")):
            raise RuntimeError(f"{words}: {done.returncode}: {done.stderr.decode()}")
        return dict(json.loads(done.stdout or b"{}")) if done.returncode == 0 else {}

    while True:
        ask("add", "a task", "--needs", chance.choice(("gpu", "desk")))
        run = ask("claim").get("run")
        if run:
            ask(*chance.choice((("done", run, "--summary", "so"), ("fail", run, "--error", "so"), ("release", run))))


def main(how: str, root: str, url: str, seed: str) -> None:
    """Storms."""
    {"actor": act, "python": use, "command": command}[how](root, url, int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
