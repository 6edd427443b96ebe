"""``orchestrion hook EVENT``: what Claude Code calls at its own moments, with JSON on standard input.

It is called at every file that an agent writes, so nothing is imported that a call does not
need, and no command-line library at all. And it stands in a person's way if it fails: whatever
happens here, the answer is an exit code of 0, nothing on standard output, and a line on
standard error for those who look for it. The one exception is asked for: a task of the client
that must not be completed yet is refused with exit code 2.

    SessionStart     the session is known to us, and told once what is going on
    PostToolUse      the file that a tool wrote is recorded
    Stop             the session is told if it leaves a run behind that it claimed
    TaskCompleted    the same
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrion.core.rights import run_of

if TYPE_CHECKING:
    from orchestrion.orchestrator.hooking import FileHooks, Sitting

#: A hook that found no answer in this time gives up, in seconds. Checks of a task have their own limit.
PATIENCE_S = 10.0
#: What is read at most, in bytes: the input holds the file that was written, twice.
MOST_BYTES = 256 * 1024 * 1024
#: Exit code that refuses.
REFUSED = 2
#: Starts that are told what is going on.
STARTS = ("startup", "resume", "compact")
#: Where a tool's input names the file.
_PATHS = ("file_path", "notebook_path")
_USAGE = "usage: orchestrion hook SessionStart|PostToolUse|Stop|TaskCompleted <INPUT.json"


def run(arguments: list[str]) -> NoReturn:
    """Answers one hook, and ends the process at once: to tidy it up would take as long as the work."""
    gc.disable()
    code = main(arguments)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever asked is gone
            stream.flush()
    os._exit(code)


def main(arguments: list[str], folder: str | None = None) -> int:
    """Answers one hook; ``folder`` is the project's, if it is not where the session sits. Returns the exit code."""
    try:
        asked = _asked(arguments)
        with _no_longer_than(PATIENCE_S) as patience:
            return _EVENTS[asked["hook_event_name"]](asked, folder, patience)
    except Exception as error:  # noqa: BLE001 - a hook never stops anybody's agent
        print(f"orchestrion hook: {_line(error)}", file=sys.stderr)
        return 0


class _Unfit(Exception):
    """What came in is no hook's input."""


class _TooLate(Exception):
    """The store does not answer."""


def _asked(arguments: list[str]) -> dict[str, Any]:
    """The hook's input. Raises _Unfit."""
    if sys.stdin.isatty():
        raise _Unfit(_USAGE)
    raw = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise _Unfit(f"the input is larger than {MOST_BYTES:,} bytes")
    try:
        asked = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _Unfit(f"the input is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _Unfit("the input is not an object")
    event = arguments[0] if arguments else asked.get("hook_event_name")
    if event not in _EVENTS:
        raise _Unfit(f"nothing to do for the hook {str(event)[:60]!r}; {_USAGE}")
    return {**asked, "hook_event_name": event}


# -- events -----------------------------------------------------------------------------------


def _session_start(asked: Mapping[str, Any], folder: str | None, patience: Callable[[], None]) -> int:
    source = _text(asked, "source") or STARTS[0]
    if run_of(os.environ) or source not in STARTS:
        return 0  # an agent that a worker started was told by its brief
    with _opened(asked, folder) as opened:
        from orchestrion.orchestrator.hooking import SessionHooks

        handle, text = SessionHooks(opened).begins(_sitting(asked), source)
    _let_commands_know(handle)
    if text:
        _answer({"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": text}})
    return 0


def _post_tool_use(asked: Mapping[str, Any], folder: str | None, patience: Callable[[], None]) -> int:
    path = _written(asked)
    if path is None:
        return 0
    op = "created" if _mapping(asked, "tool_response").get("type") == "create" else "modified"
    with _opened(asked, folder) as opened:
        if opened.caller.run:
            opened.written_by_run(opened.caller.run, path, op)
        elif not opened.caller.elsewhere:
            opened.written(_sitting(asked), path, op)
    return 0


def _stop(asked: Mapping[str, Any], folder: str | None, patience: Callable[[], None]) -> int:
    reason = _why_not(asked, folder, patience, "stop")
    if reason:
        _answer({"decision": "block", "reason": reason})
    return 0


def _task_completed(asked: Mapping[str, Any], folder: str | None, patience: Callable[[], None]) -> int:
    reason = _why_not(asked, folder, patience, "task")
    if reason:
        print(reason, file=sys.stderr)
    return REFUSED if reason else 0


_EVENTS: dict[Any, Callable[[Mapping[str, Any], str | None, Callable[[], None]], int]] = {
    "SessionStart": _session_start,
    "PostToolUse": _post_tool_use,
    "Stop": _stop,
    "TaskCompleted": _task_completed,
}


def _why_not(asked: Mapping[str, Any], folder: str | None, patience: Callable[[], None], at: str) -> str | None:
    if run_of(os.environ):
        return None
    with _opened(asked, folder) as opened:
        from orchestrion.orchestrator.hooking import SessionHooks

        patience()  # from here on checks may run
        return SessionHooks(opened).may_stop(_sitting(asked), at)


# -- what they have in common -----------------------------------------------------------------


def _opened(asked: Mapping[str, Any], folder: str | None) -> FileHooks:
    """The project where the session sits. Raises NotFound where there is none, or no store of one."""
    from pathlib import Path

    from orchestrion.core.project import VARIABLE, find_project

    start = Path(os.environ.get("CLAUDE_PROJECT_DIR") or _text(asked, "cwd") or Path.cwd())
    project = find_project(start, Path(folder) if folder else None, os.environ)

    from orchestrion.orchestrator.hooking import FileHooks

    return FileHooks.open(project.root, environ={**os.environ, VARIABLE: str(project.root)}, create=False)


def _sitting(asked: Mapping[str, Any]) -> Sitting:
    from orchestrion.orchestrator.hooking import Sitting

    external = _text(asked, "session_id")
    if not external:
        raise _Unfit("the input names no session")
    return Sitting(external, folder=_text(asked, "cwd"))


def _written(asked: Mapping[str, Any]) -> str | None:
    given = _mapping(asked, "tool_input")
    return next((path for key in _PATHS if isinstance(path := given.get(key), str) and path), None)


def _let_commands_know(handle: str) -> None:
    """Commands that the agent types will name their session: the client sources this file before each."""
    file = os.environ.get("CLAUDE_ENV_FILE")
    if file:
        with open(file, "a", encoding="utf-8") as stream:  # noqa: PTH123 - a Path costs more than the rest
            stream.write(f"export ORCHESTRION_SESSION={handle}\n")


def _answer(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _text(asked: Mapping[str, Any], key: str) -> str:
    found = asked.get(key)
    return found if isinstance(found, str) else ""


def _mapping(asked: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = asked.get(key)
    return found if isinstance(found, dict) else {}


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[Callable[[], None]]:
    """Ends what takes longer with _TooLate; the function that is given lifts the limit."""

    def ring(number: int, frame: object) -> None:
        raise _TooLate(f"no answer within {seconds:g} s; is the store locked?")

    def lift() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield lift
    finally:
        lift()
        signal.signal(signal.SIGALRM, before)


def _line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    return " ".join(text.split())[:500]
