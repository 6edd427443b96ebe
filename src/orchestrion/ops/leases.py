"""Things that one process at a time may do: whoever has the lease, until it runs out or is given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrion.core.errors import AlreadyTaken
from orchestrion.store import Store


def take(store: Store, name: str, holder: str, seconds: float, longest: float | None = None) -> bool:
    """Whether ``holder`` may do it, and nobody else for so many seconds.

    Nobody has it for more than ``longest`` seconds (``seconds``, if that is not said): what lasts longer was taken
    while the clock ran ahead, and is over.
    """
    given = {"name": name, "holder": holder, "ms": int(seconds * 1000), "longest_ms": int((longest or seconds) * 1000)}
    return store.write(lambda tx: tx.one("take_lease", **given)) is not None


def keep(store: Store, name: str, holder: str, seconds: float) -> None:
    """The holder has it for so many seconds from now; 0 gives it back."""
    given = {"name": name, "holder": holder, "ms": int(seconds * 1000)}
    store.write(lambda tx: tx.put("keep_lease", **given))


@contextmanager
def held(store: Store, name: str, holder: str, seconds: float) -> Iterator[None]:
    """Holds it for a block. Raises AlreadyTaken, naming who has it."""
    if not take(store, name, holder, seconds):
        row = store.read(lambda tx: tx.the("lease", name=name))
        raise AlreadyTaken(
            f"{name} is going on already, by {row['holder']}",
            hint=f"try again when it is done; it lasts {max(1, round(row['left_ms'] / 1000))} s at most",
            code="already_going_on",
            holder=row["holder"],
        )
    try:
        yield
    finally:
        keep(store, name, holder, 0)
