"""Numbers that were given here, whatever the store knows of them: an older copy of it gives none of them again.

By the store's id the highest number of each kind is written down, and the runs that a copy did not know when the next
number went over them: in the file ``given`` beside the store, which all who work here share, and in the user's state
folder, where it stays if the store's whole folder is put back as it was. The folder of a worker's run tells its number,
too.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from orchestrion.core import private
from orchestrion.core.values import name, number_named
from orchestrion.runs import order
from orchestrion.store import Transaction

FILE = "given"
#: So many lost runs are remembered, the youngest ones.
MOST_LOST = 1000


class Given(NamedTuple):
    """What is known of one store."""

    #: The highest number of a run.
    run: int = 0
    #: The highest number of a session.
    session: int = 0
    #: Runs that the store did not know when a number was given above them.
    lost: tuple[int, ...] = ()


class Ledger(NamedTuple):
    """Where it is written down."""

    #: The folder of the store.
    store_dir: Path
    #: The user's own, which no copy of a store goes into.
    state: Path

    def files(self, store: str) -> Iterator[Path]:
        """Those about the store with this id, and perhaps others."""
        yield self.store_dir / FILE
        if re.fullmatch(r"[0-9a-f-]{8,64}", store):
            yield self.state / FILE / store


class NumberGiven(Exception):
    """A run of this number was begun here before, of an older copy of the store or of another one."""


def of(ledger: Ledger, store: str) -> Given:
    """What is known of the store with this id."""
    told = [_given(_read(file).get(store)) for file in ledger.files(store)]
    lost = sorted({run for one in told for run in one.lost})
    return Given(max(one.run for one in told), max(one.session for one in told), tuple(lost[-MOST_LOST:]))


def note(ledger: Ledger, store: str, *, run: int = 0, session: int = 0, lost: Iterable[int] = ()) -> None:
    """These numbers were given, and these runs the store does not know."""
    missing = {*lost}

    def with_these(known: Given) -> Given:
        all_lost = tuple(sorted({*known.lost, *missing})[-MOST_LOST:])
        return Given(max(run, known.run), max(session, known.session), all_lost)

    _change(ledger, store, with_these)


def forget_lost(ledger: Ledger, store: str) -> None:
    """Somebody looked at what the store does not know."""
    _change(ledger, store, lambda known: known._replace(lost=()))


def refuse(tx: Transaction, ledger: Ledger, run: int, store: str) -> None:
    """Raises NumberGiven: that run's supervisor may live, its folder and workspace are there; or its client comes back.

    ``store`` is the id of the store that gives the number in ``tx``. A higher one that it knows is no sign of anything:
    another claim at the same moment was first.
    """
    last = of(ledger, store).run
    is_forgotten = run == last or (run < last and not tx.all("runs_anywhere", ids=[last]))
    if is_forgotten or os.path.lexists(order.folder(ledger.store_dir, run) / "order.json"):
        raise NumberGiven(name("R", run))


def beyond(ledger: Ledger, store: str) -> int:
    """The first number above those of all runs that were here, of whatever store."""
    numbers = [of(ledger, store).run, *(_given(told).run for told in _read(ledger.store_dir / FILE).values())]
    with suppress(FileNotFoundError):
        numbers += [number_named(entry.name, "R") or 0 for entry in (ledger.store_dir / "runs").iterdir()]
    return max(numbers) + 1


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(private.read(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _given(told: object) -> Given:
    """What stands there of a store; nothing, where somebody else wrote it. Alone a number is that of a run."""
    facts = told if isinstance(told, dict) else {"run": told}
    run, session, lost = (facts.get(one) for one in Given._fields)
    known = [one for one in lost if type(one) is int] if isinstance(lost, list) else []
    return Given(run if type(run) is int else 0, session if type(session) is int else 0, tuple(known))


def _change(ledger: Ledger, store: str, change: Callable[[Given], Given]) -> None:
    """By one process at a time. What cannot be written now the next one writes: the numbers stand in the store."""
    for file in ledger.files(store):
        before = _given(_read(file).get(store))
        if change(before) != before:
            with suppress(OSError):
                _write(file, store, change)


def _write(file: Path, store: str, change: Callable[[Given], Given]) -> None:
    if not file.parent.is_dir():
        private.make_folder(file.parent, parents=True)
    with open(f"{file}.lock", "a", opener=private.opener) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _read(file)
        found[store] = change(_given(found.get(store)))._asdict()
        private.replace(file, json.dumps(found))
