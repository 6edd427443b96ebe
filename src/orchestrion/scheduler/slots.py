"""Limits: how many runs may hold what at once.

A limit is a row with a capacity; a run that holds a unit of it has a row in ``holds``;
the database keeps ``used`` equal to the number of holds. Global, host, agent and role
limits bind supervised runs and exist where somebody set them; a named resource
(``resource:gpu``) binds every claim and exists as soon as a task needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestrion.core.config import Config
from orchestrion.core.errors import Conflict, InvalidInput, NotFound
from orchestrion.core.values import stored_json
from orchestrion.store import Transaction
from orchestrion.store.store import Row

GLOBAL = "global"
#: How the names of limits begin that bind runs by what these are.
_PREFIXES = {"of_agent": "agent:", "of_role": "role:", "of_resource": "resource:"}
#: So many holds are given back at a time.
_LACKING = 10_000

_NAME = re.compile(r"global|(host|agent|role|resource):[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


def provide(tx: Transaction, slot: str, capacity: int) -> None:
    """Makes a limit unless it exists."""
    tx.run("add_slot", name=slot, capacity=capacity)


def of_settings(config: Config, host: str) -> dict[str, int]:
    """The limits that the settings name: a worker that starts on ``host`` makes those that are not there."""
    wanted = {GLOBAL: config["slots.global"], f"host:{host}": config["slots.host"]}
    wanted |= {f"agent:{agent}": count for agent, count in config["slots.agents"].items()}
    wanted |= {f"role:{role}": count for role, count in config["slots.roles"].items()}
    wanted |= {f"resource:{resource}": count for resource, count in config["resources"].items()}
    return {slot: capacity for slot, capacity in wanted.items() if capacity is not None}


def set_capacity(tx: Transaction, slot: str, capacity: int | None) -> None:
    """Sets a limit, now; None takes it away. Runs that are active stay, even if they are more than it allows.

    Raises InvalidInput for a name or number that can be no limit; where one is to be taken away NotFound (``no_slot``),
    Conflict (``resource_needed``).
    """
    if not _NAME.fullmatch(slot):
        raise InvalidInput(
            f"{slot[:80]!r} is not the name of a limit",
            hint="global, host:NAME, agent:NAME, role:NAME or resource:NAME",
            code="invalid_slot",
        )
    if capacity is None:
        _take_away(tx, slot)
        return
    if capacity not in range(1_000_001):
        raise InvalidInput(
            f"a limit is a whole number from 0 to 1000000, not {capacity}", hint="0 stops it", code="invalid_slot"
        )
    if not _exists(tx, slot):
        tx.put("lock_runs")
        provide(tx, slot, capacity)
        _count_active(tx, slot)
    tx.run("set_slot", name=slot, capacity=capacity)
    tx.event("slots.set", data={"slot": slot, "capacity": capacity})


def _take_away(tx: Transaction, slot: str) -> None:
    """The limit is gone, and with it what active runs hold of it."""
    tx.put("lock_runs")
    if not _exists(tx, slot):
        raise NotFound(f"there is no limit {slot}", hint="`orchestrion slots` lists those there are", code="no_slot")
    if slot.startswith(_PREFIXES["of_resource"]) and _is_needed(tx, slot.removeprefix(_PREFIXES["of_resource"])):
        raise Conflict(
            f"tasks need what {slot} counts, so it has a limit",
            hint=f"say how many there are: `orchestrion slots {slot}=N`",
            code="resource_needed",
        )
    # A hold that goes is counted off its limit, which one that counted too few would not bear.
    tx.run("recount_slots")
    tx.put("free_slot", name=slot)
    tx.put("remove_slot", name=slot)
    tx.event("slots.set", data={"slot": slot, "capacity": None})


def _is_needed(tx: Transaction, resource: str) -> bool:
    return any(resource in stored_json(lane, "needs", f"lane {lane['id']}") for lane in tx.all("lanes"))


def room(tx: Transaction, wanted: Iterable[str]) -> tuple[list[str], str | None]:
    """Those of the limits ``wanted`` that exist, and one that has no room (None: all have).

    They stay as they are, and no other is made, until the transaction ends: ``hold`` cannot fail, nor miss one.
    """
    names = sorted(set(wanted))
    if names:
        tx.put("share_runs")
    found = tx.all("slots_named", names=names) if names else []
    missing = next((str(row["name"]) for row in found if not row["room"]), None)
    return [str(row["name"]) for row in found], missing


def hold(tx: Transaction, run: int, limits: Iterable[str]) -> None:
    """The run takes a unit of each of these limits, which have ``room``."""
    tx.each("hold_slot", [{"run": run, "slot": slot} for slot in limits])


def names_for(*, host: str, agent: str, role: str, needs: Iterable[str], supervised: bool) -> list[str]:
    """Limits that a run of this kind is bound by, where they exist."""
    resources = [f"resource:{need}" for need in needs]
    if not supervised:
        return resources
    bound = [GLOBAL, f"host:{host}", f"agent:{agent}"]
    return [*bound, *([f"role:{role}"] if role else []), *resources]


def all_slots(tx: Transaction) -> list[Mapping[str, object]]:
    """All limits: name, capacity, used, free."""
    return [with_free(row) for row in tx.all("slots")]


def with_free(row: Row) -> Mapping[str, object]:
    """The same of one row."""
    free = max(0, row["capacity"] - row["used"])
    return {"name": row["name"], "capacity": row["capacity"], "used": row["used"], "free": free}


def recount(tx: Transaction) -> int:
    """Frees what ended runs still hold, gives active ones what they lack. Returns how many limits or holds were wrong.

    Whatever a limit counted before, it counts its holds in the end.
    """
    # No limit is taken away meanwhile that a run is given a hold of.
    tx.put("share_runs")
    counted = count_holds(tx)
    freed = tx.run("free_orphaned_slots")
    lacking = tx.all("unheld_slots", **_PREFIXES, limit=_LACKING)
    held = sum(tx.run("hold_slot_if_active", run=row["run"], slot=row["slot"]) for row in lacking)
    return counted + freed + held + count_holds(tx)


def count_holds(tx: Transaction) -> int:
    """Makes limits count their holds, before any is freed: one that goes is counted off its limit by the database,
    which a limit that counted too few would not bear. Returns how many limits were wrong.
    """
    return tx.run("recount_slots")


def _exists(tx: Transaction, slot: str) -> bool:
    return any(row["name"] == slot for row in tx.all("slots"))


def _count_active(tx: Transaction, slot: str) -> None:
    """A limit that is born while runs are active counts them from the beginning."""
    for run in tx.all("active_runs", supervised=1):
        bound = names_for(host=run["host"], agent=run["agent"], role=run["role"], needs=(), supervised=True)
        if slot in bound:
            tx.run("hold_slot_if_active", run=run["id"], slot=slot)
