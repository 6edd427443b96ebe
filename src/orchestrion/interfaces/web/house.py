"""One server's project, and the threads in which its use cases run.

Use cases wait for a database, for git and for processes; each call therefore runs in a thread,
and the event loop goes on. What a caller changes is signed with the caller's name and with the
request's correlation id.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from orchestrion.core.errors import Backpressure, EnvironmentProblem, OrchestrionError
from orchestrion.core.project import Standing
from orchestrion.interfaces.pool import Pool
from orchestrion.orchestrator.opening import user_of

if TYPE_CHECKING:
    from orchestrion.core.config import Config
    from orchestrion.core.rights import Caller
    from orchestrion.orchestrator import Orchestrator

Result = TypeVar("Result")

#: git is asked for so many diffs at the same time; who asks for one more waits so long for a turn, in seconds.
DIFFS_AT_ONCE, DIFF_PATIENCE_S = 4, 5.0
#: Use cases at the same time; each thread has a connection to the database.
THREADS = 8
#: Upper bounds of the classes of answers, in seconds.
BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.0, 10.0)


class Answers:
    """Counts answers and how long they took."""

    def __init__(self) -> None:
        self.by_status: Counter[tuple[str, int]] = Counter()
        #: How many took no longer than each of ``BOUNDS``.
        self.within: Counter[float] = Counter()
        self.seconds = 0.0
        self.total = 0

    def count(self, method: str, status: int, seconds: float) -> None:
        """One answer more."""
        self.by_status[method, status] += 1
        self.within.update(bound for bound in BOUNDS if seconds <= bound)
        self.seconds += seconds
        self.total += 1


class Turns:
    """Room for so many diffs at a time; others wait a moment."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(DIFFS_AT_ONCE)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a turn. Raises Backpressure."""
        try:
            await asyncio.wait_for(self._room.acquire(), DIFF_PATIENCE_S)
        except TimeoutError as never:
            raise Backpressure(
                f"this server makes {DIFFS_AT_ONCE} diffs at a time, and others wait",
                hint="ask again in a moment",
                retry_after_s=DIFF_PATIENCE_S,
            ) from never
        try:
            yield
        finally:
            self._room.release()


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


class House:
    """The project that a server is for."""

    def __init__(self, cases: Orchestrator) -> None:
        #: The use cases, signed by the server itself.
        self.cases = cases
        self.config: Config = cases.config
        self.environ: Mapping[str, str] = cases.environ
        #: Whether everybody needs a token, on this machine too.
        self.tokens_needed = False
        #: Names and addresses under which the server may be called, besides those of this machine.
        self.names: frozenset[str] = frozenset()
        #: Whether the server was told to stop: it takes no further requests.
        self.closing = False
        #: When this server began, in seconds since 1970.
        self.started_at = time.time()
        #: What was answered, for monitors.
        self.answers = Answers()
        #: Called as soon as the server is told to stop, so that nobody holds it up.
        self.stopping: list[Callable[[], None]] = []
        #: What is to end before the server does.
        self.leaving: list[Callable[[], Awaitable[None]]] = []
        #: Diffs that are made at the same time.
        self.diffs = Turns()
        self._being_done: dict[str, asyncio.Future[Any]] = {}
        #: The page's session is kept by browsers under this name; ports of one machine share their cookies.
        self.cookie = f"orchestrion_{_short(f'{cases.store.uuid}/{cases.store.project_name}')}"
        #: Whose key it is.
        self.user = user_of(cases.environ).partition(":")[2]
        #: Why nobody of this machine may act: no key can be made here, and there is none; None: one is there.
        self.no_key: OrchestrionError | None = None
        try:
            cases.provide_key()
        except EnvironmentProblem as problem:
            self.no_key = problem
        #: Where the project is; a server does not outlive that.
        self.standing = Standing(cases.project)
        #: Why the server ended itself; None: it was told to, or goes on.
        self.ended_by: OrchestrionError | None = None
        self._threads = Pool(THREADS, "use-case", cases.store.close)

    @classmethod
    def open(cls, folder: str | None, db: str | None, environ: Mapping[str, str]) -> Self:
        """Opens the project of ``folder``. Raises NotFound, InvalidInput, StoreProblem."""
        from orchestrion.orchestrator import Orchestrator

        return cls(Orchestrator.open(folder, db=db, environ=environ, actor="web:server"))

    async def do(self, work: Callable[[], Result]) -> Result:
        """Does ``work`` in a thread; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def do_once(self, name: str, work: Callable[[], Result]) -> Result:
        """The same, but whoever asks for ``name`` while it is being done gets that very result."""
        if name not in self._being_done:
            doing = self._being_done[name] = asyncio.ensure_future(self.do(work))
            doing.add_done_callback(lambda _: self._being_done.pop(name))
        # Who goes away must not take it from the others.
        return await asyncio.shield(self._being_done[name])

    def on_behalf_of(self, caller: Caller) -> Orchestrator:
        """The use cases, for ``caller``."""
        return self.cases.as_(caller)

    def end(self, problem: OrchestrionError) -> None:
        """The server cannot go on: it ends as if it were told to, and says why."""
        if self.ended_by is None:
            self.ended_by = problem
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        """Waits for what is being done, ends the threads, and gives the database back."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.cases.close()
