"""Numbers that were given here, whatever the store knows of them: an older copy of it gives none of them again.

By the store's id the highest number of each kind is written down, and the runs that a copy did not know when the next
number went over them: in the file ``given`` beside the store, which all who work here share, and in the user's state
folder, where it stays if the store's whole folder is put back as it was, or elsewhere. The folder of a worker's run
tells its number, too.

Of two copies of one store that both are there each gives its own: what the user's folder knows of the other one is not
asked. Only the place tells them apart, for copies of what version 0.1.0 made have one id.
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
    #: Where the store lies; None: on a server.
    file: Path | None = None

    def pages(self, store: str) -> Iterator[tuple[Path, str]]:
        """Files that tell of the store with this id, and under which name each does."""
        yield self.store_dir / FILE, store
        if re.fullmatch(r"[0-9a-f-]{8,64}", store):
            yield self.state / FILE / store, str(self.file or store)

    def is_of_another_copy(self, place: str) -> bool:
        """Whether a name is that of a copy of this store which lies elsewhere, and is there."""
        return self.file is not None and place.startswith("/") and place != str(self.file) and os.path.lexists(place)


class NumberGiven(Exception):
    """A run of this number was begun here before, of an older copy of the store or of another one."""


def of(ledger: Ledger, store: str) -> Given:
    """What is known of the store with this id."""
    beside, *at_home = ledger.pages(store)
    own = [_given(_read(file).get(place)) for file, place in (beside, *at_home)]
    lost = sorted({run for one in own for run in one.lost})
    # Where it lay before it was moved, it told of the same runs.
    told = own + [
        _given(facts)
        for file, _ in at_home
        for place, facts in _read(file).items()
        if not ledger.is_of_another_copy(place)
    ]
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
    for file, place in ledger.pages(store):
        before = _given(_read(file).get(place))
        if change(before) != before:
            with suppress(OSError):
                _write(file, place, change)


def _write(file: Path, place: str, change: Callable[[Given], Given]) -> None:
    if not file.parent.is_dir():
        private.make_folder(file.parent, parents=True)
    with open(f"{file}.lock", "a", opener=private.opener) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _read(file)
        found[place] = change(_given(found.get(place)))._asdict()
        private.replace(file, json.dumps(found))
