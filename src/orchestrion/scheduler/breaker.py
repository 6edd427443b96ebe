"""A circuit breaker for each agent: when the agent itself is broken, nobody's tasks are spent on it.

A key that was refused or a program that is gone fails every task alike. After so many
failures of that kind in a row the breaker opens, and claims pass the agent's tasks over, or
give them to the role's ``fallback_agent``. A service that asks to slow down opens it at
once, for as long as it says. When its time is up it is *half open*: one run, and no other,
may try. If that run's agent works, the breaker closes; if it fails again, it opens for
twice as long. All workers share it, for it is a row of the store.

Only what an agent fails at by itself counts. A task that failed, a check that did not pass
and a limit that was reached show that the agent works. What runs that were begun before it
opened still say changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.core import retry
from orchestrion.core.errors import Backpressure
from orchestrion.core.model import iso
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Codes of the failure taxonomy that say that the agent, not the task, is at fault.
INFRASTRUCTURE = frozenset(
    {"agent_crashed", "agent_missing", "agent_not_started", "auth_failed", "invalid_output", "network"}
)
#: It never stays open for longer by itself, in seconds; a service may ask for more.
LONGEST_S = 900.0
LONGEST_ASKED_S = 3600.0
#: Codes that say nothing about the agent: others ended the run.
_SILENT = frozenset({"interrupted", "killed", "cancelled", "released", "internal"})


@dataclass(frozen=True)
class Rules:
    """When a breaker opens, and for how long."""

    #: Failures in a row.
    failures: int = 5
    #: Seconds that it stays open the first time; doubled each time a probe fails.
    cooldown_s: float = 60.0


def failed(tx: Transaction, agent: str, code: str, rules: Rules, retry_after_s: float | None = None) -> None:
    """A run of the agent failed with this code; its service may have said when it wants to be asked again."""
    if code in _SILENT:
        return
    if code not in INFRASTRUCTURE and not retry.is_delay(code):
        succeeded(tx, agent)
        return
    row = tx.the("breaker_fails", agent=agent)
    is_open = row["until"] is not None and not row["due"]
    has_patience = row["until"] is None and row["failures"] < rules.failures and not retry.is_delay(code)
    if is_open or has_patience:
        return
    grown = min(LONGEST_S, rules.cooldown_s * 2.0 ** min(row["trips"], 20))
    seconds = max(grown, min(retry_after_s or 0.0, LONGEST_ASKED_S))
    tx.put("breaker_opens", agent=agent, code=code, ms=int(seconds * 1000))
    tx.event("breaker.opened", data={"agent": agent, "code": code, "seconds": seconds})


def succeeded(tx: Transaction, agent: str) -> None:
    """A run showed that the agent works: failures in a row begin anew, and a breaker that is half open closes."""
    _close(tx, agent, tx.one("breaker_heals", agent=agent))


def close(tx: Transaction, agent: str) -> bool:
    """A person says that the agent works again. Whether its breaker was open."""
    return _close(tx, agent, tx.one("breaker_closes", agent=agent))


def _close(tx: Transaction, agent: str, row: Row | None) -> bool:
    if row is None or row["until"] is None:
        return False
    tx.event("breaker.closed", data={"agent": agent})
    return True


def blocked(tx: Transaction) -> frozenset[str]:
    """Agents that no claim may use now: open, or half open with a run that tries."""
    return frozenset(row["agent"] for row in tx.all("breakers") if _is_blocked(row))


def try_out(tx: Transaction, agent: str, run: int) -> None:
    """If the agent's breaker is half open, this run is the one that tries. Raises Backpressure if another was first."""
    row = tx.one("breaker", agent=agent)
    if row is None or row["until"] is None:
        return
    if not tx.run("breaker_tries", agent=agent, run=run):
        raise Backpressure(
            f"the breaker of the agent {agent} is {_state(row)}",
            hint="`orchestrion status` shows until when",
            retry_after_s=1.0,
        )
    tx.event("breaker.half_open", run=run, data={"agent": agent})


def overview(tx: Transaction) -> list[Mapping[str, Any]]:
    """Breakers that are not closed: agent, state, failures in a row, the last one's code, until when."""
    return [
        {
            "agent": row["agent"],
            "state": _state(row),
            "failures": row["failures"],
            "code": row["code"],
            "until": iso(row["until"]),
        }
        for row in tx.all("breakers")
        if row["until"] is not None
    ]


def _is_blocked(row: Row) -> bool:
    return row["until"] is not None and (not row["due"] or bool(row["trying"]))


def _state(row: Row) -> str:
    return "half_open" if row["due"] else "open"
