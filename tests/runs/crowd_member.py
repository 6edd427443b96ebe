"""One agent of a crowd: says who it is, waits until all are there, and looks whether anybody came too near.

    python crowd_member.py FOLDER COUNT

``FOLDER/signs`` gets a file named after the run; when there are COUNT of them and somebody
has made ``FOLDER/open``, it goes on. What it found before and after stands in
``FOLDER/records``. It leaves one file of its own in the folder it was started in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 240.0


def main(folder: Path, count: int) -> int:
    """One agent; 0 when everybody came."""
    run = os.environ["ORCHESTRION_RUN"].rpartition("/")[2]
    _git("config", "crowd.mark", run)
    Path(f"member-{run}.txt").write_text(run)
    Path(".git", "crowd-private").write_text(run)
    record = {"environment": _environment(), "cwd": str(Path.cwd()), "git": _git("rev-parse", "--absolute-git-dir")}
    (folder / "signs" / run).write_text(str(os.getpid()))
    together = _wait(folder, count)
    record |= {
        "together": together,
        "mark": _git("config", "crowd.mark"),
        "private": Path(".git", "crowd-private").read_text(),
        "members": sorted(file.name for file in Path.cwd().glob("member-*.txt")),
        "home": sorted(str(file) for file in Path.home().rglob("*")),
        "branch": _git("symbolic-ref", "HEAD"),
    }
    (folder / "records" / f"{run}.json").write_text(json.dumps(record))
    return 0 if together >= count else 1


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("ORCHESTRION_")}


def _wait(folder: Path, count: int) -> int:
    """How many there are at last."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        here = len(list((folder / "signs").iterdir()))
        if here >= count and (folder / "open").exists():
            return here
        time.sleep(0.2)
    return len(list((folder / "signs").iterdir()))


def _git(*arguments: str) -> Any:
    done = subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
