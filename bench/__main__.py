"""``python -m bench [--rows 1,4] [--quick] [--check]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import cold_start, door, drain, launch, machine, memory, page, postgres, report, scaling, served, soak
from bench.databases import Databases, PostgresDatabases, SqliteFiles
from bench.measure import Measurement

ROOT = Path(__file__).parent.parent
STORED = Path(__file__).with_name("stored.json")
PAGE = ROOT / "docs" / "benchmarks.md"


def main(arguments: list[str]) -> int:
    """Measures; writes the page, or compares with what is stored. The exit code."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="orchestrion-bench-", dir=options.folder) as name:
        folder = Path(name)
        with postgres.server(folder) as address:
            where = machine.describe(folder, postgres.version(address))
            databases = [SqliteFiles(folder), PostgresDatabases(address)]
            measured = list(_measure(options.rows, databases, folder, quick=options.quick))
            if options.check:
                return _check(measured, databases, folder)
    if not options.quick:
        everything = report.merged(report.of_before(STORED), measured)
        report.write_stored(STORED, everything, where, options.date)
        PAGE.write_text(report.page(everything, where, options.date, soak.stored()), encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}, {STORED.relative_to(ROOT)}")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Orchestrion.")
    parser.add_argument("--rows", type=_rows, default=sorted(ROWS), metavar="N,N", help="only these rows")
    parser.add_argument("--quick", action="store_true", help="small and rough; writes nothing")
    parser.add_argument("--check", action="store_true", help="fail where a ratio is 30 %% worse than the stored one")
    parser.add_argument("--folder", type=Path, help="where the databases lie; a real disk (default: temporary files)")
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="date of the measurement")
    options = parser.parse_args(arguments)
    if options.check and options.quick:
        parser.error("--check compares with full measurements; leave --quick out")
    return options


def _rows(text: str) -> list[int]:
    rows = sorted({int(part) for part in text.split(",")})
    if not set(rows) <= ROWS.keys():
        raise argparse.ArgumentTypeError(f"rows are {', '.join(map(str, sorted(ROWS)))}")
    return rows


def _measure(rows: list[int], databases: list[Databases], folder: Path, *, quick: bool) -> Iterator[Measurement]:
    for row in rows:
        began = time.monotonic()
        print(f"row {row}: {report.TITLES[row]}", flush=True)
        for one in ROWS[row](databases, folder, quick):
            print(f"  {_shown(one)}", flush=True)
            yield one
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


def _shown(one: Measurement) -> str:
    mark = {None: "-", True: "met", False: "NOT MET"}[one.met]
    return f"{one.what}: {one.value:.3g} {one.unit}, bound {one.bound:.3g}, ratio {one.ratio:.2f}: {mark}"


def _check(measured: list[Measurement], databases: list[Databases], folder: Path) -> int:
    stored = {one.key: one.ratio for one in report.read_stored(STORED)}
    if not stored:
        print(f"nothing to compare with: there is no {STORED.relative_to(ROOT)}; run `make bench` first")
        return 1
    suspects = report.worse(measured, stored)
    if suspects:
        print("measured once more, as these look worse: " + ", ".join(one.key for one in suspects))
        keys = {one.key for one in suspects}
        rows = sorted({one.row for one in measured if one.key in keys})
        again = list(_measure(rows, databases, folder / "again", quick=False))
        suspects = [one for one in report.worse(again, stored) if one.key in keys]
    for one in suspects:
        print(f"worse: {one}")
    print("nothing is worse than stored" if not suspects else f"{len(suspects)} worse than stored")
    return 1 if suspects else 0


def _on_each(
    measure: Callable[..., list[Measurement]], *, on_disk: bool = False
) -> Callable[[list[Databases], Path, bool], Iterator[Measurement]]:
    """The measurement on every kind of database; ``on_disk`` ones want a folder for projects."""

    def all_of_them(databases: list[Databases], folder: Path, quick: bool) -> Iterator[Measurement]:
        for one in databases:
            yield from measure(one, folder, quick=quick) if on_disk else measure(one, quick=quick)

    return all_of_them


def _cold_starts(databases: list[Databases], folder: Path, quick: bool) -> Iterator[Measurement]:
    yield from cold_start.measure_version(quick=quick)
    yield from _on_each(cold_start.measure_hook, on_disk=True)(databases, folder, quick)
    yield from _on_each(cold_start.measure_ready, on_disk=True)(databases, folder, quick)


def _doors(databases: list[Databases], folder: Path, quick: bool) -> Iterator[Measurement]:
    yield from door.measure_lists()
    yield from _on_each(door.measure_start, on_disk=True)(databases, folder, quick)


ROWS: dict[int, Callable[[list[Databases], Path, bool], Iterator[Measurement]]] = {
    1: _on_each(drain.measure),
    2: _on_each(scaling.measure_open),
    3: _on_each(scaling.measure_history),
    4: _cold_starts,
    5: _on_each(launch.measure, on_disk=True),
    6: _on_each(memory.measure, on_disk=True),
    7: _doors,
    8: _on_each(door.measure_calls, on_disk=True),
    9: _on_each(page.measure, on_disk=True),
    10: _on_each(served.measure, on_disk=True),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
