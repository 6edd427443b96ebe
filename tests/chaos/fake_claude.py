"""A Claude Code that does one thing only: ``fake_claude.py BEHAVIOUR FOLDER``, and all options of the real one.

It speaks as the real one does, line by line, and goes wrong in the way that its behaviour says.
It needs nothing but the standard library, and hears its prompt out before anything else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ATTEMPT = int(os.environ.get("ORCHESTRION_ATTEMPT", "1"))


def say(**line: Any) -> None:
    """One line of its own."""
    print(json.dumps(line), flush=True)


def raw(text: bytes) -> None:
    """What is no line of its own."""
    while text:
        text = text[os.write(1, text) :]


def begin() -> None:
    say(type="system", subtype="init", session_id=f"s-{os.getpid()}", model="fake")


def work() -> None:
    """What was asked of it: a file that says by which attempt it was made."""
    Path("done.txt").write_text(f"{ATTEMPT}\n")


def think(text: str = "I work.") -> None:
    message = {"id": f"m-{time.monotonic_ns()}", "model": "fake", "content": [{"type": "text", "text": text}]}
    say(type="assistant", message={**message, "usage": {"input_tokens": 10, "output_tokens": 1}})


def end(**more: Any) -> None:
    """Its result; success, unless ``more`` says otherwise."""
    say(**{"type": "result", "subtype": "success", "is_error": False, "result": "All done.", **more})


# -- behaviours ---------------------------------------------------------------------------------------


def half_line() -> None:
    """Dies in the middle of a line, as one does that an error overtakes."""
    work()
    raw(b'{"type": "assistant", "message": {"id": "m-1", "content": [{"type": "te')
    sys.exit(1)


def half_line_killed() -> None:
    """Is killed in the middle of a line, once."""
    if ATTEMPT == 1:
        raw(b'{"type": "result", "subtype": "success", "is_error": false, "result": "All d')
        os.kill(os.getpid(), signal.SIGKILL)
    work()
    end()


def not_json() -> None:
    """Speaks another language."""
    work()
    raw(b"Traceback (most recent call last):\n{'type': 'result'}\n<html>503</html>\n")
    sys.exit(3)


def no_result() -> None:
    """Ends well, without a word of what came of it, once."""
    work()
    if ATTEMPT > 1:
        end()


def false_success() -> None:
    """Says success and means a failure."""
    work()
    end(is_error=True, result="I could not do it")


def unreachable() -> None:
    """Its service is gone, once: what the real one says when nobody answers."""
    if ATTEMPT > 1:
        work()
        end()
        sys.exit(0)
    for attempt in (1, 2, 3):
        say(type="system", subtype="api_retry", attempt=attempt, error_status=None)
    end(
        is_error=True,
        result="API Error: Unable to connect to API (ECONNREFUSED)",
        terminal_reason="api_error",
        api_error_status=None,
    )
    sys.exit(1)


def empty_promise() -> None:
    """Says that all is done, and did nothing."""
    end()


def nonsense() -> None:
    """Lines that are JSON and still mean nothing; in the end it has done its work all the same."""
    for line in NONSENSE:
        raw(line.encode() + b"\n")
    work()
    think()
    end()


#: Of wrong types, too deep, too large, not finite.
NONSENSE = (
    "[" * 100_000,
    '{"type":' * 50_000,
    "NaN",
    '{"type": "assistant", "message": 7}',
    '{"type": "assistant", "message": {"id": "x", "model": "m", "content": 7, "usage": 9}}',
    '{"type": "assistant", "message": {"id": [1], "model": {}, "content": [7, null, {"type": ["text"]}]}}',
    '{"type": "assistant", "message": {"content": [{"type": "tool_use", "name": "TodoWrite", "input": {"todos": 5}}]}}',
    '{"type": "user", "tool_result_meta": 7, "message": {"content": [{"type": "tool_result", "content": 7}]}}',
    '{"type": "user", "message": {"content": [{"type": "tool_result", "content": [[[]]], "tool_use_id": {}}]}}',
    '{"type": "result", "is_error": "perhaps", "queued_turn_count": "many", "errors": 7}',
    '{"type": "result", "queued_turn_count": 1e999, "api_error_status": "soon", "errors": {"a": 1}}',
    '{"type": "result", "model_usage_since_last_result": {"m": {"costUSD": "much", "inputTokens": -1e999}}}',
    '{"type": "result", "model_usage_since_last_result": {"m": {"costUSD": NaN, "inputTokens": 1e30}}}',
    '{"type": "assistant", "message": {"id": "y", "usage": {"input_tokens": 1e400, "output_tokens": "\\u0000"}}}',
    '{"type": "system", "subtype": "init", "session_id": "\\u0000\\ud800", "model": {"a": "\\ud800"}}',
    '{"type": "assistant", "message": {"id": "z", "content": [{"type": "text", "text": "\\u0000\\ud800"}]}}',
)


def endless_line() -> None:
    """One line of 50 MB that never ends, and then goes on as if nothing were."""
    for _ in range(800):
        raw(b"x" * 65_536)
    raw(b"\n")
    work()
    end()


def binary() -> None:
    """Writes what is no text at all between its lines."""
    for _ in range(20):
        think()
        raw(os.urandom(50_000) + b"\0" * 1000 + b"\n")
    work()
    end()


def lingering() -> None:
    """Has its last word, and does not go."""
    work()
    end()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def patient() -> None:
    """Works until it is told by a file to be done; says who it is. At once, when it is tried again."""
    _work_until_told()
    work()
    end()


def talkative() -> None:
    """The same; but what it says then is longer than anybody hears to the end, once."""
    _work_until_told()
    if ATTEMPT == 1:
        think("x" * 3_900_000)
        time.sleep(600)
    work()
    end()


def _work_until_told() -> None:
    with Path(sys.argv[2], f"pids-{os.environ['ORCHESTRION_TASK']}").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    Path("part.txt").write_text(f"{ATTEMPT}\n")
    while ATTEMPT == 1 and not Path(sys.argv[2], "go").exists():
        think()
        time.sleep(0.1)


def main() -> None:
    """Hears the prompt, and behaves."""
    sys.stdin.readline()
    behaviour: Callable[[], object] = globals()[sys.argv[1]]
    begin()
    behaviour()


if __name__ == "__main__":
    main()
