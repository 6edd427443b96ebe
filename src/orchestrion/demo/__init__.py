"""``orchestrion demo``: a real repository, a real plan, real processes; and what became of them.

``repository`` makes a small repository with a history, ``stage`` puts it into a folder of
its own with the plan and the scripts of the agents, ``play`` lets a worker work and lets
one run have an ``accident``, ``live`` shows it, ``proof`` tests the merged branch, ``story``
reads in the store what happened, and ``report`` tells it. The agents are plain Python
scripts in ``agents/``: no model, no key, no network.

May import everything below the doors; only the command line imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO


def run(folder: Path | None, *, keep: bool, out: TextIO) -> int:
    """Plays the demo and tells what happened. Returns the exit code: 0 only if all of it is proven.

    ``folder`` is used if it is empty or not there; by default it is a new one for temporary
    files. It stays, for everything in it can be looked at; unless it is to be kept, the page
    also says how to remove it. Raises Conflict, EnvironmentProblem, GitProblem.
    """
    import os

    from orchestrion.demo import play, proof, report, story
    from orchestrion.demo.page import Page
    from orchestrion.demo.stage import set_up
    from orchestrion.orchestrator import Orchestrator

    page = Page(out)
    stage = set_up(folder, os.environ)
    with Orchestrator.open(stage.repository, environ=stage.environ, actor="demo") as opened:
        report.opening(page, stage, opened)
        played = play.play(stage, opened, page)
        told = story.tell(opened, stage.plan_name)
        proven = proof.prove(stage, opened, page)
    report.closing(page, stage, played, told, proven, os.environ, keep=keep)
    return 0 if proven.passed else 8
