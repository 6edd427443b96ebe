"""``make soak``: whether anything grows while everything is in use for hours.

    python -m bench.soak [--hours 2] [--database sqlite|postgres] [--keep FILE]

A server, a worker and an MCP server on stdio share a repository. All the time 200 readers of
events stay connected, small tasks are made, run, checked and merged, an agent works by MCP, and
pages, REST, diffs and logs are looked at. The resident sizes of all of them are sampled every few
seconds. Judged are the slope over the second half (least squares), the most that the server and any
supervisor ever held, and that all that was asked was answered. 1 MB is a million bytes.

It leaves most of the machine to others: what counts is time, not load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import memory, postgres
from bench.databases import Databases, PostgresDatabases, SqliteFiles
from bench.door import Client
from bench.measure import median
from bench.project import PATIENCE_S, PROGRAM, BenchProject

KEPT = Path(__file__).with_name("soak.json")
READERS = 200
#: Seconds between two samples, and between two steps of those who use it.
SAMPLE_S, STEP_S = 2.0, 2.0
#: One step in so many makes a task, looks at what a run changed and wrote, and makes a large change.
TASK_EVERY, LOOK_EVERY, LARGE_EVERY = 3, 10, 150
#: Files that a small and a large task write.
SMALL, LARGE = 3, 2_000
FILES = 200
#: Megabytes an hour; and megabytes that the server may ever hold.
SLOPE_TARGET, SERVER_TARGET = 1.0, 100.0
#: Fewer tasks an hour than this, and nothing was put to the test.
TASKS_AN_HOUR = 300
#: What is stored of the samples: so many points of a curve.
CURVE_POINTS = 48
_PAGES = ("/", "/timeline", "/graph", "/stats", "/health", "/files", "/decisions")
_READS = (
    "/api/v1/tasks?limit=20",
    "/api/v1/ready?limit=20",
    "/api/v1/status",
    "/api/v1/journal?limit=20",
    "/api/v1/runs?limit=20",
    "/api/v1/search?text=task",
    "/metrics",
)


@dataclass
class Sample:
    """One look at the processes."""

    #: Hours since the load began.
    hours: float
    #: Process -> its resident size in MB.
    sizes: dict[str, float]


@dataclass
class Seen:
    """All that came of it."""

    samples: list[Sample] = field(default_factory=list)
    #: The most that each supervisor held, in MB, by pid and start.
    supervisors: dict[tuple[int, float], float] = field(default_factory=dict)
    #: Kind of request -> how many were answered.
    answered: dict[str, int] = field(default_factory=dict)
    #: Events that all readers together were sent.
    events: int = 0
    #: Tasks that were completed, by supervised runs and by the client of MCP.
    completed: int = 0
    #: What went wrong, in words.
    failures: list[str] = field(default_factory=list)

    def count(self, kind: str) -> None:
        """One more answer of a kind."""
        self.answered[kind] = self.answered.get(kind, 0) + 1


@dataclass(frozen=True)
class Verdict:
    """One thing that is judged."""

    what: str
    value: float
    unit: str
    #: The most that is allowed, or with ``at_least`` the least.
    target: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    def __str__(self) -> str:
        bound = f"{'>=' if self.at_least else '<='} {self.target:g} {self.unit}"
        return f"{self.what}: {self.value:.2f} {self.unit} ({bound}): {'met' if self.met else 'NOT MET'}"


def main(arguments: list[str]) -> int:
    """Soaks, judges, and writes both; 0 when all promises are kept."""
    options = _options(arguments)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {options.hours:g} hours on {options.database}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="orchestrion-soak-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        databases = _databases(options.database, folder, stack)
        seen = soak(databases, folder, options.hours)
    verdicts = list(judge(seen, databases.dialect, options.hours))
    for verdict in verdicts:
        print(verdict)
    for failure in seen.failures[:20]:
        print(f"failed: {failure}")
    _keep(options.keep, databases.dialect, options.hours, seen, verdicts)
    return 0 if all(verdict.met for verdict in verdicts) else 1


def soak(databases: Databases, folder: Path, hours: float) -> Seen:
    """Uses everything for so many hours; what was seen of it."""
    project = BenchProject(folder / "project", databases)
    project.make_repository(FILES)
    project.call("init")
    seen = Seen()
    with ExitStack() as stack:
        address, server = stack.enter_context(_server(project))
        worker = stack.enter_context(project.worker("--slots", "2", "--agent", "command"))
        client = stack.enter_context(Client([PROGRAM, "mcp"], cwd=project.tree, env=project.environment))
        watched = {"server": server, "worker": worker, "mcp": client.pid}
        asyncio.run(_Load(address, _token(project), client, seen).play(watched, hours))
    project.drop()
    return seen


def judge(seen: Seen, dialect: str, hours: float) -> Iterator[Verdict]:
    """What was promised, held against what was seen."""
    half = [sample for sample in seen.samples if sample.hours >= hours / 2]
    for process in seen.samples[-1].sizes:
        yield Verdict(f"{process}: slope over the second half", _slope(half, process), "MB/h", SLOPE_TARGET)
    largest = max(sample.sizes["server"] for sample in seen.samples)
    yield Verdict(f"server with {READERS} readers: the most", largest, "MB", SERVER_TARGET)
    peaks = list(seen.supervisors.values())
    yield Verdict(f"{len(peaks)} supervisors: the most of any", max(peaks, default=0.0), "MB", memory.TARGETS[dialect])
    yield Verdict("tasks completed", seen.completed, "tasks", TASKS_AN_HOUR * hours, at_least=True)
    yield Verdict("supervisors seen", len(peaks), "processes", 1, at_least=True)
    yield Verdict("requests that failed", len(seen.failures), "requests", 0)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Looks whether anything grows.")
    parser.add_argument("--hours", type=float, default=2.0, help="for how long; 0.1 is six minutes")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--keep", type=Path, default=KEPT, metavar="FILE", help="where the curve is written")
    options = parser.parse_args(arguments)
    if options.hours <= 0:
        parser.error("--hours must be more than 0")
    return options


def _databases(kind: str, folder: Path, stack: ExitStack) -> Databases:
    if kind == "sqlite":
        return SqliteFiles(folder)
    return PostgresDatabases(stack.enter_context(postgres.server(folder)))


def _slope(samples: list[Sample], process: str) -> float:
    """MB an hour of the straight line that fits best (least squares)."""
    if len(samples) < 2:
        raise SystemExit("soak: too short for a slope; give it more --hours")
    mean_hours = sum(sample.hours for sample in samples) / len(samples)
    mean_size = sum(sample.sizes[process] for sample in samples) / len(samples)
    spread = sum((sample.hours - mean_hours) ** 2 for sample in samples)
    return sum((one.hours - mean_hours) * (one.sizes[process] - mean_size) for one in samples) / spread


# -- the processes ------------------------------------------------------------------------------------


@contextmanager
def _server(project: BenchProject) -> Iterator[tuple[str, int]]:
    """A server of the project; its address and process id."""
    process = subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--log", "quiet"],
        cwd=project.tree,
        env=project.environment | {"ORCHESTRION_SERVE_RATE": "0", "ORCHESTRION_SERVE_COMMANDS": "true"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        yield line.split("//")[1].strip().rstrip("/"), process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _token(project: BenchProject) -> str:
    """A key that opens everything; this server may ask for one."""
    done = subprocess.run(
        [PROGRAM, "token", "create", "soak", "--role", "admin", "--json"],
        cwd=project.tree,
        env=project.environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    return str(json.loads(done.stdout)["token"])


# -- those who use it ---------------------------------------------------------------------------------


class _Load:
    """Everybody who uses the server, the worker and the MCP server at the same time."""

    def __init__(self, address: str, token: str, client: Client, seen: Seen) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._token = token
        self._client = client
        self._seen = seen
        self._made = 0

    async def play(self, watched: dict[str, int], hours: float) -> None:
        """Uses them and samples the processes for so long."""
        self._client.call("orchestrator_initialize_session")
        began = time.monotonic()
        end = began + hours * 3600
        readers = [asyncio.create_task(self._read_events(end)) for _ in range(READERS)]
        using = asyncio.create_task(self._use(end))
        while time.monotonic() < end:
            self._sample(watched, began)
            await asyncio.sleep(SAMPLE_S)
        await using
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        counts = json.loads(await self._ask("GET", "/api/v1/status"))["tasks"]
        self._seen.completed = counts.get("completed", 0)
        lost = sum(total for state, total in counts.items() if state in ("failed", "blocked", "review"))
        self._seen.failures += [f"tasks that were not completed: {counts}"] * bool(lost)

    def _sample(self, watched: dict[str, int], began: float) -> None:
        sizes = {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in watched.items()}
        self._seen.samples.append(Sample((time.monotonic() - began) / 3600, sizes))
        for child in psutil.Process(watched["worker"]).children():
            try:
                if "supervise" in child.cmdline():
                    key = (child.pid, child.create_time())
                    self._seen.supervisors[key] = max(self._seen.supervisors.get(key, 0.0), _peak_mb(child.pid))
            except (psutil.NoSuchProcess, FileNotFoundError):
                continue  # it ended between two glances

    async def _use(self, end: float) -> None:
        step = 0
        while time.monotonic() < end:
            began = time.monotonic()
            await self._guarded("page", self._ask("GET", _PAGES[step % len(_PAGES)]))
            await self._guarded("REST", self._ask("GET", _READS[step % len(_READS)]))
            if step % TASK_EVERY == 0:
                await self._guarded("task", self._make_task(large=step % LARGE_EVERY == 0))
                await self._guarded("MCP", asyncio.to_thread(self._work_by_mcp))
            if step % LOOK_EVERY == 0:
                await self._guarded("look", self._look_at_runs())
            step += 1
            await asyncio.sleep(max(0.0, began + STEP_S - time.monotonic()))

    async def _guarded(self, kind: str, work: Any) -> None:
        """Does one thing; that it failed is kept, and the soak goes on."""
        try:
            await work
        except (OSError, RuntimeError, SystemExit, ValueError, KeyError, asyncio.IncompleteReadError) as problem:
            self._seen.failures.append(f"{kind}: {type(problem).__name__}: {str(problem)[:300]}")
        else:
            self._seen.count(kind)

    async def _make_task(self, *, large: bool) -> None:
        self._made += 1
        files = LARGE if large else SMALL
        command = (
            f"mkdir -p done/{self._made}; "
            f"for n in $(seq {files}); do seq 40 > done/{self._made}/$n.txt; echo file $n; done; sleep 3"
        )
        body = {"title": f"task {self._made}", "agent": "command", "run": command, "tags": ["soak"]}
        await self._ask("POST", "/api/v1/tasks", json.dumps(body))

    def _work_by_mcp(self) -> None:
        """An agent's whole day: plan, take up, ask, report."""
        client = self._client
        plan = {"title": "Write the parser", "description": "All of it. " * 20, "specialist_type": "coder"}
        task = client.call("orchestrator_plan_task", **plan)["task_id"]
        run = client.call("orchestrator_execute_task", task_id=task)["run"]
        client.call("orchestrator_query_tasks", status=["pending"], limit=20)
        client.call("orchestrator_get_status")
        report = {"summary": "It is written.", "detailed_work": "def parse(): ...\n" * 200, "next_action": "complete"}
        client.call("orchestrator_complete_task", task_id=task, run=run, **report)

    async def _look_at_runs(self) -> None:
        """The last runs that changed something: their pages, diffs and logs, by page, REST and MCP."""
        runs = json.loads(await self._ask("GET", "/api/v1/runs?limit=100&state=succeeded"))["runs"]
        changed = [run for run in runs if run["files_changed"]]
        largest = max(changed, key=lambda run: run["files_changed"], default=None)
        for run in {one["id"]: one for one in [*changed[:2], largest] if one}:
            for page in (f"/runs/{run}", f"/runs/{run}/diff", f"/runs/{run}/log"):
                await self._ask("GET", page)
                await self._ask("GET", f"/api/v1{page}")
            await asyncio.to_thread(self._client.call, "orchestrator_run_status", run_id=run, include_log=True)

    async def _ask(self, method: str, path: str, body: str = "") -> str:
        """One request on a connection of its own. Raises RuntimeError if it is not answered with success."""
        reader, writer = await self._request(method, path, body)
        answer = await reader.read()
        writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] not in (b"200", b"201"):
            raise RuntimeError(f"{method} {path}: {answer[:300]!r}")
        if b"transfer-encoding: chunked" in head.lower():
            return _joined(content).decode()
        return content.decode()

    async def _request(
        self, method: str, path: str, body: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
        )
        return reader, writer

    async def _read_events(self, end: float) -> None:
        """One reader of events, connected from the beginning to the end."""
        reader, writer = await self._request("GET", "/api/v1/events")
        try:
            while line := await reader.readline():
                self._seen.events += line.startswith(b"event: ")
            if time.monotonic() < end:
                self._seen.failures.append("a stream of events ended")
        except OSError as problem:
            self._seen.failures.append(f"a stream of events broke: {problem}")
        finally:
            writer.close()


def _joined(chunks: bytes) -> bytes:
    """The content of an answer in chunks. Raises ValueError when its end is missing."""
    content = bytearray()
    while True:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return bytes(content)
        content += chunks[:length]
        chunks = chunks[length + 2 :]


def _peak_mb(pid: int) -> float:
    """The most that a process ever held, in MB; 0 when it has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# -- what is kept ---------------------------------------------------------------------------------------


def stored(file: Path = KEPT) -> dict[str, Any]:
    """What the last soaks found, by database; empty when there were none."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _keep(file: Path, dialect: str, hours: float, seen: Seen, verdicts: list[Verdict]) -> None:
    """Writes the judgement and a curve beside those of the other database."""
    everything = stored(file)
    everything[dialect] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hours": hours,
        "answered": seen.answered,
        "events": seen.events,
        "completed": seen.completed,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "curve": list(_curve(seen.samples, hours)),
    }
    file.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    print(f"written: {file}")


def _curve(samples: list[Sample], hours: float) -> Iterator[dict[str, float]]:
    """Medians of equal pieces of time: ``hours``, and MB by process."""
    place: Callable[[Sample], int] = lambda sample: min(CURVE_POINTS - 1, int(sample.hours / hours * CURVE_POINTS))  # noqa: E731
    for point in range(CURVE_POINTS):
        piece = [sample for sample in samples if place(sample) == point]
        if piece:
            sizes = {name: median([sample.sizes[name] for sample in piece]) for name in piece[0].sizes}
            yield {
                "hours": round((point + 0.5) * hours / CURVE_POINTS, 3),
                **{k: round(v, 2) for k, v in sizes.items()},
            }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
