"""What agents ask for and may not do, and what people say to that.

Nobody sits beside an agent: what it is not allowed to do is denied at once, and it goes on as
well as it can. What it asked for is kept. A person who allows it gives the task a rule, which
the agents of its next attempts get beside those of their role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from orchestrion.core.errors import Conflict, NotFound
from orchestrion.core.model import iso, name
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: A run may ask for so many different things.
MOST = 50
#: Characters of what is kept of it.
LONGEST = 300
#: No database has as many.
_MOST_NUMBERS = 2**53
#: What agents call the tool that runs commands.
_SHELLS = frozenset({"bash", "shell", "execute", "run_shell_command"})
#: A command of these alone means what it says: nothing in it stands for something else, or begins another.
_PLAIN = re.compile(r"[\w ./:=@%+,-]+")
_TOOL = re.compile(r"\w+")


class Ask(NamedTuple):
    """Something that an agent asked for."""

    tool: str
    #: Its input in short.
    said: str

    @property
    def rule(self) -> str | None:
        """What would allow this and no more, as lists of allowed tools have it; None: no rule does."""
        if self.tool.lower() in _SHELLS:
            return f"Bash({self.said})" if _PLAIN.fullmatch(self.said) else None
        return self.tool if _TOOL.fullmatch(self.tool) else None


def note(tx: Transaction, task: int, run: int, asks: Iterable[Ask]) -> None:
    """A run's agent asked for these and was denied; what was asked for before stays as it was decided."""
    for ask in asks:
        given = {"tool": ask.tool[:LONGEST], "said": ask.said[:LONGEST], "rule": ask.rule}
        row = tx.one("add_permission", task=task, run=run, **given)
        if row is not None:
            tx.event("permission.asked", task=task, run=run, data={"permission": row["id"], "tool": given["tool"]})


def allow(tx: Transaction, permission: int) -> Row:
    """The task's next attempts may. Raises NotFound, Conflict (``decided``, ``no_rule``)."""
    row = _open(tx, permission)
    if row["rule"] is None:
        raise Conflict(
            f"no rule allows {row['tool']} {row['said'][:80]!r} and nothing else",
            hint="name what it may do in allowed_tools of its role, or give its agent other permissions",
            code="no_rule",
        )
    return _decide(tx, row, "allowed")


def refuse(tx: Transaction, permission: int) -> Row:
    """It stays denied, and nobody is asked again. Raises NotFound, Conflict (``decided``)."""
    return _decide(tx, _open(tx, permission), "refused")


def rules_of(tx: Transaction, task: int) -> list[str]:
    """What a task's agents may do beyond what their role may."""
    return [row["rule"] for row in tx.all("allowed_rules", task=task)]


def _open(tx: Transaction, permission: int) -> Row:
    row = tx.one("permission", id=permission) if 0 < permission < _MOST_NUMBERS else None
    if row is None:
        raise NotFound(
            f"nobody asked for permission {permission}",
            hint="`orchestrion permissions` lists them",
            code="no_permission",
        )
    if row["state"] != "open":
        raise Conflict(
            f"permission {permission} was {row['state']} by {row['decided_by'] or 'somebody'} already",
            hint="`orchestrion permissions --all` lists what was decided",
            code="decided",
        )
    return row


def _decide(tx: Transaction, row: Row, to: str) -> Row:
    if not tx.run("decide_permission", id=row["id"], to=to, by=tx.origin.actor):
        raise Conflict(f"permission {row['id']} was decided a moment ago", hint="look again", code="decided")
    data = {"permission": row["id"], "rule": row["rule"]}
    tx.event(f"permission.{to}", task=row["task"], run=row["run"], data=data)
    return tx.the("permission", id=row["id"])


def as_json(row: Row) -> dict[str, object]:
    """As every door shows it."""
    return {
        "permission": row["id"],
        "task": name("T", row["task"]),
        "title": row["title"],
        "task_state": row["task_state"],
        "run": name("R", row["run"]),
        "tool": row["tool"],
        "said": row["said"],
        "rule": row["rule"],
        "state": row["state"],
        "asked_at": iso(row["asked_at"]),
        "decided_at": iso(row["decided_at"]),
        "decided_by": row["decided_by"],
    }
