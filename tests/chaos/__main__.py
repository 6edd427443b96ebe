"""Trouble of every kind, one after the other, and the proof that all ended as it must.

    python -m tests.chaos [--long] [--only NAME ...] [--part N] [--seed N]

One line for each scenario: its name, its seconds, and ok or what is wrong. Ends with 1 if
something is.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.all import SCENARIOS, Impossible, Play, short


def main() -> int:
    """Plays what the command line asks for."""
    asked = _asked()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    names = list(dict.fromkeys(asked.only or ())) or (list(SCENARIOS) if asked.long else short())
    if asked.part:
        names = random.Random(seed).sample(names, min(asked.part, len(names)))
    folder = Path(tempfile.mkdtemp(prefix="orchestrion-chaos-"))
    print(f"seed {seed}, {len(names)} scenarios, folder {folder}", flush=True)
    began, wrong = time.monotonic(), 0
    play = Play(folder, long=asked.long, seed=seed)
    try:
        for name in names:
            wrong += not _perform(play, name)
    finally:
        play.close()
    print(f"{len(names) - wrong} ok, {wrong} wrong, {time.monotonic() - began:.0f} s")
    if not wrong and not asked.keep:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="larger and longer, and what needs root")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--part", type=int, default=None, metavar="N", help="so many of them, by the seed")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    return parser.parse_args()


def _perform(play: Play, name: str) -> bool:
    """Plays one and prints its line; whether all was well, or it cannot be played here."""
    began = time.monotonic()
    try:
        play.perform(SCENARIOS[name])
        told = "ok"
    except (Impossible, pytest.skip.Exception) as impossible:
        told = f"not played: {' '.join(str(impossible).split())}"
    except Exception as problem:  # noqa: BLE001 - whatever it is, the next scenario is played
        told = f"WRONG\n{''.join(traceback.format_exception(problem, limit=-2))}"
    print(f"{name:28} {time.monotonic() - began:6.1f} s  {told}", flush=True)
    return not told.startswith("WRONG")


if __name__ == "__main__":
    sys.exit(main())
