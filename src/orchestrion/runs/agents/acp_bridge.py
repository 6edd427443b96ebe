"""Between a supervisor, which talks in lines, and an agent that speaks the Agent Client Protocol.

``python -m orchestrion.runs.agents.acp_bridge`` is told once what to do (see ``acp``),
starts the agent in its own environment, and holds the conversation: it opens or resumes a
session, gives prompt after prompt, serves files of the workspace, and answers questions
for permission by a policy, for nobody is there to ask. What happens it tells as one JSON
object a line.

The agent's standard error is ours. When the input ends, or a signal comes, the agent and
all that descends from it is ended first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import acp
from acp import schema

from orchestrion.runs.agents.acp_policy import Policy, Tool
from orchestrion.runs.agents.acp_story import Story, Tell

#: How long an agent may take to say which protocol it speaks, in seconds.
HELLO_S = 120.0
#: An agent may take so long to close its session, then to end by itself, then to end when told to, in seconds.
CLOSE_S, LEAVE_S, OBEY_S = 1.0, 2.0, 2.0
#: Most that is read of one file, in bytes.
MOST_READ = 16 * 1024 * 1024
#: A message of the agent is taken in pieces of this size, in bytes.
_CHUNK = 1024 * 1024


class Failed(Exception):
    """The conversation cannot go on; ``code`` is ours, or ``error`` where only words tell."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def main() -> int:
    """Holds one conversation. Returns an exit code: 0 if every prompt was answered."""
    _log_in_short()
    try:
        return asyncio.run(_Bridge(_tell).run())
    except BrokenPipeError:
        return 1  # nobody listens any more; the agent has been ended


def _tell(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def _log_in_short() -> None:
    """What the library logs goes to standard error, a line each; news that only its own client knows are none."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Short())
    handler.addFilter(lambda record: not _is_unknown(record))
    logging.basicConfig(handlers=[handler])


class _Short(logging.Formatter):
    """A message and its cause, without the way there."""

    def format(self, record: logging.LogRecord) -> str:
        cause = record.exc_info[1] if record.exc_info else None
        return f"acp: {record.getMessage()}" + (f": {cause!r}" if cause else "")


def _is_unknown(record: logging.LogRecord) -> bool:
    cause = record.exc_info[1] if record.exc_info else None
    return isinstance(cause, acp.RequestError) and cause.code == acp.RequestError.method_not_found("").code


class _Bridge:
    """The conversation from its first order to the agent's end."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._prompts: asyncio.Queue[str | None] = asyncio.Queue()
        self._is_busy = True
        self._cancel: Callable[[], object] = _nothing
        self._stop: Callable[[], object] = _nothing

    async def run(self) -> int:
        """Until nothing more is asked of it, or it fails, or is told to stop."""
        work = asyncio.ensure_future(self._hold())
        self._stop = work.cancel
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: self._stop())
        try:
            await work
        except asyncio.CancelledError:
            return 128 + signal.SIGTERM
        except Failed as failed:
            self._tell("error", code=failed.code, text=str(failed))
            return 1
        return 0

    async def _hold(self) -> None:
        orders = await _standard_input()
        start = _Start(**json.loads(await orders.readline() or b'{"start": {}}')["start"])
        process = await _start_agent(start)
        listening = asyncio.ensure_future(self._listen(orders))
        talk = _Talk(start, process, self._tell)
        try:
            self._cancel = talk.cancel
            await _explained(talk.open(), process)
            await self._converse(talk, start.prompt)
            await talk.close()
            await _end(process, LEAVE_S)
        finally:
            # The agent's end is under way: whoever wants it now must not get in between.
            self._stop = _nothing
            listening.cancel()
            await _end(process, 0.0)
            await talk.hang_up()

    async def _listen(self, orders: asyncio.StreamReader) -> None:
        """What the supervisor says while the agent works. The end of it in the midst of work ends all."""
        while line := await orders.readline():
            order = json.loads(line)
            if "say" in order:
                self._prompts.put_nowait(order["say"])
            elif order.get("cancel"):
                self._cancel()
            elif order.get("end"):
                self._prompts.put_nowait(None)
                return
        if self._is_busy:
            self._stop()
        self._prompts.put_nowait(None)

    async def _converse(self, talk: _Talk, prompt: str | None) -> None:
        while prompt is not None:
            await _explained(talk.ask(prompt), talk.process)
            self._is_busy = not self._prompts.empty()
            prompt = await self._prompts.get()
            self._is_busy = prompt is not None


def _nothing() -> None:
    """There is nothing to be stopped now."""


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * _CHUNK)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


@dataclass(frozen=True)
class _Start:
    """The first order."""

    #: The agent's command line.
    command: list[str]
    #: The workspace.
    folder: str
    prompt: str
    #: The session to go on with; None: a new one.
    session: str | None = None
    #: Servers of tools, as ``McpServer`` has them.
    servers: list[dict[str, Any]] = field(default_factory=list)
    permissions: str = "edit"
    allowed_tools: list[str] = field(default_factory=list)
    model: str | None = None
    #: (variable, method) to sign in with.
    signs_in: list[tuple[str, str]] = field(default_factory=list)
    #: Whether it reads and writes files through us.
    serves_files: bool = True
    #: Whether the tokens told are those of all its answers.
    counts_tokens: bool = True


# -- the agent's process -------------------------------------------------------------------


async def _start_agent(start: _Start) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *start.command, stdin=PIPE, stdout=PIPE, cwd=start.folder, limit=_CHUNK, start_new_session=True
        )
    except FileNotFoundError as error:
        raise Failed("agent_missing", f"the agent's program was not found: {error}") from error
    except OSError as error:
        raise Failed("agent_not_started", f"the agent cannot be started: {error}") from error


async def _explained(step: Any, process: Process) -> None:
    """Awaits a step of the conversation; what went wrong is told in our words."""
    try:
        await step
    except ConnectionError as error:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVE_S)
        raise Failed("agent_crashed", f"the agent {_how_ended(process.returncode)} in the midst of its work") from error
    except acp.RequestError as error:
        code = "auth_failed" if error.code == _AUTH_REQUIRED else "error"
        raise Failed(code, _words(error)) from error


_AUTH_REQUIRED = -32000


def _how_ended(status: int | None) -> str:
    if status is None:
        return "hung up"
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit code {status}"


def _words(error: acp.RequestError) -> str:
    """All that an error tells: its message, its number where that is one of HTTP, its details."""
    data = error.data if isinstance(error.data, dict | list | str) else None
    details = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False) if data else ""
    number = f" ({error.code})" if 400 <= error.code < 600 else ""
    return f"{error}{number}: {details}" if details and details not in str(error) else f"{error}{number}"


async def _end(process: Process, patience_s: float) -> None:
    """Ends the agent and all that descends from it: by the end of its input, politely, then for good."""
    import psutil

    family: list[psutil.Process] = []
    with suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    if process.stdin:
        process.stdin.close()
    if patience_s and await _are_gone(process, family, patience_s):
        return
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for member in family:
            with suppress(psutil.Error):
                family += [child for child in member.children(recursive=True) if child not in family]
                act(member)
        if await _are_gone(process, family, OBEY_S):
            return


async def _are_gone(process: Process, family: list[Any], patience_s: float) -> bool:
    """Waits until none of them lives; whether that came to pass in time."""
    end = time.monotonic() + patience_s
    while any(_is_alive(member) for member in family):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.02)
    await process.wait()
    return True


def _is_alive(member: Any) -> bool:
    import psutil

    try:
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


# -- the conversation ----------------------------------------------------------------------


class _Talk:
    """One session of an agent: what we ask of it."""

    def __init__(self, start: _Start, process: Process, tell: Tell) -> None:
        self.process = process
        self._start = start
        self._tell = tell
        self._story = Story(tell, start.counts_tokens)
        self._client = _Client(start, self._story)
        self._agent = acp.connect_to_agent(cast(acp.Client, self._client), process.stdin, process.stdout)
        self._session = ""
        self._can = schema.AgentCapabilities()

    async def open(self) -> None:
        """Says hello, and opens the session, or the one from before."""
        hello = await self._hello()
        self._can = hello.agent_capabilities or schema.AgentCapabilities()
        servers = list(self._servers())
        try:
            opened = await self._open_session(servers)
        except acp.RequestError as error:
            if error.code != _AUTH_REQUIRED or not await self._sign_in(hello):
                raise
            opened = await self._open_session(servers)
        await self._choose(opened)

    async def ask(self, prompt: str) -> None:
        """One prompt, and all that the agent does about it."""
        self._client.is_open = True
        self._story.begin()
        try:
            answer = await self._agent.prompt(session_id=self._session, prompt=[acp.text_block(prompt)])
        finally:
            self._story.pause()
        text = self._story.finish(answer)
        self._tell("result", stop=str(answer.stop_reason), text=text)

    def cancel(self) -> None:
        """The agent is to stop; it still gives its result."""
        if self._session:
            self._cancelling = asyncio.ensure_future(self._agent.cancel(session_id=self._session))

    async def close(self) -> None:
        """Says good-bye, to those who know that."""
        if self._can.session_capabilities and self._can.session_capabilities.close:
            with suppress(acp.RequestError, ConnectionError, TimeoutError):
                await asyncio.wait_for(self._agent.close_session(session_id=self._session), CLOSE_S)

    async def hang_up(self) -> None:
        """Nothing more is heard; what the agent still wrote is taken from the pipe, so that it can be closed."""
        with suppress(ConnectionError):
            await self._agent.close()
        with suppress(TimeoutError):
            assert self.process.stdout
            await asyncio.wait_for(self.process.stdout.read(), CLOSE_S)

    async def _hello(self) -> schema.InitializeResponse:
        serves = self._start.serves_files
        files = schema.FileSystemCapabilities(read_text_file=serves, write_text_file=serves)
        hello = self._agent.initialize(
            protocol_version=acp.PROTOCOL_VERSION,
            client_capabilities=schema.ClientCapabilities(fs=files, terminal=False),
            client_info=schema.Implementation(name="orchestrion", version=_our_version()),
        )
        try:
            answer = await asyncio.wait_for(hello, HELLO_S)
        except TimeoutError as error:
            raise Failed("agent_not_started", f"it said nothing of ACP within {HELLO_S:g} s") from error
        if answer.protocol_version != acp.PROTOCOL_VERSION:
            found, ours = answer.protocol_version, acp.PROTOCOL_VERSION
            raise Failed("agent_not_started", f"the agent speaks version {found} of ACP, we speak {ours}")
        return answer

    async def _open_session(self, servers: list[Any]) -> Any:
        where: dict[str, Any] = {"cwd": self._start.folder, "mcp_servers": servers}
        if self._start.session is None:
            opened: Any = await self._agent.new_session(**where)
            self._session = opened.session_id
        else:
            opened = await self._resume(self._start.session, where)
            self._session = self._start.session
        self._tell("session", id=self._session, model=_model_of(opened))
        return opened

    async def _resume(self, session: str, where: Mapping[str, Any]) -> Any:
        """The earlier session: without hearing all of it again, if the agent can do that."""
        can = self._can.session_capabilities
        try:
            if can and can.resume:
                return await self._agent.resume_session(session_id=session, **where)
            if self._can.load_session:
                return await self._agent.load_session(session_id=session, **where)
        except acp.RequestError as error:
            if error.code == _AUTH_REQUIRED:
                raise
            raise Failed(
                "session_lost", f"the agent cannot go on with its session {session}: {_words(error)}"
            ) from error
        raise Failed("session_lost", f"the agent cannot go on with its session {session}: it resumes none")

    async def _sign_in(self, hello: schema.InitializeResponse) -> bool:
        """With a key from the environment; never in a way that would open a browser."""
        offered = {method.id for method in hello.auth_methods or []}
        for variable, method in self._start.signs_in:
            if method in offered and os.environ.get(variable):
                await self._agent.authenticate(method_id=method)
                return True
        return False

    def _servers(self) -> Iterator[Any]:
        http = self._can.mcp_capabilities and self._can.mcp_capabilities.http
        for server in self._start.servers:
            name = server["name"]
            if not server.get("url"):
                program, *args = server["command"]
                env = [schema.EnvVariable(name=key, value=value) for key, value in server.get("env", {}).items()]
                yield schema.McpServerStdio(name=name, command=shutil.which(program) or program, args=args, env=env)
            elif http:
                headers = [schema.HttpHeader(name=key, value=value) for key, value in server.get("headers", {}).items()]
                yield schema.HttpMcpServer(type="http", name=name, url=server["url"], headers=headers)
            else:
                self._tell("notice", text=f"the agent cannot use the server {name}: it takes no address")

    async def _choose(self, opened: Any) -> None:
        """A mode in which it asks before it acts, and the model that is wanted."""
        mode = _mode_of(opened, self._start.permissions)
        if mode:
            await self._agent.set_session_mode(session_id=self._session, mode_id=mode)
        if self._start.model:
            await self._choose_model(opened, self._start.model)

    async def _choose_model(self, opened: Any, model: str) -> None:
        choice = next((one for one in _options(opened) if one.category == "model"), None)
        if choice is None:
            self._tell("notice", text=f"the agent lets nobody choose a model; it is not {model} that works")
            return
        await self._agent.set_config_option(session_id=self._session, config_id=choice.id, value=model)
        self._tell("session", id=self._session, model=model)


def _our_version() -> str:
    from orchestrion import __version__

    return __version__


def _options(opened: Any) -> list[Any]:
    return list(getattr(opened, "config_options", None) or [])


def _model_of(opened: Any) -> str:
    chosen = next((one.current_value for one in _options(opened) if one.category == "model"), "")
    return chosen if isinstance(chosen, str) else ""


#: Modes in which an agent keeps within what is allowed, or asks: the first that it has.
_MODES = {"read": ("read-only", "default"), "edit": ("default", "auto"), "all": ("full-access", "default")}


def _mode_of(opened: Any, permissions: str) -> str | None:
    """The mode to be set; None: it has none of these, or is in it."""
    modes = getattr(opened, "modes", None)
    if modes is None:
        return None
    offered = {mode.id for mode in modes.available_modes}
    wanted = next((mode for mode in _MODES[permissions] if mode in offered), None)
    return wanted if wanted != modes.current_mode_id else None


# -- what the agent asks of us ---------------------------------------------------------------


class _Client:
    """Our side of the conversation: the methods that the library calls for the agent."""

    def __init__(self, start: _Start, story: Story) -> None:
        self._story = story
        self._policy = Policy(start.folder, start.permissions, start.allowed_tools)
        #: Whether what comes is new: a session that is loaded is told once more.
        self.is_open = False

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Something happened."""
        if self.is_open:
            self._story.hear(update)

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **_: Any
    ) -> schema.RequestPermissionResponse:
        """May it? Always for this once: an agent may write an answer for ever into somebody's settings."""
        tool = self._story.meet(tool_call)
        allowed = self._policy.allows(tool)
        if not allowed:
            self._story.deny(tool)
        wanted = "allow_once" if allowed else "reject_once"
        option = next((one.option_id for one in options if one.kind == wanted), None)
        if option is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        return schema.RequestPermissionResponse(outcome=schema.AllowedOutcome(outcome="selected", option_id=option))

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None, **_: Any
    ) -> schema.ReadTextFileResponse:
        """A file of the workspace, or lines of it."""
        file = self._within(path)
        try:
            if file.stat().st_size > MOST_READ:
                raise _refused(f"{path} is larger than {MOST_READ} bytes")
            text = file.read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            # Agents ask for a file before they make it, and must be told that it is not there yet.
            raise acp.RequestError.resource_not_found(path) from error
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(f"{path} cannot be read: {error}") from error
        if line is not None or limit is not None:
            first = max(line or 1, 1) - 1
            text = "".join(text.splitlines(keepends=True)[first : None if limit is None else first + limit])
        return schema.ReadTextFileResponse(content=text)

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> schema.WriteTextFileResponse:
        """Makes or replaces a file of the workspace."""
        file = self._within(path)
        if not self._policy.may_write(file):
            self._story.deny(Tool("", "write", "edit", path))
            raise _refused(f"{path} must not be written")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode("utf-8"))
        except OSError as error:
            raise _refused(f"{path} cannot be written: {error}") from error
        return schema.WriteTextFileResponse()

    def _within(self, path: str) -> Path:
        try:
            return self._policy.within(path)
        except PermissionError as error:
            raise _refused(str(error)) from error

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A method of the agent's own: we know none."""
        raise acp.RequestError.method_not_found(method)

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """News of the agent's own kind: not for us."""


def _refused(why: str) -> acp.RequestError:
    return acp.RequestError.invalid_params({"details": why})


if __name__ == "__main__":
    sys.exit(main())
