"""Who calls, for which project, and the threads in which use cases run.

A *seat* is one client's connection: on stdio there is one, over HTTP one for each of the
protocol's sessions. A client of the stateless revision over HTTP has none; what it holds it
proves by naming the run, or its session. Each call gets the project *on behalf of* its caller,
so that the journal says who did what, and a task's holder is known again.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrion.core.errors import Conflict, InvalidInput, OrchestrionError
from orchestrion.core.rights import KEYLESS, Caller, Voice, not_for_runs, run_of
from orchestrion.interfaces.mcp import advice
from orchestrion.interfaces.pool import Pool
from orchestrion.orchestrator.commands import taken_by_servers

if TYPE_CHECKING:
    from orchestrion.interfaces.mcp.catalogue import Tool
    from orchestrion.interfaces.mcp.renewal import Line
    from orchestrion.ops.restart import Order
    from orchestrion.orchestrator import Orchestrator

Result = TypeVar("Result")

#: Use cases at the same time; a check of a completion may take minutes.
THREADS = 16
#: Seats that are remembered; the one that was silent longest goes first.
SEATS = 1000
#: The seat of stdio's one client, until it says how it names its conversation.
STDIO = "stdio"
#: Claude Code names its session in the environment of the servers it starts.
CLIENT_SESSION = "CLAUDE_CODE_SESSION_ID"
#: A session's sign of life is written at most this often, in seconds.
TOUCH_S = 60.0
#: Letters of a client's name in the journal.
_CLIENT_LIMIT = 60
#: Codes by which a caller, or the store, is told that one may only read here, or by now.
ONLY_READS = frozenset({"key_needed", "forbidden", "not_for_runs", "stale_run", "store_read_only"})


@dataclass
class Seat:
    """One client's connection."""

    #: The client's own name for its conversation; empty: it has none.
    external: str
    client: str = ""
    #: The session it works in, as ``S3``; None: none was begun.
    session: str | None = None
    #: By what it speaks for that session; None: by its name, as servers before 0.2.0 left it.
    handle: str | None = None
    #: The project it chose; None: the server's.
    folder: str | None = None
    #: Revision of the protocol that it speaks.
    protocol: str = ""
    #: ``stdio`` or ``http``.
    transport: str = "stdio"
    #: Seconds since 1970.
    connected_at: float = field(default_factory=time.time)
    seen_at: float = field(default_factory=time.time)
    touched_at: float = 0.0
    calls: int = 0
    #: Calls that are being answered.
    in_flight: int = 0
    #: How often it was carried over a restart.
    carried: int = 0

    def actor(self) -> str:
        """How the journal names it. Only an actor with a ``/`` can be known again."""
        own = self.session or self.external[:12]
        return f"mcp:{self.client or 'client'}" + (f"/{own}" if own else "")

    def sit(self, session: Mapping[str, Any] | None) -> None:
        """It works in this session from now on, as it was begun or resumed; None: in none, until one is begun."""
        self.session = session["id"] if session else None
        self.handle = session["handle"] if session else None
        self.touched_at = time.time() if session else 0.0

    def as_json(self) -> dict[str, Any]:
        """What a restart carries over."""
        kept = (
            "external",
            "client",
            "session",
            "handle",
            "folder",
            "protocol",
            "transport",
            "connected_at",
            "calls",
            "carried",
        )
        return {key: getattr(self, key) for key in kept}


class Desk:
    """One server's projects, seats and threads."""

    def __init__(self, folder: str | None, db: str | None, environ: Mapping[str, str], *, confined: bool) -> None:
        self._folder = folder
        self._db = db
        self.environ = environ
        #: Whether clients may choose no other project: whoever can connect is not known to be this user.
        self.confined = confined
        self.transport = "http" if confined else "stdio"
        #: When this server began, in seconds since 1970; a restart begins anew.
        self.started_at = time.time()
        self.seats: OrderedDict[str, Seat] = OrderedDict()
        self.in_flight = 0
        #: Set while the server restarts: it takes no further calls.
        self.closing = False
        #: Restarts this very process; set by whoever serves.
        self.restart: Callable[[Order], object] | None = None
        #: The clients' connections, as a restart sees them; set by whoever serves.
        self.line: Line | None = None
        #: Which tools its clients are listed; set by whoever serves.
        self.profile = "full"
        #: Names this server; it keeps its name over restarts.
        self.name = uuid.uuid4().hex[:12]
        #: The last failures of ours, for health: (seconds since 1970, operation, kind).
        self.failures: list[tuple[float, str, str]] = []
        self._opened: dict[str | None, Orchestrator] = {}
        self._opening = threading.Lock()
        self._threads = Pool(THREADS, "use-case")

    @property
    def folder(self) -> Path | None:
        """The folder that the server was started for, if one was named."""
        return Path(self._folder) if self._folder else None

    @property
    def threads(self) -> int:
        """Threads that exist now."""
        return self._threads.size

    async def do(self, work: Callable[[], Result]) -> Result:
        """Does ``work`` in a thread; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def seat(self, external: str | None, client: str, protocol: str) -> Seat:
        """The seat of a caller; a new one if nobody sat there. Without a name of its own, stdio's one seat."""
        if external is None and self.confined:
            return Seat("", client[:_CLIENT_LIMIT], protocol=protocol, transport=self.transport)
        key = external or STDIO
        seat = self.seats.get(key)
        if seat is None:
            own = external or self._client_session() or f"stdio-{uuid.uuid4().hex}"
            seat = self.seats[key] = Seat(own, transport=self.transport)
            while len(self.seats) > SEATS:
                self.seats.popitem(last=False)
        self.seats.move_to_end(key)
        seat.client = client[:_CLIENT_LIMIT] or seat.client
        seat.protocol = protocol
        return seat

    def _client_session(self) -> str | None:
        """The client's own id of its session, where it tells the servers it starts: its hooks name it so, too."""
        return self.environ.get(CLIENT_SESSION, "")[:100] or None

    @contextmanager
    def serving(self, seat: Seat) -> Iterator[None]:
        """Counts a call while it lasts."""
        seat.calls += 1
        seat.in_flight += 1
        seat.seen_at = time.time()
        self.in_flight += 1
        try:
            yield
        finally:
            seat.in_flight -= 1
            self.in_flight -= 1
            seat.seen_at = time.time()

    def project(self, folder: str | None = None) -> Orchestrator:
        """The project of ``folder``, opened once. Raises NotFound, InvalidInput, StoreProblem."""
        from orchestrion.orchestrator import Orchestrator

        key = folder or self._folder
        with self._opening:
            found = self._opened.get(key)
            if found is None:
                found = Orchestrator.open(key, db=self._db, environ=self.environ)
                # A second name of the same checkout shares its store.
                found = self._opened.setdefault(str(found.project.checkout), found)
                self._opened[key] = found
        return found

    def choose(self, seat: Seat, folder: str) -> Orchestrator:
        """The project that a client named. Over HTTP only the server's own can be chosen."""
        chosen = str(Path(folder).expanduser()) if folder.startswith("~") else folder
        if not Path(chosen).is_absolute() and not self.confined:
            raise InvalidInput(
                f"working_directory {folder[:200]!r} is not absolute",
                hint="name the project's folder from the root: /home/you/project",
                code="invalid_path",
            )
        if self.confined:
            own = self.project()
            path = Path(chosen).resolve()
            if path != own.project.root and not path.is_relative_to(own.project.root):
                raise Conflict(
                    f"this server works for {own.project.root.name!r} alone; {folder[:200]!r} is outside of it",
                    hint="leave working_directory out, or start `orchestrion mcp` in the other project",
                    code="other_project",
                )
            return own
        self._stay_in_run(chosen)
        found = self.project(chosen)
        seat.folder = str(found.project.checkout)
        return found

    def _stay_in_run(self, folder: str) -> None:
        """Raises InvalidInput (``not_for_runs``) where an agent inside a run would go to another project, NotFound."""
        from orchestrion.core.project import find_project

        run = run_of(self.environ)
        if run is None:
            return
        there = find_project(Path(folder), Path(folder), self.environ)
        if there.store_dir != self.project().project.store_dir:
            what = f"working in another project, {folder[:200]!r},"
            raise not_for_runs(run, what, is_known=self.project().caller.run is not None)

    def opened(self) -> list[Orchestrator]:
        """The projects that are open, each once."""
        with self._opening:
            return list({id(one): one for one in self._opened.values()}.values())

    def close(self) -> None:
        """Waits for what is being done, and ends the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)


@dataclass
class ToolCall:
    """One call of a tool, as its function sees it. Lives in one thread."""

    tool: Tool
    #: The parameters, checked; what was not given is None.
    given: dict[str, Any]
    desk: Desk
    seat: Seat
    #: Tells the client how far a long call is: done, of how much, in words.
    report: Callable[[float, float | None, str], None] = lambda done, total, said: None
    #: Follows the call into the journal.
    correlation: str = ""
    #: Who calls, where the transport knows; None: whoever started this server.
    caller: Caller | None = None

    @property
    def project(self) -> Orchestrator:
        """The project, with the caller's rights and in no session: those of this door's clients are begun by it."""
        project = self.desk.project(self.seat.folder)
        caller = self.caller or project.caller
        may_run_commands = taken_by_servers(project.config) and caller.run is None
        correlation = self.correlation or None
        caller = caller._replace(correlation=correlation, may_run_commands=may_run_commands)
        return project.as_(caller._replace(**Voice()._asdict()))

    @cached_property
    def cases(self) -> Orchestrator:
        """The project's use cases, on behalf of the caller in its session."""
        project = self.project
        voice = self._voice(project)
        # A run goes by its own name, as does who has no key; everybody else by that of the conversation.
        own = project.caller.actor.startswith(("run:", KEYLESS))
        actor = project.caller.actor if own else Seat(self.seat.external, self.seat.client, voice.session).actor()
        return project.as_(project.caller._replace(actor=actor, **voice._asdict()))

    def advised(self, text: str, task: str | None = None) -> str:
        """A text that advises commands, in what this client was given; ``task`` is the one it is about, if one is."""
        return advice.for_client(text, self.desk.profile, task)

    def warning(self) -> dict[str, str]:
        """What a client with a conversation of its own should know that acts in another one's session."""
        named = self.given.get("session")
        if not named or not self.seat.external or self.tool.effect == "read":
            return {}
        own = self._voice_of_seat(self.project).session
        said = self.project.session_warning(named) if named.upper() != own else ""
        return {"warning": said} if said else {}

    def _voice(self, project: Orchestrator) -> Voice:
        """For which session the call speaks: the one named, else the seat's, begun when something is changed."""
        if self.given.get("session"):
            return Voice(str(project.session_detail(self.given["session"])["id"]))
        seat, writes = self.seat, self.tool.effect != "read"
        voice = self._voice_of_seat(project)
        if voice.session is None and seat.session and writes:
            seat.sit(None)  # another one is begun by the next call: this one is refused, if somebody else resumed it
        if voice.taken_over or not (seat.external and writes and time.time() - seat.touched_at > TOUCH_S):
            return voice
        try:
            seat.sit(
                project.start_session(client=seat.client, external=seat.external, folder=str(project.project.root))
            )
        except OrchestrionError as refused:
            if refused.code not in ONLY_READS:
                raise
            return Voice()  # what can be answered without is; what writes is refused for itself
        return Voice(seat.session)

    def _voice_of_seat(self, project: Orchestrator) -> Voice:
        from orchestrion.orchestrator.opening import voice_in

        handle = self.seat.handle or self.seat.session
        return voice_in(project.store, handle) if handle else Voice()
