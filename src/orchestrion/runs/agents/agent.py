"""The seam: what an agent program must tell us to be run.

An *agent* is a kind of program. One go of it is a *dialogue*: the command line to start,
what to write to its standard input, and what the lines it writes mean. A dialogue does
no input or output and touches no database; the supervisor starts, feeds, watches and ends
the process, and can therefore treat all agents alike. Because a dialogue is nothing but a
function of the lines it hears, the same code reads them again from the log when numbers
have to be reconciled.

What programs report they report in their own way: once a message, or added up over a
whole session that three processes worked on. Everything that leaves a dialogue is counted
once, and belongs to this go alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Verdict:
    """How an agent's go ended."""

    #: None: it did what was asked. Else a code of the failure taxonomy.
    code: str | None
    #: In words: its last ones, or what ended it.
    text: str
    #: Seconds after which the service asks to be tried again; None: it did not say.
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Usage:
    """What was used. Numbers only grow; 0 also where a program does not report one."""

    #: Answers of the model: one for each message it finished, tool calls included.
    turns: int = 0
    #: Tokens of the prompt that were neither read from nor written to a cache.
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    #: US dollars as the program reckons them; None: it does not say.
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        return self._joined(other, 1)

    def __sub__(self, other: Usage) -> Usage:
        return self._joined(other, -1)

    def _joined(self, other: Usage, sign: int) -> Usage:
        costs = [self.cost_usd, other.cost_usd]
        return Usage(
            self.turns + sign * other.turns,
            self.input + sign * other.input,
            self.output + sign * other.output,
            self.cache_read + sign * other.cache_read,
            self.cache_write + sign * other.cache_write,
            None if costs == [None, None] else (self.cost_usd or 0.0) + sign * (other.cost_usd or 0.0),
        )


@dataclass(frozen=True)
class McpServer:
    """A server of tools that the agent is to use: a command over stdio, or an address."""

    name: str
    #: The command line; empty when there is a ``url``.
    command: tuple[str, ...] = ()
    #: Added to the server's environment.
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Permissions(StrEnum):
    """What an agent may do without asking. There is nobody to ask: what is not allowed is denied."""

    #: Read only.
    READ = "read"
    #: Write in its workspace, and what ``allowed_tools`` names.
    EDIT = "edit"
    #: Everything its program can do; for machines that are fenced otherwise.
    ALL = "all"


@dataclass(frozen=True)
class Assignment:
    """What is asked of an agent in one go."""

    #: The brief, or what a further go is told: the output of a failed check, a message.
    prompt: str
    #: Where it works: its workspace.
    folder: Path
    #: The run's own folder, outside the workspace; a place for configuration of this go.
    place: Path
    #: The task's own command, for the agent ``command``.
    command: str = ""
    #: The agent's command line, where the settings name one; empty: the adapter finds it.
    program: tuple[str, ...] = ()
    #: The agent's session to go on with; None: a new one.
    session: str | None = None
    #: What that session had used before this go, over all processes.
    spent: Usage = Usage()
    model: str | None = None
    max_turns: int | None = None
    #: Cost of this go at most, in US dollars.
    budget_usd: float | None = None
    allowed_tools: tuple[str, ...] = ()
    permissions: Permissions = Permissions.EDIT
    servers: tuple[McpServer, ...] = ()


class Kind(StrEnum):
    """What a line of an agent tells."""

    #: The session's id, in ``id``; ``text`` is the model, if it is known.
    SESSION = "session"
    #: Words of the agent.
    TEXT = "text"
    #: A tool is called: its name in ``tool``, the call in ``id``, its input in short in ``text``.
    TOOL = "tool"
    #: What a tool gave, in short; ``failed`` if it could not do it.
    TOOL_RESULT = "tool_result"
    #: The agent's own plan, as lines of ``[x] step``.
    PLAN = "plan"
    #: A permission was asked for or denied.
    PERMISSION = "permission"
    #: ``usage`` of the whole go until now takes the place of what was said before.
    USAGE = "usage"
    #: Something went wrong, or a service was slow; the agent goes on.
    NOTICE = "notice"
    #: The go's last word.
    RESULT = "result"


@dataclass(frozen=True)
class Event:
    """One thing that an agent tells, whatever its program."""

    kind: Kind
    text: str = ""
    id: str = ""
    tool: str = ""
    usage: Usage | None = None
    failed: bool = False


class Dialogue(Protocol):
    """One go of an agent with one process, without input and output of its own."""

    def argv(self) -> Sequence[str]:
        """The command line. Raises AgentProblem (``agent_missing``) when the program is not found."""
        ...

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What the process gets of our own environment, and what it needs beside."""
        ...

    def opening(self) -> str | None:
        """What is written to its standard input at once; None: it gets no input at all."""
        ...

    def hear(self, line: str) -> list[Event]:
        """What one line of its standard output means. Never raises: a line that means nothing gives no event."""
        ...

    def say(self, text: str) -> str | None:
        """What to write so that the agent hears ``text`` while it works; None: it cannot hear now."""
        ...

    def is_over(self) -> bool:
        """Whether all was said, so that its standard input is closed; always False if closing is up to ``opening``."""
        ...

    def judge(self, exit_code: int, last_words: str) -> Verdict:
        """Whether it did what was asked; a negative ``exit_code`` is the number of a signal."""
        ...


@dataclass(frozen=True)
class Health:
    """What can be told of an installed agent without spending anything."""

    #: Where its program was found; None: nowhere.
    program: str | None
    version: str | None = None
    #: Whether it is signed in; None: that cannot be told.
    signed_in: bool | None = None
    #: What to do, in words; empty: nothing.
    advice: str = ""


class Agent(Protocol):
    """One kind of agent program."""

    #: Whether it goes on with an earlier session.
    resumes: bool

    def begin(self, assignment: Assignment) -> Dialogue:
        """A new go."""
        ...

    def examine(self, environ: Mapping[str, str], program: Sequence[str] = ()) -> Health:
        """Whether it could work here: present, which version, signed in. Takes seconds at most, and costs nothing."""
        ...


@dataclass
class Tally:
    """What the events of a go add up to."""

    usage: Usage = Usage()
    #: Tool -> how often it was called.
    tools: dict[str, int] = field(default_factory=dict)
    session: str | None = None
    model: str | None = None
    #: Calls by their ids: the tool and its input in short.
    _calls: dict[str, tuple[str, str]] = field(default_factory=dict)

    def called(self, event: Event) -> tuple[str, str]:
        """The tool and the input, in short, of the call that an event is about."""
        known = self._calls.get(event.id) if event.id else None
        return known or (event.tool, event.text)

    def add(self, event: Event) -> None:
        """Counts an event; a tool call that is told of twice counts once."""
        if event.usage is not None:
            self.usage = event.usage
        if event.kind is Kind.SESSION:
            self.session = event.id or self.session
            self.model = event.text or self.model
        if event.kind is Kind.TOOL and not (event.id and event.id in self._calls):
            self._calls[event.id] = (event.tool, event.text)
            self.tools[event.tool] = self.tools.get(event.tool, 0) + 1


def inherited(environ: Mapping[str, str], also: Sequence[str] = ()) -> dict[str, str]:
    """What every agent program needs of a user's environment, and the variables that ``also`` names.

    A name that ends with ``*`` stands for all that begin so. Nothing else comes through: no
    other service's key, nothing of another repository, run or Python.
    """
    wanted = (*_NEEDED, *also)
    exact = {name for name in wanted if not name.endswith("*")}
    starts = tuple(name[:-1] for name in wanted if name.endswith("*"))
    return {name: value for name, value in environ.items() if name in exact or name.startswith(starts)}


_NEEDED = (
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "XDG_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)


def signalled(exit_code: int) -> Verdict | None:
    """The verdict on a process that a signal ended; None if none did."""
    if exit_code >= 0:
        return None
    import signal

    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return Verdict("agent_crashed", f"ended by {name}")


def short(value: Any, most: int = 200) -> str:
    """A tool's input or output on one line, for people."""
    text = value if isinstance(value, str) else _named(value)
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _named(value: Any) -> str:
    """The part of a tool's input that says most."""
    import json

    if isinstance(value, Mapping):
        for key in ("command", "cmd", "file_path", "path", "pattern", "query", "url", "title", "text"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return json.dumps(value, ensure_ascii=False, default=str)
