"""A project in the middle of its work, for tests of the page and for its pictures: everything a view can show is there.

Nothing is faked in the database: tasks are run, claimed, reported, failed and answered by use cases. Only the logs of
the runs that clients hold are written here, as an agent's supervisor would.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from orchestrion import Orchestrator
from orchestrion.runs import order
from orchestrion.store import Origin
from stage import Stage, python

#: What somebody may write into a title, a log or a file name.
HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'

CHECKS = {"test": "python3 -c 'print(\"12 passed in 0.4 s\")'"}
_WRITE = (
    "import pathlib; p = pathlib.Path({file!r}); p.parent.mkdir(exist_ok=True); p.write_text({text!r}); print({said!r})"
)
_MONEY = '''"""Sums of money, in cents: no float ever holds an amount."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Money:
    cents: int
    currency: str = "EUR"

    def __add__(self, other: "Money") -> "Money":
        return Money(self.cents + other.cents, self.currency)
'''
_SESSION = (
    {"kind": "session", "text": "claude-opus, 3 tools"},
    {
        "kind": "text",
        "text": "I will start with what the basket does today, then add the voucher as a line of its own.",
    },
    {"kind": "tool", "tool": "Read", "text": "shop/basket.py"},
    {"kind": "tool_result", "text": "class Basket:\n    def total(self) -> Money:\n        return sum(self.lines)"},
    {"kind": "tool", "tool": "Grep", "text": "total\\( in shop/"},
    {"kind": "tool_result", "text": "shop/basket.py:14\nshop/receipt.py:31\nshop/api.py:77"},
    {
        "kind": "text",
        "text": "Three places call total(). A voucher must not make it negative, so the floor belongs there.",
    },
    {"kind": "tool", "tool": "Edit", "text": "shop/basket.py"},
    {"kind": "tool_result", "text": "12 lines changed"},
    {"kind": "tool", "tool": "Bash", "text": "pytest -q tests/test_basket.py"},
    {"kind": "tool_result", "text": "1 failed, 11 passed\nE   assert Money(-200) == Money(0)", "failed": True},
    {"kind": "text", "text": "The floor is applied before the voucher; it has to come after."},
)


def make(folder: Path, *, hostile: bool = True) -> Stage:
    """A shop that agents are rebuilding."""
    stage = Stage(folder, os.environ)
    cases = stage.open(project__name="web-shop", retry__delay_s=0, run__grace_s=1, checks=CHECKS)
    _finished(stage, cases)
    _alive(cases)
    _awaited(cases)
    _waiting(cases)
    if hostile:
        _hostile(cases)
    return stage


def _finished(stage: Stage, cases: Orchestrator) -> None:
    """Work that supervised runs did: with checks, commits, files."""
    for title, file, said in (
        ("Money that never rounds", "shop/money.py", "wrote shop/money.py"),
        ("A basket with lines", "shop/basket.py", "wrote shop/basket.py"),
    ):
        command = python(_WRITE.format(file=file, text=_MONEY, said=said))
        cases.add(title, command=command, checks=("test",), plan="shop", role="", effort_min=20)
    stage.drain(2)
    cases.add(
        "Ship it on Fridays",
        plan="shop",
        command=python("raise SystemExit('the deploy window is closed')"),
        max_retries=0,
    )
    stage.drain(1)
    cases.store.origin = Origin("user:ada")  # the worker signed until here
    cases.decide(
        "Money is an integer of cents", decision="No float ever holds an amount.", rationale="0.1 + 0.2", impact="high",
        category="architecture", task="T1", alternatives=["decimal.Decimal"], files=["shop/money.py"],
    )  # fmt: skip
    cases.decide(
        "Vouchers are lines of the basket", decision="A voucher is a negative line.", impact="medium", task="T2"
    )


def _alive(cases: Orchestrator) -> None:
    """Runs that clients hold now."""
    for title, agent, used in (
        ("Vouchers in the basket", "claude", (14, 48_200, 6_900, 0.41)),
        ("Receipts as PDF", "codex", (9, 31_000, 4_100, 0.22)),
    ):
        made = cases.add(
            title, plan="shop", after=["T2"], effort_min=45, priority=7, checks=("test",), tags=("basket",)
        ).as_json()
        run = cases.claim(made["id"], agent=agent)["run"]
        turns, taken, given, cost = used
        cases.correct(
            run,
            {"turns": turns, "tokens_input": taken, "tokens_output": given, "cost_usd": cost},
            "as the agent reported",
        )
        log(cases, run, _SESSION)
    root = cases.project.root
    (root / "shop").mkdir(exist_ok=True)
    for run in ("R4", "R5"):
        (root / "shop" / "receipt.py").write_text(f"# {run}\n")
        cases.report_files([{"path": "shop/receipt.py", "op": "created"}], run=run)


def _awaited(cases: Orchestrator) -> None:
    """What a person is asked for."""
    made = cases.add(
        "Tax by country", plan="shop", after=["T1"], description="Rates differ; ask before you guess."
    ).as_json()
    run = cases.claim(made["id"], agent="claude")["run"]
    cases.done(run, "Rates are in a table; Switzerland is a guess, please look.", next_action="needs_revision")
    asks = cases.add("Refunds", plan="shop", after=["T2"]).as_json()
    cases.add_gate(asks["id"], "question", called="Does a refund bring a used voucher back?")
    live = cases.add("Switch the shop over", plan="shop", after=[asks["id"]]).as_json()
    cases.add_gate(live["id"], "approval", called="Go live on Monday?")


def _waiting(cases: Orchestrator) -> None:
    cases.add("Delivery notes", plan="shop", priority=8, effort_min=30)
    cases.add("Search that forgives typos", plan="shop", effort_min=60)
    cases.add("Announce it", plan="shop", after=["T8"], effort_min=15)
    cases.add("Measure a week of it", plan="shop", after=["T11"], effort_min=30)


def _hostile(cases: Orchestrator) -> None:
    made = cases.add(f"Hostile {HOSTILE}", description=HOSTILE, plan="shop", priority=1).as_json()["id"]
    run = cases.claim(made, agent="claude")["run"]
    (cases.project.root / "<script>alert(1)<").mkdir()
    file = cases.project.root / "<script>alert(1)<" / "script>.txt"
    file.write_text("x")
    cases.report_files([{"path": str(file.relative_to(cases.project.root)), "op": "created"}], run=run)
    log(cases, run, ({"kind": "text", "text": HOSTILE}, {"kind": "tool", "tool": "Bash", "text": HOSTILE}))
    cases.decide(f"Decided {HOSTILE}", decision=HOSTILE, task=made)


def log(cases: Orchestrator, run: str, events: tuple[dict[str, Any], ...]) -> None:
    """Adds lines to the log of a run, as its agent's."""
    folder = order.folder(cases.project.store_dir, int(run[1:]))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        for event in events:
            file.write(json.dumps({"at": time.time_ns() // 1_000_000, "stream": "event", **event}) + "\n")
