"""Checks: real commands of a real shell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.core.masking import Masker
from orchestrion.runs import checks, processes
from orchestrion.runs.checks import run_check

ENVIRON = {"PATH": os.environ["PATH"]}


def test_a_command_that_succeeds_passes(tmp_path: Path) -> None:
    evidence = run_check("echo out; echo err >&2", tmp_path, ENVIRON, now=lambda: 12.5)

    assert evidence.passed
    assert evidence.command == "echo out; echo err >&2"
    assert (evidence.exit_code, evidence.output, evidence.timed_out) == (0, "out\nerr\n", False)
    assert evidence.started_at_ms == 12_500
    assert 0 <= evidence.duration_ms < 30_000


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("exit 3", 3, ""),
        ("no-such-command-here", 127, "not found"),
        ("./plain", 126, "denied"),
        ("kill -9 $$", 137, ""),
        ("if", 2, "yntax error"),
    ],
)
def test_a_command_that_fails_is_an_answer(tmp_path: Path, command: str, code: int, words: str) -> None:
    (tmp_path / "plain").write_text("echo hello")

    evidence = run_check(command, tmp_path, ENVIRON)

    assert not evidence.passed
    assert evidence.exit_code == code
    assert words in evidence.output


def test_it_runs_in_the_folder_with_the_environment_given_and_no_input(tmp_path: Path) -> None:
    evidence = run_check('pwd; echo "$WORD"; echo "${HOME-none}"; cat', tmp_path, {**ENVIRON, "WORD": "a b"})

    assert evidence.output == f"{tmp_path.resolve()}\na b\nnone\n"


def test_output_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    assert run_check(r"printf 'a\377b'", tmp_path, ENVIRON).output == "a\ufffdb"


def test_long_output_keeps_both_ends_and_says_what_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "check.log"

    evidence = run_check("echo first; seq 1 200000; echo last", tmp_path, ENVIRON, log=log)

    whole = "first\n" + "".join(f"{n}\n" for n in range(1, 200_001)) + "last\n"
    assert log.read_text() == whole
    assert evidence.output.startswith(whole[: checks.KEPT_BYTES // 2])
    assert evidence.output.endswith(whole[-checks.KEPT_BYTES // 2 :])
    assert f"[... {len(whole) - checks.KEPT_BYTES:,} bytes left out" in evidence.output
    assert len(evidence.output) < checks.KEPT_BYTES + 200


def test_output_in_tiny_pieces_adds_up(tmp_path: Path) -> None:
    output = checks._Output(None, Masker())
    whole = bytes(65 + n % 26 for n in range(checks.KEPT_BYTES + 1))
    for n in range(len(whole) - 1):
        output.add(whole[n : n + 1])
    output.finish()
    assert output.text() == whole[:-1].decode()

    output.add(whole[-1:])
    output.finish()
    assert "[... 1 bytes left out ...]" in output.text()


def test_the_log_has_a_limit_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LOG_BYTES", 100_000)
    log = tmp_path / "check.log"

    run_check("seq 1 100000", tmp_path, ENVIRON, log=log)

    assert 100_000 < log.stat().st_size < 100_100
    assert "the log ends here: it keeps 100,000 bytes" in log.read_text()


def test_a_log_that_cannot_be_written_is_a_problem_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as refused:
        run_check("echo hello", tmp_path, ENVIRON, log=Path("/dev/full"))

    assert refused.value.code == "cannot_write_log"
    assert refused.value.hint


def test_a_folder_that_is_gone_is_a_problem_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as refused:
        run_check("true", tmp_path / "gone", ENVIRON)

    assert refused.value.code == "cannot_start_command"


def test_out_of_time_ends_the_whole_tree(tmp_path: Path) -> None:
    command = """
    echo before
    setsid sh -c 'trap "" TERM; echo $$ > one; while :; do sleep 0.1; done' &
    sh -c 'setsid sh -c "echo \\$\\$ > two; exec sleep 1000" & ' &
    sleep 1000
    """
    begun = time.monotonic()

    evidence = run_check(command, tmp_path, ENVIRON, timeout_s=0.5)

    assert evidence.timed_out
    assert not evidence.passed
    assert evidence.exit_code == checks.TIMED_OUT
    assert "before" in evidence.output
    assert time.monotonic() - begun < 20
    for name in ("one", "two"):
        assert _is_over(tmp_path / name)


def test_what_a_check_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    evidence = run_check("sleep 1000 & echo $! > pid; echo done", tmp_path, ENVIRON)

    assert evidence.passed
    assert evidence.output == "done\n"
    assert evidence.duration_ms < 20_000
    assert _is_over(tmp_path / "pid")


def test_closing_its_output_does_not_end_a_check(tmp_path: Path) -> None:
    evidence = run_check("exec >&- 2>&-; sleep 0.4; touch late", tmp_path, ENVIRON)

    assert evidence.passed
    assert (tmp_path / "late").exists()


def test_the_pulse_beats_while_it_runs_and_may_stop_it(tmp_path: Path) -> None:
    beats: list[int] = []

    def pulse() -> None:
        beats.append(1)
        if len(beats) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        run_check("echo $$ > pid; exec sleep 1000", tmp_path, ENVIRON, pulse=pulse)

    assert _is_over(tmp_path / "pid")


def test_its_own_exit_code_survives_a_reaping_of_adopted_children(tmp_path: Path) -> None:
    def pulse() -> None:
        time.sleep(0.4)  # By now the command is a zombie, before Popen had a look at it.
        assert processes.reap_adopted() == []

    assert run_check("sleep 0.4; exit 7", tmp_path, ENVIRON, pulse=pulse).exit_code == 7


def _is_over(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    started = processes.start_time(pid)
    return started is None or not processes.is_alive(pid, started)
