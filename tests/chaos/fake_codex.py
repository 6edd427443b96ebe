"""A Codex that does one thing only: ``fake_codex.py BEHAVIOUR FOLDER``, and all options of the real one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

ATTEMPT = int(os.environ.get("ORCHESTRION_ATTEMPT", "1"))


def say(**line: object) -> None:
    """One event."""
    print(json.dumps(line, separators=(",", ":")), flush=True)


def message(text: str) -> None:
    say(type="item.completed", item={"id": "item_1", "type": "agent_message", "text": text})


def patient() -> None:
    """Works until it is told by a file to be done, deaf to SIGTERM; at once, when it is tried again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Path(sys.argv[2], f"pids-{os.environ['ORCHESTRION_TASK']}").open("a") as pids:
        pids.write(f"{os.getpid()}\n{os.getppid()}\n")
    Path("part.txt").write_text(f"{ATTEMPT}\n")
    while ATTEMPT == 1 and not Path(sys.argv[2], "go").exists():
        message("I work.")
        time.sleep(0.1)


def endless_line() -> None:
    """One line of 50 MB that never ends, and then goes on as if nothing were."""
    for _ in range(800):
        os.write(1, b"x" * 65_536)
    os.write(1, b"\n")


def main() -> None:
    """Hears the prompt to its end, behaves, and has done its work."""
    sys.stdin.read()
    say(type="thread.started", thread_id=f"t-{os.getpid()}")
    globals()[sys.argv[1]]()
    Path("done.txt").write_text(f"{ATTEMPT}\n")
    message("All done.")
    say(type="turn.completed", usage={"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 1})


if __name__ == "__main__":
    main()
