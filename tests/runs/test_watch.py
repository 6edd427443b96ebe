"""One go of an agent, watched by a process of its own: whatever it does, all of it is over at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrion.runs import log, watch
from stage import python

pytestmark = pytest.mark.long

WATCHER = """
import json, os, sys, time
from pathlib import Path
from orchestrion.runs import processes
from orchestrion.runs.log import RunLog
from orchestrion.runs import watch as watching
from orchestrion.runs.watch import Ended, watch
folder, command, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
processes.become_subreaper()
watching.LINGER_S = options.get("linger_s", 10)
beats = []
def beat():
    beats.append(1)
    if len(beats) == options.get("fatal_beat"):
        raise KeyError("stop it")
ran = RunLog(folder / "log.jsonl")
environ = {**os.environ, "ORCHESTRION_RUN": f"test/{folder}"}
limits = Ended(time.monotonic() + options.get("timeout_s", 60), 60, options.get("stall_s"), options.get("grace_s", 0.5))
class Echo:
    # Says what it was given, and more while lines come back; over after the line "over".
    understands = options.get("understands", True)
    def __init__(self, opening, answers):
        self.said, self.heard, self.answers, self.over = opening, [], dict(answers), False
    def opening(self):
        return self.said
    def hear(self, line):
        self.heard.append(line[:200])
        self.over = self.over or line == "over"
    def outgoing(self):
        return "".join(self.answers.pop(line, "") for line in list(self.heard))
    def is_over(self):
        return self.over
    def had_last_word(self):
        return self.over
talk = Echo(options["opening"] * options.get("times", 1), options.get("answers", {})) if "opening" in options else None
answer = {}
try:
    answer["exit"] = watch(
        options.get("argv") or ["/bin/sh", "-c", command], folder=folder, environ=environ, log=ran,
        record=processes.Record(folder / "processes"), marker=environ["ORCHESTRION_RUN"], limits=limits, beat=beat,
        talk=talk,
    )
except Exception as error:
    answer["error"], answer["code"] = type(error).__name__, getattr(error, "code", None)
ran.close()
if talk:
    answer["heard"] = talk.heard
left = [*processes.descendants(os.getpid()), *processes.marked(environ["ORCHESTRION_RUN"])]
print(json.dumps({**answer, "beats": len(beats), "left": left, "zombies": processes.reap_adopted()}))
"""


@pytest.fixture
def watched(tmp_path: Path) -> Any:
    def watch(command: str, **options: Any) -> dict[str, Any]:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", WATCHER, str(tmp_path), command, json.dumps(options)],
            stdout=subprocess.PIPE, check=True, timeout=100,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["left"] == []
        assert answer["zombies"] == []
        lines = [line for _, line in log.read(tmp_path / "log.jsonl")]
        for stream in ("out", "err"):
            answer[stream] = [line["text"] for line in lines if line["stream"] == stream]
        return {**answer, "took": time.monotonic() - began}

    return watch


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -2 $$", -2)])
def test_exit_codes(watched: Any, command: str, code: int) -> None:
    assert watched(command)["exit"] == code


def test_an_agent_that_cannot_be_started(watched: Any) -> None:
    answer = watched("", argv=["/no/such/program"])
    assert (answer["error"], answer["code"]) == ("AgentProblem", "agent_not_started")


def test_it_has_no_input(watched: Any) -> None:
    assert watched("cat; echo read all")["out"] == ["read all"]


def test_both_outputs_are_heard(watched: Any) -> None:
    answer = watched("echo one; echo two >&2; echo three")
    assert (answer["out"], answer["err"]) == (["one", "three"], ["two"])


def test_characters_and_lines_that_arrive_in_pieces(watched: Any) -> None:
    text = "héllo ☃\nzwei"
    program = f"import os, time\nfor b in {text.encode()!r}: os.write(1, bytes([b])); time.sleep(0.005)"
    assert watched(python(program))["out"] == ["héllo ☃", "zwei"]


def test_bytes_that_are_no_text(watched: Any) -> None:
    answer = watched(r"printf '\377\n\303'")
    assert answer["out"] == ["\ufffd", "\ufffd"]


def test_a_long_line_keeps_its_characters(watched: Any) -> None:
    """Two bytes a character and an odd start: pieces must not be cut inside of one."""
    answer = watched(python("print('x' + 'é' * 200_000)"))
    assert "".join(answer["out"]) == "x" + "é" * 200_000


def test_all_of_a_last_gush_is_kept(watched: Any) -> None:
    answer = watched(python("print('\\n'.join(map(str, range(20_000))))"))
    assert answer["out"] == [str(number) for number in range(20_000)]


def test_a_closed_output_is_no_end(watched: Any) -> None:
    answer = watched("exec >&- 2>&-; sleep 0.3; exit 5")
    assert answer["exit"] == 5


def test_it_ends_when_the_agent_does_whoever_holds_the_pipe(watched: Any) -> None:
    answer = watched("(setsid sleep 300 &); echo gone")
    assert (answer["exit"], answer["out"]) == (0, ["gone"])
    assert answer["took"] < 60


def test_too_long(watched: Any) -> None:
    answer = watched("echo on; sleep 300", timeout_s=0.5)
    assert (answer["error"], answer["out"]) == ("TimeUp", ["on"])


def test_too_silent_on_both_outputs(watched: Any) -> None:
    answer = watched("for i in 1 2 3 4; do echo $i >&2; sleep 0.3; done; sleep 300", stall_s=1)
    assert (answer["error"], answer["err"][:4]) == ("Silent", ["1", "2", "3", "4"])


def test_a_flood_is_no_silence_and_no_way_to_outlive_the_limit(watched: Any) -> None:
    answer = watched("yes", timeout_s=1, stall_s=30)
    assert answer["error"] == "TimeUp"
    assert answer["beats"] > 5
    assert len(answer["out"]) > 1000


def test_what_the_beat_raises_ends_it(watched: Any) -> None:
    answer = watched("trap '' TERM; echo on; while true; do sleep 1; done", fatal_beat=5)
    assert (answer["error"], answer["beats"]) == ("KeyError", 5)


def test_it_may_end_politely(watched: Any) -> None:
    answer = watched("trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done", timeout_s=0.5, grace_s=30)
    assert (answer["error"], answer["out"]) == ("TimeUp", ["bye"])
    assert answer["took"] < 25


def test_a_tree_of_stubborn_ones(watched: Any) -> None:
    stubborn = (
        "import signal, time, os; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(300)"
    )
    command = f"for i in 1 2 3; do (env -i setsid {python(stubborn)} &) ; done; sleep 1; exec {python(stubborn)}"
    answer = watched(command, timeout_s=3)
    assert answer["error"] == "TimeUp"
    assert len(answer["out"]) == 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in answer["out"])


def test_it_is_spoken_to_and_its_input_ends_when_all_is_said(watched: Any) -> None:
    answer = watched(
        'read a; echo "got $a"; read b; echo "got $b"; echo over; cat; echo "input ended"',
        opening="first\n", answers={"got first": "second\n"},
    )  # fmt: skip
    assert answer["exit"] == 0
    assert answer["heard"] == ["got first", "got second", "over", "input ended"]


def test_more_is_said_than_a_pipe_holds(watched: Any) -> None:
    answer = watched("sleep 0.3; head -c 300000 | wc -c; echo over", opening="x", times=300_000)
    assert answer["heard"] == ["300000", "over"]


def test_an_agent_that_does_not_listen_any_more(watched: Any) -> None:
    answer = watched("exec 0<&-; echo deaf; sleep 0.3; echo over", opening="x", times=300_000)
    assert (answer["exit"], answer["heard"]) == (0, ["deaf", "over"])


def test_a_long_line_is_heard_whole_and_kept_in_pieces(watched: Any, tmp_path: Path) -> None:
    size = 3 * log.PIECE + 10
    answer = watched(python(f"print('y' * {size}); print('over')"), opening="")
    assert answer["heard"] == ["y" * 200, "over"]
    lines = [line for _, line in log.read(tmp_path / "log.jsonl") if line["stream"] == "out"]
    assert [line.get("more", False) for line in lines] == [True, True, True, False, False]
    assert len("".join(line["text"] for line in lines[:4])) == size


def test_a_line_of_an_agent_that_does_not_speak_in_events_is_only_kept(watched: Any, tmp_path: Path) -> None:
    answer = watched(python(f"print('y' * {2 * log.PIECE}); print('over')"), opening="", understands=False)
    assert (answer["exit"], answer["heard"]) == (0, [])
    assert sum(len(line["text"]) for _, line in log.read(tmp_path / "log.jsonl")) == 2 * log.PIECE + len("over")


def test_a_line_that_is_too_long_is_kept_and_not_heard(watched: Any, tmp_path: Path) -> None:
    size = watch.MOST_HEARD + 100_000
    answer = watched(python(f"print('y' * {size}); print('over')"), opening="")
    assert answer["heard"][-1] == "over"
    assert sum(len(line["text"]) for _, line in log.read(tmp_path / "log.jsonl")) == size + len("over")


def test_a_record_that_cannot_be_written_leaves_nothing_running(watched: Any, tmp_path: Path) -> None:
    (tmp_path / "processes").mkdir()
    answer = watched("sleep 300")
    assert answer["error"] == "NotPlain"
    assert answer["took"] < 30


def test_who_does_not_end_after_the_last_word_is_ended(watched: Any) -> None:
    answer = watched("echo over; trap '' TERM; sleep 600", opening="", linger_s=0.3)
    assert answer["exit"] == 0
    assert answer["took"] < 30
