"""The board: columns derived from facts, what needs a person first.

Nothing is dragged; a card moves when the facts do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.core.values import without_escapes
from orchestrion.interfaces.page import deeds
from orchestrion.interfaces.page.wording import here

#: Column -> its heading, and what is said when it is empty.
HEADINGS = {
    "needs": ("Needs you", "Nothing waits for you."),
    "ready": ("Ready", "Nothing is ready to start."),
    "working": ("Working", "No agent is at work."),
    "waiting": ("Waiting", "Nothing waits for other tasks."),
    "done": ("Done", "Nothing is done yet."),
}
#: ``Show more`` adds so many cards, up to ``MOST``.
STEP, MOST = 40, 400
#: A card says at most so much of a reason.
_SAID = 180


@dataclass(frozen=True)
class Card:
    """A task on the board."""

    #: The task, as the use case has it.
    task: Mapping[str, Any]
    #: Why it is where it is, in a line; empty: nothing to say.
    line: str
    #: Why it needs a person, in a word or two; empty: it does not.
    ask: str
    buttons: list[deeds.Button]


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    heading: str
    empty: str
    total: int
    cards: list[Card]
    #: How many cards the next ``Show more`` shows; None: all are shown, or as many as there may be.
    more: int | None


def columns(board: Mapping[str, Any], may_act: bool) -> list[Column]:
    """What ``Orchestrator.board`` found, as columns."""
    return [_column(name, found, may_act) for name, found in board["columns"].items()]


def asks(board: Mapping[str, Any], may_act: bool) -> list[tuple[Mapping[str, Any], list[deeds.Button]]]:
    """What agents asked for and were denied, each with its buttons."""
    return [
        (one, deeds.for_permission(one["permission"], allowable=one["rule"] is not None) if may_act else [])
        for one in board["permissions"]
    ]


def _column(name: str, found: Mapping[str, Any], may_act: bool) -> Column:
    heading, empty = HEADINGS[name]
    cards = [_card(task, may_act) for task in found["tasks"]]
    shown = len(cards)
    more = min(shown + STEP, MOST) if shown < found["total"] and shown < MOST else None
    return Column(name, heading, empty, found["total"], cards, more)


def _card(task: Mapping[str, Any], may_act: bool) -> Card:
    return Card(task, _line(task), _ask(task), _buttons(task) if may_act else [])


def _buttons(task: Mapping[str, Any]) -> list[deeds.Button]:
    run = task["run"] or {"id": None, "supervised": False}
    return deeds.for_task(task["id"], task["state"], task["gates"], run["id"], supervised=run["supervised"])


def _ask(task: Mapping[str, Any]) -> str:
    """What a person is asked for."""
    if task["state"] == "review":
        return "review"
    if task["state"] == "failed":
        return str(task["code"] or "failed").replace("_", " ")
    if task["state"] != "blocked":
        return ""
    decisions = [gate["kind"] for gate in task["gates"] if gate["kind"] in ("question", "approval")]
    return str(decisions[0]) if decisions else "blocked"


def _line(task: Mapping[str, Any]) -> str:
    asked = [gate for gate in task["gates"] if gate["name"]]
    if asked:
        several = len(task["gates"]) > 1
        return _short("; ".join(f"{gate['id']} {gate['name']}" if several else gate["name"] for gate in asked))
    if task["state"] == "pending":
        return f"waits for {task['unmet']} more" if task["unmet"] else ""
    if task["state"] in ("ready", "completed"):
        return ""
    return _short(task["said"] or "")


def _short(text: str) -> str:
    line = " ".join(without_escapes(here(text)).split())
    return line if len(line) <= _SAID else f"{line[: _SAID - 1]}…"
