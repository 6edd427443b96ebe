"""Row 10: the server with 200 readers of events and 50 requests a second.

The readers and the requests come from this process, over real connections. One request in five
makes a task; so every reader is told of all of them, and every one is counted. Any answer that is
no success, any event that does not arrive, and any stream that breaks ends the measurement.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.databases import Databases
from bench.measure import Measurement, percentile
from bench.project import PATIENCE_S, PROGRAM, BenchProject

READERS, PER_SECOND = 200, 50
FULL_S, QUICK_S = 120.0, 20.0
#: One request in so many makes a task.
MAKES = 5
#: The most memory, in MB of a million bytes; the most it may grow; the longest that 95 of 100 may take.
TARGET_MB, TARGET_GROWTH, TARGET_MS = 150.0, 1.1, 500.0
_READS = ("/api/v1/ready?limit=20", "/api/v1/tasks?limit=20", "/api/v1/status", "/api/v1/journal?limit=20")


@dataclass
class Seen:
    """What came of it."""

    #: How long each answer took, in milliseconds.
    answers: list[float] = field(default_factory=list)
    #: How long after its answer each event was at each reader, in milliseconds.
    events: list[float] = field(default_factory=list)
    #: Task -> when its making was answered.
    made: dict[str, float] = field(default_factory=dict)
    #: Task -> how many readers were told.
    told: dict[str, int] = field(default_factory=dict)
    #: When each of them was told, by task.
    arrived: list[tuple[str, float]] = field(default_factory=list)


def measure(databases: Databases, folder: Path, *, quick: bool = False) -> list[Measurement]:
    """The measurements of row 10 on one kind of database."""
    project = BenchProject(folder / f"served-{databases.dialect}", databases)
    project.call("init")
    seconds = QUICK_S if quick else FULL_S
    with _server(project) as (address, process):
        rest = process.memory_info().rss / 1e6
        key = (project.tree / ".orchestrion" / "key").read_text(encoding="utf-8").strip()
        seen, sizes = asyncio.run(_crowd(address, key, process, seconds))
    project.drop()
    asked = len(seen.answers) / seconds
    for task, at in seen.arrived:
        seen.events.append(max(0.0, at - seen.made[task]) * 1000)
    key, where = f"served.{databases.dialect}", databases.title
    half = sizes[len(sizes) // 2]
    what = f"{where}: {READERS} readers of events, {asked:.0f} requests a second"
    return [
        Measurement(10, f"{key}.memory", f"{what}: memory", max(sizes), "MB", rest, "at rest", TARGET_MB, "value"),
        Measurement(
            10, f"{key}.growth", f"{what}: memory at the end", sizes[-1], "MB", half, "half-way", TARGET_GROWTH
        ),
        _times(f"{key}.answers", f"{what}: 95 of 100 answers", seen.answers),
        _times(f"{key}.events", f"{what}: 95 of 100 events", seen.events),
    ]


def _times(key: str, what: str, samples: list[float]) -> Measurement:
    middle = max(percentile(samples, 0.5), 0.001)
    return Measurement(10, key, what, percentile(samples, 0.95), "ms", middle, "the middle one", TARGET_MS, "value")


@contextmanager
def _server(project: BenchProject) -> Iterator[tuple[str, psutil.Process]]:
    child = subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--log", "quiet"],
        cwd=project.tree,
        env=project.environment | {"ORCHESTRION_SERVE_RATE": "0"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert child.stderr is not None
        line = child.stderr.readline().decode()
        yield line.split("//")[1].strip().rstrip("/"), psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(PATIENCE_S)


async def _crowd(address: str, key: str, process: psutil.Process, seconds: float) -> tuple[Seen, list[float]]:
    host, _, port = address.rpartition(":")
    seen = Seen()
    readers = [asyncio.create_task(_read(host, int(port), seen)) for _ in range(READERS)]
    await asyncio.sleep(1.0)
    sizes: list[float] = []
    end, place = time.perf_counter() + seconds, 0
    asking: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()
    while time.perf_counter() < end:
        asking.add(asyncio.create_task(_ask(host, int(port), key, place, seen)))
        place += 1
        if place % PER_SECOND == 0:
            sizes.append(process.memory_info().rss / 1e6)
            _raise_broken(readers, asking)
        await asyncio.sleep(max(0.0, begun + place / PER_SECOND - time.perf_counter()))
    await asyncio.gather(*asking)
    await _all_told(seen, readers)
    sizes.append(process.memory_info().rss / 1e6)
    for reader in readers:
        reader.cancel()
    return seen, sizes


def _raise_broken(readers: list[asyncio.Task[None]], asking: set[asyncio.Task[None]]) -> None:
    for task in [*readers, *asking]:
        if task.done():
            task.result()
            asking.discard(task)


async def _all_told(seen: Seen, readers: list[asyncio.Task[None]]) -> None:
    end = time.perf_counter() + PATIENCE_S
    while any(seen.told.get(task, 0) < READERS for task in seen.made):
        for reader in readers:
            if reader.done():
                reader.result()
        if time.perf_counter() > end:
            late = sum(seen.told.get(task, 0) < READERS for task in seen.made)
            raise RuntimeError(f"{late} of {len(seen.made)} events did not reach all readers")
        await asyncio.sleep(0.05)


async def _read(host: str, port: int, seen: Seen) -> None:
    """One reader of events, until it is cancelled. Raises if the stream ends."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /api/v1/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    created = False
    try:
        while line := await reader.readline():
            if line.startswith(b"event: "):
                created = line == b"event: task.created\n"
            elif line.startswith(b"data: ") and created:
                task = json.loads(line[6:])["task"]
                seen.told[task] = seen.told.get(task, 0) + 1
                seen.arrived.append((task, time.perf_counter()))
        raise RuntimeError("a stream of events ended")
    finally:
        writer.close()


async def _ask(host: str, port: int, key: str, place: int, seen: Seen) -> None:
    """One request on a connection of its own, with the key. Raises if it is not answered with success."""
    body = json.dumps({"title": f"task {place}"}) if place % MAKES == 0 else ""
    path = "/api/v1/tasks" if body else _READS[place % len(_READS)]
    method = "POST" if body else "GET"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = await reader.read()
    writer.close()
    ended = time.perf_counter()
    head, _, content = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] not in (b"200", b"201"):
        raise RuntimeError(f"{method} {path}: {answer[:300]!r}")
    seen.answers.append((ended - began) * 1000)
    if body:
        seen.made[json.loads(content)["id"]] = ended
