"""How well each part is, measured at this moment: no number here is older than the question.

A part is ``healthy``, ``degraded`` (it works, and something asks for attention) or
``unhealthy`` (what it is for does not work). The whole is as well as its worst part. *Live*
means that somebody answers, *ready* that work can be done: a server that is going to restart,
or whose store is away, is live and not ready.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.values import count
from orchestrion.ops import structure
from orchestrion.ops.structure import Problem
from orchestrion.store import Store, Transaction, migrate
from orchestrion.store.disk import is_full

Result = TypeVar("Result")

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
#: From best to worst.
ORDER = (HEALTHY, DEGRADED, UNHEALTHY)
#: A store that does not answer in this time counts as away, in seconds.
PATIENCE_S = 5.0
#: An answer of the store that takes longer is slow, in milliseconds.
SLOW_MS = 500.0
#: The pages of a larger SQLite file are not read for a health check; maintenance does that, in bytes.
INTEGRITY_BYTES = 4 * 1024 * 1024
#: So many broken rules are named.
_NAMED = 10
#: What its disk is called.
THE_STORE = "the store"
#: Less free space asks for attention, and less makes work impossible, in bytes.
LITTLE_BYTES, TOO_LITTLE_BYTES = 1_000_000_000, 50_000_000


@dataclass(frozen=True)
class Part:
    """One part and how well it is."""

    name: str
    status: str
    #: What was found, in a line.
    said: str
    #: What to do; empty: nothing.
    advice: str = ""
    #: What was measured.
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For every door."""
        advice = {"advice": self.advice} if self.advice else {}
        return {"status": self.status, "said": self.said, **advice, **self.facts}


def worst(parts: Iterable[Part]) -> str:
    """The status of the whole."""
    return max((part.status for part in parts), key=ORDER.index, default=HEALTHY)


def of_store(store: Store, patience_s: float = PATIENCE_S) -> Part:
    """Reads, writes and looks at the database; one that hangs is not waited for any longer than ``patience_s``."""
    try:
        facts = within(patience_s, lambda: _measured(store), store.close)
    except TimeoutError:
        return silent(patience_s)
    except OrchestrionError as problem:
        if problem.code == "store_corrupt" and (proof := store.second_look()).lost:
            return _doubted(store, {"code": problem.code, "problems": [problem.message], "proof": proof.lost})
        return broken("store", problem)
    return _judged(store, facts)


def broken(name: str, problem: OrchestrionError) -> Part:
    """A part that cannot be used, and why."""
    return Part(name, UNHEALTHY, problem.message, problem.hint, {"code": problem.code})


def silent(patience_s: float) -> Part:
    """A store that does not answer."""
    said = f"the store did not answer within {patience_s:g} s"
    return Part("store", UNHEALTHY, said, "look for a process that holds it", {"code": "store_slow"})


def within(seconds: float, work: Callable[[], Result], close: Callable[[], None] = lambda: None) -> Result:
    """Does ``work``, then ``close``, in a thread that is not waited for too long.

    Raises TimeoutError, and what ``work`` raises.
    """
    answers: list[Result] = []
    problems: list[BaseException] = []

    def do() -> None:
        try:
            answers.append(work())
        except Exception as problem:  # noqa: BLE001 - it is raised again where it is waited for
            problems.append(problem)
        finally:
            close()

    thread = threading.Thread(target=do, name="health", daemon=True)
    thread.start()
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError
    return answers[0]


def _measured(store: Store) -> dict[str, Any]:
    def look(tx: Transaction) -> dict[str, Any]:
        tx.the("read_probe")
        size = tx.the("store_size")
        schema = tx.the("schema")["version"]
        return {"schema": schema, "bytes": int(size["bytes"]), "unused_bytes": int(size["unused"])}

    store.read(lambda tx: tx.the("clock"))  # connecting is not what is measured
    read_ms, facts = _timed(lambda: store.read(look))
    write_ms, _ = _timed(lambda: store.write(lambda tx: tx.put("write_probe", key="probe")))
    facts |= {"kind": store.dialect, "known_schema": migrate.scripts(store.dialect)[-1].version}
    facts |= {"read_ms": read_ms, "write_ms": write_ms}
    if store.dialect == "sqlite" and facts["bytes"] > INTEGRITY_BYTES:
        doubts = structure.search_doubts(store)
        return {**facts, "integrity": False if doubts else None, "problems": doubts, "proof": "", "unfit": []}
    found = structure.integrity(store)
    rows = [row.as_json() for row in found.unfit]
    is_sound = not (found.doubts or found.lost or rows)
    return {**facts, "integrity": is_sound, "problems": found.doubts, "proof": found.lost, "unfit": rows}


def _timed(act: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = act()
    return round((time.perf_counter() - began) * 1000, 3), result


def _judged(store: Store, facts: dict[str, Any]) -> Part:
    said = (
        f"{store.dialect}, read {facts['read_ms']:.1f} ms, write {facts['write_ms']:.1f} ms, schema {facts['schema']}"
    )
    if facts["problems"]:
        return _doubted(store, facts)
    if facts["unfit"]:
        return _unfit(store, facts)
    if max(facts["read_ms"], facts["write_ms"]) > SLOW_MS:
        return Part("store", DEGRADED, f"slow: {said}", "look at the disk, and at who else writes", facts)
    return Part("store", HEALTHY, said, "", facts)


def _doubted(store: Store, facts: dict[str, Any]) -> Part:
    """Damaged is what two looks say that know nothing of each other; the database's own check alone may err."""
    reported = f"{store.dialect}'s own check reports: {facts['problems'][0]}"
    if facts["proof"]:
        advice = f"{store.how_to_copy}; only then put a whole copy of before in its place"
        return Part("store", UNHEALTHY, f"damaged: {facts['proof']}; {reported}", advice, facts)
    said = f"{reported}; but every row can be read and fits its table, so nothing is lost"
    advice = f"{store.how_to_copy}; then {store.how_to_reindex} makes the indexes anew"
    return Part("store", DEGRADED, said, advice, facts)


def _unfit(store: Store, facts: dict[str, Any]) -> Part:
    """Single rows that their table would refuse: whoever changed them went past the database."""
    rows = facts["unfit"]
    more = f", and {count(len(rows) - 1, 'row')} more" if len(rows) > 1 else ""
    return Part("store", DEGRADED, rows[0]["said"] + more, to_mend(store, [Problem(**row) for row in rows]), facts)


def of_structure(store: Store) -> Part:
    """Whether rows agree with each other, as far as a few milliseconds tell; each look goes on where the last ended.
    Raises StoreProblem.
    """

    def look(tx: Transaction) -> tuple[int, structure.Glance]:
        known = tx.one("meta", key=_looked(tx))
        after = int(known["value"]) if known else 0
        return after, structure.glance(tx, after)

    after, found = store.read(look)
    if found.until != after:
        store.write(lambda tx: tx.put("looked_until", key=_looked(tx), value=str(found.until)))
    facts = {"looked_at": found.tasks, "problems": [problem.as_json() for problem in found.problems[:_NAMED]]}
    if not found.problems:
        return Part("structure", HEALTHY, f"nothing wrong with the {count(found.tasks, 'task')} looked at", "", facts)
    first = found.problems[0]
    return Part("structure", DEGRADED, f"{first.rule}: {first.said}", to_mend(store, found.problems), facts)


def to_mend(store: Store, problems: Sequence[Problem]) -> str:
    """What to do about problems: what sets them right, or where no command does, what to keep and to ask."""
    mends, is_all = structure.mends(problems)
    if not is_all:
        validate = "`orchestrion maintain validate --level full_audit` names all that is wrong"
        mends = [store.how_to_copy, validate, *mends]
    return "; ".join(mends)


def _looked(tx: Transaction) -> str:
    return f"looked at project {tx.project}"


def places_of(store: Store, store_dir: Path, environ: Mapping[str, str]) -> dict[str, Path]:
    """Where something is written for a project, by what it is for."""
    home = environ.get("XDG_STATE_HOME") or environ.get("HOME") or "/"
    file = Path(store.url).absolute().parent if store.dialect == "sqlite" else store_dir
    return {THE_STORE: file, "logs of runs": store_dir, "workspaces": Path(home)}


def of_disk(places: Mapping[str, Path]) -> Part:
    """Free space where things are written; ``places`` by what they are for."""
    free = {what: shutil.disk_usage(_existing(path)).free for what, path in places.items()}
    least = min(free, key=lambda what: free[what])
    said = f"{free[least] / 1e9:.1f} GB free for {least}"
    facts = {"free_bytes": free}
    advice = "free some space: `orchestrion maintain retention`, or lower workspace.quota_gb"
    if (store := places.get(THE_STORE)) and is_full(_existing(store)):
        # Whatever frees space is written down there.
        advice = f"free some space by hand first, on the disk of {store}; then `orchestrion maintain retention`"
    if free[least] < TOO_LITTLE_BYTES:
        return Part("disk", UNHEALTHY, said, advice, facts)
    return (
        Part("disk", DEGRADED, said, advice, facts)
        if free[least] < LITTLE_BYTES
        else Part("disk", HEALTHY, said, "", facts)
    )


def _existing(path: Path) -> Path:
    """The folder, or what there is of it."""
    return path if path.exists() else _existing(path.parent)
