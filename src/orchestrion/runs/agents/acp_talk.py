"""The conversation with an agent that speaks the Agent Client Protocol: what we ask of it, and what it asks of us.

The library for the protocol takes longer to load than everything else here together, so
this module is imported when the agent is starting already.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from asyncio.subprocess import Process
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import acp
from acp import schema

from orchestrion.runs.agents.acp_order import Failed, Start
from orchestrion.runs.agents.acp_policy import Policy, Tool
from orchestrion.runs.agents.acp_story import Story, Tell

#: How long an agent may take to say which protocol it speaks, in seconds.
HELLO_S = 120.0
#: An agent may take so long to close its session, or to go when its end is under way, in seconds.
CLOSE_S, LEAVE_S = 1.0, 2.0
#: The protocol's word for: sign in first.
_AUTH_REQUIRED = -32000
#: Most that is read of one file, in bytes.
MOST_READ = 16 * 1024 * 1024


def log_in_short() -> None:
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


class Talk:
    """One session of an agent: what we ask of it."""

    def __init__(self, start: Start, process: Process, tell: Tell) -> None:
        self.process = process
        self._start = start
        self._tell = tell
        self._story = Story(tell, start.counts_tokens)
        self._client = _Client(start, self._story)
        self._agent = acp.connect_to_agent(cast(acp.Client, self._client), process.stdin, process.stdout)
        self._session = ""
        self._can = schema.AgentCapabilities()

    async def open(self) -> None:
        """Says hello, and opens the session, or the one from before. Raises Failed."""
        await self._explained(self._open())

    async def _open(self) -> None:
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
        """One prompt, and all that the agent does about it. Raises Failed."""
        await self._explained(self._ask(prompt))

    async def _ask(self, prompt: str) -> None:
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

    async def _explained(self, step: Coroutine[Any, Any, None]) -> None:
        """Awaits a step of the conversation; what went wrong is told in our words."""
        try:
            await step
        except ConnectionError as error:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), LEAVE_S)
            how = _how_ended(self.process.returncode)
            raise Failed("agent_crashed", f"the agent {how} in the midst of its work") from error
        except acp.RequestError as error:
            code = "auth_failed" if error.code == _AUTH_REQUIRED else "error"
            raise Failed(code, _words(error)) from error

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

    def __init__(self, start: Start, story: Story) -> None:
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
