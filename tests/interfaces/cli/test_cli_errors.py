"""Every error has one exit code and one shape; nobody is ever shown a stack trace or a secret."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import pytest
from place import Place

from orchestrion.core import errors as ours
from orchestrion.interfaces.cli import errors
from orchestrion.orchestrator.finding import Finding

CODES = {
    ours.OrchestrionError: 1,
    ours.InvalidInput: 6,
    ours.CycleRefused: 6,
    ours.PlanRefused: 6,
    ours.NotFound: 4,
    ours.NothingReady: 3,
    ours.Conflict: 5,
    ours.IllegalMove: 5,
    ours.StaleRun: 5,
    ours.AlreadyTaken: 5,
    ours.Backpressure: 5,
    ours.MergeConflict: 5,
    ours.EnvironmentProblem: 7,
    ours.DamagedRow: 7,
    ours.GitProblem: 7,
    ours.AgentProblem: 7,
    ours.StoreProblem: 7,
}


def _all_below(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_all_below(below) for below in kind.__subclasses__()))


def test_every_class_of_error_has_its_exit_code() -> None:
    # Those that are made elsewhere are of one of these kinds.
    assert {kind for kind in _all_below(ours.OrchestrionError) if kind.__module__ == ours.__name__} == set(CODES)
    for kind, code in CODES.items():
        assert errors.exit_code(kind.__new__(kind)) == code, kind
    assert errors.exit_code(click.UsageError("x")) == 2
    assert set(errors.EXIT_CODES.values()) < set(errors.MEANINGS)


def test_people_read_what_happened_and_what_to_do(project: Place) -> None:
    answer = project("show", "T99", code=4)
    assert answer.out == ""
    assert answer.err == "error: there is no task T99\nhint: `orchestrion list` shows the tasks\n"


def test_programs_read_json(project: Place) -> None:
    answer = project("show", "T99", "--json", code=4)
    assert answer.out == ""
    assert set(answer.error) == {"code", "message", "hint", "details"}
    assert answer.error["code"] == "no_task"


def test_the_output_of_a_failed_check_is_shown(project: Place) -> None:
    project("add", "x", "--check", "echo no such luck; false")
    project("claim", "T1")
    answer = project("done", "R1", "--summary", "s", code=5)
    assert "  | no such luck" in answer.err
    assert project("done", "R1", "--summary", "s", "--json", code=5).error["details"]["exit_code"] == 1


def test_an_unforeseen_error_is_kept_not_shown(project: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: Finding, limit: int = 20) -> None:
        raise RuntimeError("nobody thought of postgresql://ada:secret@host/db\nsecond line")

    monkeypatch.setattr(Finding, "ready", broken)
    kept = tmp_path / "state" / "orchestrion" / "errors.log"
    answer = project("ready", code=1)
    first, hint = answer.err.splitlines()
    assert first == "error: unexpected RuntimeError: nobody thought of postgresql://ada:***@host/db"
    assert str(kept) in hint
    text = kept.read_text()
    assert "Traceback" in text
    assert ":secret@" not in text
    assert kept.stat().st_mode & 0o777 == 0o600
    error = project("ready", "--json", code=1).error
    assert error["code"] == "unexpected"
    assert error["details"] == {"traceback": str(kept)}
    assert kept.read_text().count("Traceback") == 2


def test_an_unforeseen_error_is_said_even_if_it_cannot_be_kept(
    project: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(Finding, "ready", lambda *_: 1 / 0)
    assert project("ready", code=1).err.endswith("hint: please report it\n")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, "permission"), (errno.ENOSPC, "disk_full"), (errno.EIO, "os_error")]
)
def test_what_the_system_refuses_is_an_environment_problem(
    project: Place, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def refused(self: Finding, limit: int = 20) -> None:
        raise OSError(number, "refused", "/some/where")

    monkeypatch.setattr(Finding, "ready", refused)
    error = project("ready", "--json", code=7).error
    assert error["code"] == code
    assert error["message"] == "refused: /some/where"


def test_passwords_of_databases_stay_secret(project: Place) -> None:
    for arguments in (
        ["list", "--db", "mysql://ada:secret@host/db"],
        ["list", "--db", "postgresql://ada:secret@127.0.0.1:1/db"],
        ["list", "--db", "postgresql://127.0.0.1:1/db?password=secret"],
    ):
        for shown in (project(*arguments, code=None), project(*arguments, "--json", code=None)):
            assert shown.code in (6, 7), shown
            assert "secret" not in shown.err + shown.out


def test_control_characters_of_errors_are_written_out(project: Place) -> None:
    answer = project("show", "\x1b[2J\x07", code=6)
    assert "\x1b" not in answer.err
    assert "\\x07" in answer.err
