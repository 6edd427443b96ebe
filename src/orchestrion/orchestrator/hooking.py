"""Use cases of hooks: a client's session begins, has written a file, wants to stop.

A client such as Claude Code calls us at these moments without its model having to think of
it. What a session claimed is known from the journal: each event names the session that it
came from. Both bounds that keep us from being a nuisance are counted there as well: a start
is told once what is going on, however many hooks are set up, and a session is held back from
stopping a few times for each of its runs, then let go.

``FileHooks`` is called after every file that an agent writes, so it stands on less than the
other use cases do; what is rare is in ``SessionHooks``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from orchestrion.core.errors import StaleRun
from orchestrion.core.values import name, number
from orchestrion.memory import files, sessions, successors
from orchestrion.memory.files import Owner
from orchestrion.orchestrator.filing import Filing, report
from orchestrion.orchestrator.opening import Opening
from orchestrion.store import Origin, Store, Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.orchestrator.whole import Orchestrator

Result = TypeVar("Result")

#: Two hooks for one start come within this time, in milliseconds; two starts never do.
SAME_START_MS = 2_000
#: A session is held back so often for each run, by each hook.
MOST_HELD_BACK = 3
#: Characters of a failed check's output that the agent is shown: the end says most.
_OUTPUT_SHOWN = 3_000


class Sitting(NamedTuple):
    """A client's session, as its hooks describe it."""

    #: The client's own id of it.
    external: str
    #: The client's name.
    client: str = "claude-code"
    #: Where it sits.
    folder: str = ""


class FileHooks(Opening):
    """What is said of files."""

    def written(self, sitting: Sitting, path: str, op: str) -> None:
        """The session has written a file; what it claimed stays its own for another while.

        The file is that of the run it claimed last, else of the session. Raises InvalidInput
        for a file outside the project.
        """
        [found] = Filing(self.project).reported([{"path": path, "op": op}])

        def record(tx: Transaction, session: int) -> None:
            held = successors.held_by(tx, name("S", session))
            for row in held:
                tx.put("renew_lease", run=row["id"])
            last = held[-1] if held else None
            owner = Owner(last["task"], last["id"], session) if last else Owner(session=session)
            report(tx, owner, [found], "hook")

        _in_session(self, sitting, record)

    def written_by_run(self, run: str, path: str, op: str) -> None:
        """An agent that a worker started has written a file. Its supervisor keeps the lease. Raises as above.

        Of a run that is over it is not recorded, which is nothing to trouble its agent with.
        """
        one = self.store.read(lambda tx: tx.one("run", id=number(run, "R")))
        if one is None or one["ended_at"] is not None:
            return
        workspace = Path(one["workspace"]) if one["workspace"] else None
        found = Filing(self.project).reported([{"path": path, "op": op}], workspace)
        with suppress(StaleRun):
            self.store.write(lambda tx: files.report(tx, Owner(one["task"], one["id"]), found, "hook"))


class SessionHooks:
    """What is said of sessions, to a project that is open."""

    def __init__(self, opened: Opening) -> None:
        self._opened = opened
        self._store: Store = opened.store

    @cached_property
    def _cases(self) -> Orchestrator:
        """All use cases: a session that holds nothing may stop without them."""
        from orchestrion.orchestrator.whole import Orchestrator

        opened = self._opened
        return Orchestrator(opened.project, opened.config, opened.store, opened.environ, opened.caller)

    def begins(self, sitting: Sitting, how: str) -> tuple[str, str | None]:
        """The session's handle, and what it should know; None if it was told at this very start.

        ``how`` is the client's word: startup, resume, compact.
        """
        session, kind = self._known(sitting), f"session.{how}"

        def is_first(tx: Transaction) -> bool:
            sessions.go_on(tx, number(session, "S"))  # its row is ours until the end: another hook waits here
            found = tx.the("began_just_now", session=session, kind=kind, within_ms=SAME_START_MS)
            if not found["total"]:
                tx.event(kind)
            return not found["total"]

        first = self._store.write(is_first, origin=self._origin(session))
        handle = self._store.read(lambda tx: successors.handle(tx, number(session, "S")))
        return handle, self._cases.prime(session=session) if first else None

    def may_stop(self, sitting: Sitting, at: str) -> str | None:
        """None: the session may stop. Else why not, and what is to be done: a run that it claimed is not reported.

        Checks of the run's task are run for it. ``at`` is ``stop`` or ``task``, the hook: each
        holds a session back a bounded number of times for each run.
        """
        session, kind = self._known(sitting), f"session.held_back_at_{at}"
        for row in self._store.read(lambda tx: successors.held_by(tx, session)):
            reason = self._unfinished(row) if self._times(session, kind, row) < MOST_HELD_BACK else None
            if reason:
                self._held_back(session, kind, row)
                return reason
        return None

    def _known(self, sitting: Sitting) -> str:
        """Our name of the client's session; it begins if nobody told us before."""
        return name("S", _in_session(self._opened, sitting, lambda tx, session: session))

    def _origin(self, session: str) -> Origin:
        return Origin(self._store.origin.actor, session)

    def _times(self, session: str, kind: str, row: Row) -> int:
        found = self._store.read(lambda tx: tx.the("times_held_back", session=session, kind=kind, run=row["id"]))
        return int(found["total"])

    def _held_back(self, session: str, kind: str, row: Row) -> None:
        self._store.write(lambda tx: tx.event(kind, task=row["task"], run=row["id"]), origin=self._origin(session))

    def _unfinished(self, row: Row) -> str | None:
        """What is missing of a run; None if it has ended by now."""
        from orchestrion.core.errors import Conflict, StaleRun

        run, task = name("R", row["id"]), name("T", row["task"])
        holds = f"{run} still holds {task} ({row['title']})"
        try:
            self._cases._check(row["id"], row["task"])
        except StaleRun:
            return None
        except Conflict as failed:
            output = str(failed.details.get("output", ""))[-_OUTPUT_SHOWN:]
            return f"{holds}: {failed.message}.\n{output}\nMend it, then {_report(run)}. {_ways_out(run)}"
        passed = "its checks pass, but " if row["checks"] != "[]" else ""
        return f"{holds}: {passed}nothing was reported. If it is done, {_report(run)}. {_ways_out(run)}"


def _in_session(opened: Opening, sitting: Sitting, act: Callable[[Transaction, int], Result]) -> Result:
    """Does something in the client's session, which begins if nobody told us before."""
    store, begun = opened.store.uuid, 0

    def last() -> int:
        from orchestrion.runs import given  # which few hooks need: most sessions go on

        return given.of(opened.ledger, store).session

    def within(tx: Transaction) -> Result:
        nonlocal begun
        session, resumed = sessions.begin(tx, **sitting._asdict(), fresh=False, last=last)
        begun = 0 if resumed else session
        return act(tx, session)

    done = opened.store.write(within)
    if begun:
        from orchestrion.runs import given

        given.note(opened.ledger, store, session=begun)
    return done


def _report(run: str) -> str:
    return f"report it: `orchestrion done {run} --summary TEXT --file PATH`, or the tool that completes a task"


def _ways_out(run: str) -> str:
    return (
        f"If you need an answer first: `orchestrion done {run} --next blocked --summary QUESTION`. "
        f"If you cannot go on: `orchestrion release {run}` or `orchestrion fail {run} --error TEXT`."
    )
