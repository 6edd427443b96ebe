"""Rows 7 and 8: how fast the door for agents opens, and how fast it answers.

A client on stdio writes lines and reads lines, and does nothing else; so what is measured is
the server. The bound is a bare server of the official library with one tool that does
nothing, asked in turn: what its protocol costs whoever serves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from bench.databases import Databases
from bench.measure import Measurement, alternate, median, milliseconds_of
from bench.project import PROGRAM, BenchProject
from orchestrion.core.model import NewTask
from orchestrion.interfaces.mcp import catalogue
from orchestrion.scheduler.create import create_all

FULL_STARTS, QUICK_STARTS = 20, 5
FULL_ROUNDS, QUICK_ROUNDS = 200, 20
FEW, MANY = 10, 10_000
START_TARGET, CALL_TARGET_MS = 1.3, 15.0
TOKEN_TARGETS = {"core": 1300, "full": 4500}
REPLY_TARGET_BYTES = 4096
#: A token is so many bytes.
TOKEN = 4

_BARE = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("bare")
@server.tool()
def nothing() -> dict[str, int]:
    return {}
server.run("stdio")
"""
_BARE_SERVER = [sys.executable, "-c", _BARE]


class Client:
    """The least that a client on stdio is."""

    def __init__(self, command: list[str], **where: Any) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **where
        )
        self.pid = self._process.pid
        self._number = 0
        #: Bytes of the longest reply of a tool.
        self.longest = 0
        self.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "b", "version": "1"})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request."""
        assert self._process.stdout
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "result" not in answer:
            raise SystemExit(f"bench: {method} was answered {answer}")
        return dict(answer["result"])

    def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """The reply of a tool."""
        result = self.ask("tools/call", name=tool, arguments=given)
        if result.get("isError"):
            raise SystemExit(f"bench: {tool} was answered {result}")
        self.longest = max(self.longest, len(result["content"][0]["text"].encode()) if result["content"] else 0)
        return dict(result.get("structuredContent") or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def measure_start(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """From nothing to the answer to a client's first request."""
    project = _project(databases, folder / f"door-start-{databases.dialect}", FEW)
    where = {"cwd": project.tree, "env": project.environment}
    samples = alternate(
        QUICK_STARTS if quick else FULL_STARTS,
        {
            "ours": lambda: _start([PROGRAM, "mcp"], where),
            "bound": lambda: _start(_BARE_SERVER, where),
        },
    )
    project.drop()
    return [
        Measurement(
            row=7,
            key=f"mcp.start.{databases.dialect}",
            what=f"{databases.title}: from the start of `orchestrion mcp` to its first answer",
            value=median(samples["ours"]),
            unit="ms",
            bound=median(samples["bound"]),
            bound_is="bare server of the library",
            target=START_TARGET,
        )
    ]


def _start(command: list[str], where: Mapping[str, Any]) -> float:
    started: list[Client] = []
    took = milliseconds_of(lambda: started.append(Client(command, **where)))
    with started[0]:
        return took


def measure_lists() -> Iterator[Measurement]:
    """What the lists of tools cost a model to read."""
    for profile, most in TOKEN_TARGETS.items():
        listed = json.dumps({"tools": catalogue.definitions(profile)}, separators=(",", ":"))
        yield Measurement(
            row=7,
            key=f"mcp.tokens.{profile}",
            what=f"list of the tools of the profile {profile}, {len(catalogue.listed(profile))} tools",
            value=len(listed.encode()) / TOKEN,
            unit="tokens",
            bound=most,
            bound_is="what is allowed",
            target=most,
            judged="value",
        )


def measure_calls(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """Plan, execute, complete and query, among few tasks and among many."""
    rounds = QUICK_ROUNDS if quick else FULL_ROUNDS
    found: list[Measurement] = []
    for size in (FEW, MANY):
        project = _project(databases, folder / f"door-{databases.dialect}-{size}", size)
        with ExitStack() as stack:
            ours = stack.enter_context(Client([PROGRAM, "mcp"], cwd=project.tree, env=project.environment))
            bare = stack.enter_context(Client(_BARE_SERVER, env=project.environment))
            work = _Work(ours)
            samples = alternate(rounds, {**work.steps(), "bound": lambda bare=bare: _took(bare, "nothing")})
        found += [_call(databases, size, step, samples) for step in samples if step != "bound"]
        found.append(_reply(databases, size, ours.longest))
        project.drop()
    return found


class _Work:
    """What an agent does all day, one step at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._task = self._run = ""
        client.call("orchestrator_initialize_session")

    def steps(self) -> dict[str, Callable[[], float]]:
        """Milliseconds of each step; each goes on where the one before it ended."""
        return {"plan": self._plan, "execute": self._execute, "query": self._query, "complete": self._complete}

    def _plan(self) -> float:
        given = {"title": "Write the parser", "description": "All of it. " * 20, "specialist_type": "coder"}
        return self._timed(lambda: self._keep(self._client.call("orchestrator_plan_task", **given)))

    def _execute(self) -> float:
        return self._timed(lambda: self._keep(self._client.call("orchestrator_execute_task", task_id=self._task)))

    def _query(self) -> float:
        return self._timed(lambda: self._client.call("orchestrator_query_tasks", status=["pending"], limit=20))

    def _complete(self) -> float:
        report = {"summary": "It is written.", "detailed_work": "def parse(): ...\n" * 200, "next_action": "complete"}
        given = {"task_id": self._task, "run": self._run, **report}
        return self._timed(lambda: self._client.call("orchestrator_complete_task", **given))

    def _keep(self, reply: Mapping[str, Any]) -> None:
        self._task, self._run = reply["task_id"], reply.get("run", "")

    def _timed(self, step: Callable[[], object]) -> float:
        return milliseconds_of(step)


def _took(client: Client, tool: str) -> float:
    return milliseconds_of(lambda: client.call(tool))


def _call(databases: Databases, size: int, step: str, samples: Mapping[str, list[float]]) -> Measurement:
    return Measurement(
        row=8,
        key=f"mcp.{step}.{databases.dialect}.{size}",
        what=f"{databases.title}: {step}, {size:,} tasks",
        value=median(samples[step]),
        unit="ms",
        bound=median(samples["bound"]),
        bound_is="a tool that does nothing",
        target=CALL_TARGET_MS,
        judged="value",
    )


def _reply(databases: Databases, size: int, longest: int) -> Measurement:
    return Measurement(
        row=8,
        key=f"mcp.reply.{databases.dialect}.{size}",
        what=f"{databases.title}: the longest reply, {size:,} tasks",
        value=longest,
        unit="bytes",
        bound=REPLY_TARGET_BYTES,
        bound_is="what is allowed",
        target=REPLY_TARGET_BYTES,
        judged="value",
    )


def _project(databases: Databases, folder: Path, size: int) -> BenchProject:
    project = BenchProject(folder, databases)
    project.call("init")
    with project.open() as opened:
        opened.store.write(lambda tx: create_all(tx, [NewTask(f"Task {number}") for number in range(size)]))
    databases.analyse(project.url)
    return project
