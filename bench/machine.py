"""What kind of machine the numbers come from."""

from __future__ import annotations

import os
import platform
import sqlite3
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.measure import median, milliseconds_of
from bench.report import Machine


def describe(folder: Path, postgres: str) -> Machine:
    """The machine's facts; ``folder`` is where the databases lie, ``postgres`` the server's version."""
    return Machine(
        {
            "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "processors": f"{os.cpu_count()} x {_processor()}",
            "memory": f"{_memory_gb():.0f} GB",
            "a durable write of 8 KB": f"{_durable_write_ms(folder):.2f} ms (median)",
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            "PostgreSQL": f"{postgres}, psycopg {version('psycopg')}, over a local socket",
            "load when it began": f"{os.getloadavg()[0]:.1f}",
        }
    )


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _durable_write_ms(folder: Path) -> float:
    """What a commit costs the disk at least."""
    path = folder / "durable-write"
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        return median([milliseconds_of(partial(_write, file, number)) for number in range(200)])
    finally:
        os.close(file)
        path.unlink()


def _write(file: int, number: int) -> None:
    os.pwrite(file, b"\1" * 8192, number * 8192)
    os.fsync(file)
