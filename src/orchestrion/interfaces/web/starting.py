"""From the command line to a server that listens: what is installed, who may come, and where it says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from orchestrion.core.errors import StoreProblem
from orchestrion.core.extras import require

if TYPE_CHECKING:
    from orchestrion.interfaces.web.house import House


class Work(NamedTuple):
    """What a worker beside the server does."""

    #: Runs at the same time; None: as the settings say.
    slots: int | None
    #: Only tasks of this agent; None: all.
    agent: str | None


def serve(
    folder: str | None,
    db: str | None,
    environ: dict[str, str],
    host: str,
    port: int,
    *,
    tokens: bool,
    log: str,
    work: Work | None = None,
) -> None:
    """Serves until it is told to stop, and with ``work`` keeps agents busy.

    Raises InvalidInput, EnvironmentProblem (``project_moved``, ...), NotFound, StoreProblem.
    """
    _look_for_libraries()
    from orchestrion.interfaces.listening import is_this_machine, listen
    from orchestrion.interfaces.web import logs, serving
    from orchestrion.interfaces.web.house import House

    listener = listen(host, port)
    try:
        house = House.open(folder, db, environ)
        try:
            house.tokens_needed = tokens or not is_this_machine(host)
            logs.begin(log)
            if house.cases.store.upgrade is not None:
                logs.log.warning("%s", house.cases.store.upgrade)
            _say_who_may_come(house)
            with _working(house, work):
                serving.serve(house, listener, host, lambda address: _say_where(house, address))
        finally:
            house.close()
        if house.ended_by is not None:
            raise house.ended_by
    finally:
        listener.close()


@contextmanager
def _working(house: House, work: Work | None) -> Iterator[None]:
    if work is None:
        yield
        return
    from orchestrion.interfaces.web.working import Working

    worker = Working(house, work.slots, work.agent)
    worker.start()
    try:
        yield
    finally:
        worker.wait()


def _look_for_libraries() -> None:
    require("serve", "the server", "fastapi", "uvicorn", "jinja2")


def _say_who_may_come(house: House) -> None:
    if not house.tokens_needed:
        return
    valid = sum(one["status"] == "valid" for one in house.cases.tokens())
    hint = "" if valid else "; there is none: `orchestrion token create NAME --role operate`"
    _say(f"everybody needs a token; {valid} are valid{hint}")


def _say_where(house: House, address: str) -> None:
    """Where it listens, and an address by which this user's browser comes in."""
    _say(f"listening on {address}")
    try:
        house.cases.note_address(address)
    except OSError as problem:
        _say(f"`orchestrion open` will not find it: {problem.strerror or problem}: {house.cases.project.store_dir}")
    else:
        house.stopping.append(partial(house.cases.forget_address, address))
    if not house.tokens_needed:
        _say(_way_in(house, address))


def _way_in(house: House, address: str) -> str:
    """How a browser of this user comes in; where nothing can be kept it looks, as everybody here may."""
    if house.no_key is not None:
        return f"nobody can act, everybody here can look: {house.no_key.message}; {house.no_key.hint}, then begin anew"
    try:
        return f"open {house.cases.make_link(address)} (once, within an hour; `orchestrion open` makes another)"
    except StoreProblem as problem:
        if problem.code != "store_read_only":
            raise
        return f"everybody here can look, and nothing can be changed: {problem.message}; {problem.hint}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
