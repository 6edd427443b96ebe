"""A program that speaks Claude Code's stream-json, works like a shell command, and keeps a ledger.

    python scripted_claude.py --ledger FOLDER [--resume SESSION]

Its first message names the work: ``[[work: {"steps": [...]}]]``. Each step is a call of the
tool Bash. Between its messages it pauses, now and then in the middle of a line. What it
reports are random numbers; what they were stands in the ledger, one file for each process:
a line on disk before anything is printed, another one after it was flushed. So whoever
kills it knows to within one message what it had said.

Like the real one: a message of the model comes in several lines that share an id, whose
output tokens are not final; the exact numbers since the last result come with the next
result; costs are added up over the processes of a session.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

MODEL, HELPER = "claude-scripted", "claude-scripted-small"
_WORK = re.compile(r"\[\[work: (.*?)\]\]$", re.MULTILINE)
#: What the work may say beside its ``steps``.
_PLAIN: dict[str, Any] = {"steps": [], "pause_s": 0.08, "overloaded_until": 0}
_CHECKED = "## Your work was checked"


class Ledger:
    """What was about to be printed, and what was; on disk when a call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        run = os.environ.get("ORCHESTRION_RUN", "/R0").rpartition("/")[2]
        self._file = (folder / f"{run}-{time.time_ns()}-{os.getpid()}.jsonl").open("a", encoding="utf-8")

    def write(self, **facts: Any) -> None:
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class Session:
    """What outlives a process: its work, and what it cost."""

    def __init__(self, folder: Path, asked: str | None) -> None:
        self.id = asked or str(uuid.uuid4())
        self._file = folder / "sessions" / f"{self.id}.json"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self.is_known = asked is None or self._file.exists()
        self.facts: dict[str, Any] = {"work": {}, "micros": 0}
        if asked and self.is_known:
            self.facts = json.loads(self._file.read_text(encoding="utf-8"))

    def save(self) -> None:
        half = self._file.with_suffix(".half")
        half.write_text(json.dumps(self.facts), encoding="utf-8")
        half.replace(self._file)


class Ear:
    """Standard input, line by line, without waiting unless asked to."""

    def __init__(self) -> None:
        self._heard = b""
        self._open = True

    def waiting(self) -> bool:
        """Whether a whole message can be read at once."""
        while b"\n" not in self._heard and self._open and select.select([0], [], [], 0)[0]:
            self._read()
        return b"\n" in self._heard

    def next(self) -> str | None:
        """The next message; None when there will be none any more."""
        while b"\n" not in self._heard and self._open:
            self._read()
        if b"\n" not in self._heard:
            return None
        line, self._heard = self._heard.split(b"\n", 1)
        return str(json.loads(line)["message"]["content"][0]["text"])

    def _read(self) -> None:
        chunk = os.read(0, 65_536)
        self._open = bool(chunk)
        self._heard += chunk


class Claude:
    """One process."""

    def __init__(self, folder: Path, resumed: str | None) -> None:
        self.ledger = Ledger(folder)
        self.session = Session(folder, resumed)
        self.random = random.Random()
        self.ear = Ear()
        self.pause_s = float(_PLAIN["pause_s"])
        self.messages = 0
        self.exact = [0, 0, 0, 0]
        self.extra = [0, 0, 0, 0]
        self.micros = 0
        self.extra_micros = 0

    # -- turns ------------------------------------------------------------------------------------

    def work(self) -> int:
        """Until nobody has anything to say any more; the exit code."""
        said = self.ear.next()
        if said is None:
            return 1
        if not self.session.is_known:
            return self._refuse()
        self._remember(said)
        self.session.save()
        self._print({"type": "system", "subtype": "init", "cwd": str(Path.cwd()), "model": MODEL, "tools": ["Bash"]})
        code = 0
        while said is not None:
            code = self._turn(said)
            said = self.ear.next() if code == 0 else None
        return code

    def _remember(self, said: str) -> None:
        if found := _WORK.search(said):
            self.session.facts["work"] = {**_PLAIN, **json.loads(found[1])}

    def _turn(self, said: str) -> int:
        work = self.session.facts["work"]
        self.pause_s = work["pause_s"]
        if int(os.environ.get("ORCHESTRION_ATTEMPT", "1")) <= work["overloaded_until"]:
            self._message({"type": "text", "text": "I will try."})
            return self._result(wrong={"api_error_status": 529, "result": "Overloaded", "terminal_reason": "api_error"})
        steps = work["steps"] if _WORK.search(said) or said.startswith(_CHECKED) else []
        for step in steps:
            if not self._step(step):
                return self._result(wrong={"result": f"the tool died: {step}", "terminal_reason": "tool_error"})
        self._message({"type": "text", "text": f"I did {len(steps)} steps."})
        return self._result()

    def _step(self, command: str) -> bool:
        """Calls the tool; False when it did not end well."""
        call = f"toolu_{uuid.uuid4().hex[:24]}"
        tool = self.random.choice(("Bash", "Bash", "Write"))
        given = {"command": command}
        if self.random.random() < 0.05:
            given["padding"] = "x" * self.random.randrange(40_000, 120_000)
        thought = {"type": "text", "text": f"I run {command}"}
        use = {"type": "tool_use", "id": call, "name": tool, "input": given}
        self._message(*([thought, use] if self.random.random() < 0.5 else [use]))
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        text = (done.stdout + done.stderr)[-2000:]
        block = {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": done.returncode != 0}
        self._print({"type": "user", "message": {"role": "user", "content": [block]}})
        return done.returncode == 0

    # -- what is said -----------------------------------------------------------------------------

    def _message(self, *blocks: dict[str, Any]) -> None:
        """One message of the model: a line for each block, all with its id; sometimes the last line once more."""
        number = f"msg_{uuid.uuid4().hex[:24]}"
        used = [self.random.randrange(1, 5000) for _ in range(4)]
        final, used[1] = used[1], 1
        self.messages += 1
        # An API's own numbers may be less than the stream's; it is the stream that was wrong then.
        less = self.random.randrange(used[2]) if self.random.random() < 0.1 else 0
        for kind, more in enumerate((used[0], final, used[2] - less, used[3])):
            self.exact[kind] += more
        self.micros += self.random.randrange(1, 200_000)
        if self.random.random() < 0.2:
            self.extra[0] += self.random.randrange(1, 300)
            self.extra[1] += self.random.randrange(1, 30)
            self.extra_micros += self.random.randrange(1, 500)
        again = blocks[-1:] if self.random.random() < 0.15 else ()
        for block in (*blocks, *again):
            usage = dict(zip(_STREAMED, used, strict=True))
            message = {"id": number, "role": "assistant", "model": MODEL, "content": [block], "usage": usage}
            tools = [[block["id"], block["name"]]] if block["type"] == "tool_use" else []
            self._print({"type": "assistant", "message": message}, id=number, usage=used, tools=tools)

    def _result(self, wrong: dict[str, Any] | None = None) -> int:
        since = {MODEL: _model_usage(self.exact, self.micros)}
        if any(self.extra):
            since[HELPER] = _model_usage(self.extra, self.extra_micros)
        exact = [one + other for one, other in zip(self.exact, self.extra, strict=True)]
        micros = self.micros + self.extra_micros
        self.session.facts["micros"] += micros
        self.session.save()
        result = {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "result": "All done.",
            "terminal_reason": "completed",
            "api_error_status": None,
            "num_turns": self.messages,
            "total_cost_usd": self.session.facts["micros"] / 1e6,
            "usage": dict(zip(_STREAMED, exact, strict=True)),
            "queued_turn_count": 1 if wrong is None and self.ear.waiting() else 0,
            "model_usage_since_last_result": since,
        }
        if wrong is not None:
            result |= {"is_error": True, **wrong}
        self._print(result, exact=exact, micros=micros, turns=self.messages)
        self.exact, self.extra, self.micros, self.extra_micros = [0] * 4, [0] * 4, 0, 0
        return 1 if wrong else 0

    def _refuse(self) -> int:
        words = f"No conversation found with session ID: {self.session.id}"
        print(words, file=sys.stderr, flush=True)
        end = {"type": "result", "subtype": "error_during_execution", "is_error": True, "errors": [words]}
        self._print({**end, "model_usage_since_last_result": {}}, exact=[0] * 4, micros=0, turns=0)
        return 1

    def _print(self, line: dict[str, Any], **facts: Any) -> None:
        number = str(uuid.uuid4())
        text = json.dumps({**line, "session_id": self.session.id, "uuid": number}) + "\n"
        self.ledger.write(when="before", uuid=number, kind=line["type"], **facts)
        half = self.random.randrange(1, len(text)) if self.random.random() < 0.1 else 0
        for part in filter(None, (text[:half], text[half:])):
            sys.stdout.write(part)
            sys.stdout.flush()
            self._pause(half > 0)
        self.ledger.write(when="after", uuid=number)
        self._pause(line["type"] != "result")  # after a bad one it is gone at once

    def _pause(self, wanted: bool) -> None:
        if wanted and self.pause_s:
            time.sleep(self.random.uniform(0, self.pause_s))


_STREAMED = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_EXACT = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")


def _model_usage(used: list[int], micros: int) -> dict[str, Any]:
    return {**dict(zip(_EXACT, used, strict=True)), "costUSD": micros / 1e6}


def main(arguments: list[str]) -> int:
    """One process, as the command line asks."""
    if "--version" in arguments:
        print("0.0.1 (Claude Code)")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    folder = Path(arguments[arguments.index("--ledger") + 1])
    resumed = arguments[arguments.index("--resume") + 1] if "--resume" in arguments else None
    try:
        return Claude(folder, resumed).work()
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more: our supervisor is dead


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
