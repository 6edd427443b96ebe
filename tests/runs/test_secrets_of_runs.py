"""A run reads secrets and prints them: none of them is in the store's folder, the database included, when it ends."""

from __future__ import annotations

import json
import os
import secrets
import signal
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrion.core.masking import MASK
from orchestrion.store import Store
from stage import Stage
from waiting import wait_for

pytestmark = pytest.mark.long

OURS = "orch_" + secrets.token_urlsafe(32) + "A1"
THEIRS = "ghp_" + "".join(secrets.choice(string.ascii_letters) for _ in range(36))
VALUE = "a password of the environment"
KEY_LINES = ["".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(64)) for _ in range(40)]
KEY = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *KEY_LINES, "-----END OPENSSH PRIVATE KEY-----"])
ALL = (OURS, THEIRS, VALUE, *KEY_LINES)


@pytest.fixture
def found(stage: Stage) -> Path:
    """A file of the user's with secrets in it; it is nobody's work."""
    stage.environ["SOME_PASSWORD"] = VALUE
    file = stage.folder / "home" / "found"
    file.write_text(f"first {OURS}\n{THEIRS} {VALUE}\n{KEY}\n{json.dumps({'key': KEY})}\nlast {'x' * 70_000} {OURS}\n")
    return file


def test_what_a_run_prints_is_kept_without_secrets(stage: Stage, found: Path) -> None:
    stage.open(run__feedback=1)
    stage.add(f"cat {found}; cat {found} >&2; echo b > b.txt", checks=(f"cat {found}; exit 1",), max_retries=0)
    stage.drain()
    run = stage.run()
    assert run["code"] == "check_failed"
    assert any(f"ghp_{MASK}" in line for line in stage.lines())
    assert any(f"ghp_{MASK}" in line for line in stage.lines(stream="err"))
    assert all(f"ghp_{MASK} {MASK}" in check["output"] for check in run["checks"])
    assert f"orch_{MASK}" in (stage.run_folder() / "brief.md").read_text()
    assert kept_anywhere(stage) == []


def test_what_an_agent_says_of_its_work_is_kept_without_secrets(stage: Stage, found: Path) -> None:
    stage.open()
    stage.add(f'echo b > b.txt; orchestrion done --summary "done with $(head -1 {found})"')
    stage.add(f'orchestrion fail --error "$(head -2 {found})"', max_retries=0)
    stage.add(f'orchestrion done --next blocked --summary "may I use $(head -1 {found})?"')
    stage.drain()
    assert f"orch_{MASK}" in str(stage.task("T1")["summary"])
    assert f"orch_{MASK}" in str(stage.task("T2")["error"])
    assert kept_anywhere(stage) == []


REPORTS = (
    'done --summary "with {}"',
    'fail --error "cannot use {}"',
    'done --next blocked --summary "may I use {}?"',
    'done --next needs_revision --summary "used {}"',
    'handoff --text "it is {}"',
)


@pytest.mark.parametrize("report", REPORTS)
def test_values_of_the_worker_s_variables_are_kept_in_no_report(stage: Stage, found: Path, report: str) -> None:
    stage.open()
    stage.add(f"orchestrion {report.format('$SOME_PASSWORD')}", max_retries=0)
    stage.drain()
    assert MASK in said_of(stage) + json.dumps(stage.orchestrion.recover("T1"))
    assert kept_anywhere(stage) == []


@pytest.mark.parametrize("report", REPORTS)
def test_nor_is_one_that_the_agent_does_not_know_for_a_secret(stage: Stage, found: Path, report: str) -> None:
    (found.parent / "value").write_text(VALUE)
    stage.open()
    command = f"orchestrion {report.format(f'$(cat {found.parent}/value)')}"
    stage.add(f"env -u SOME_PASSWORD {command}", max_retries=0)
    stage.drain()
    assert MASK in said_of(stage)
    assert VALUE not in said_of(stage)


def _kill(stage: Stage) -> None:
    stage.orchestrion.kill("R1")


def _cancel(stage: Stage) -> None:
    stage.orchestrion.cancel("T1", "not wanted")


def _end_supervisor(stage: Stage) -> None:
    os.kill(stage.supervisor(), signal.SIGTERM)


def _kill_supervisor(stage: Stage) -> None:
    os.kill(stage.supervisor(), signal.SIGKILL)


def _kill_all(stage: Stage) -> None:
    """The supervisor dies, and a person ends the run before a worker has seen it."""
    os.kill(stage.supervisor(), signal.SIGSTOP)
    stage.orchestrion.kill("R1")
    os.kill(stage.supervisor(), signal.SIGKILL)


#: How a run ends by others -> its state then.
ENDS = {_kill: "killed", _cancel: "killed", _end_supervisor: "killed", _kill_supervisor: "lost", _kill_all: "killed"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("report", ['done --summary "with {}"', 'fail --error "cannot use {}"'])
def test_nor_where_its_run_ends_by_others(stage: Stage, found: Path, report: str, end: Callable[[Stage], None]) -> None:
    (found.parent / "value").write_text(VALUE)
    value = f"$(cat {found.parent}/value)"
    reports = (report, 'handoff --text "it is {}"', 'sessions --start "with {}"')
    stage.open()
    stage.add(
        "unset SOME_PASSWORD; "
        + "; ".join(f"orchestrion {one.format(value)}" for one in reports)
        + "; echo said; sleep 300",
        max_retries=0,
    )
    with stage.worker() as worker:
        wait_for(lambda: stage.orchestrion.list_runs().items and stage.run()["pid"], "it runs")
        wait_for(lambda: "said" in stage.await_lines(), "all is said")
        assert VALUE in said_of(stage)
        end(stage)
        worker.wait(60)
    row = stage.orchestrion.run("R1").row
    assert (row["state"], row["unswept"]) == (ENDS[end], 0)
    assert said_of(stage).count(MASK) >= 4
    assert VALUE not in said_of(stage)
    assert stage.orchestrion.search("environment")["results"] == []
    assert stage.orchestrion.last_handoff()["text"].startswith(f"it is {MASK}\n")


def test_nor_of_a_run_that_fails_after_its_report(stage: Stage, found: Path) -> None:
    (found.parent / "value").write_text(VALUE)
    stage.open()
    stage.add(
        f'unset SOME_PASSWORD; orchestrion done --summary "with $(cat {found.parent}/value)"; exit 3', max_retries=0
    )
    stage.drain()
    assert stage.run()["code"] == "agent_failed"
    assert stage.run()["summary"] == f"with {MASK}"
    assert VALUE not in said_of(stage)


def said_of(stage: Stage) -> str:
    """All that the store says of the first run and its task."""
    one = stage.orchestrion
    further = [one.list_sessions(include_ended=True), one.prime(), one.recover("T1")]
    return json.dumps([one.events(limit=1000), one.run_detail("R1"), one.show("T1"), one.why("T1"), *further])


def test_debug_shows_no_secret_also_of_an_older_log(stage: Stage, found: Path) -> None:
    stage.open()
    stage.add("echo b > b.txt")
    stage.drain()
    with (stage.run_folder() / "log.jsonl").open("a") as log:
        log.write(json.dumps({"at": 1, "stream": "err", "text": found.read_text()}) + "\n")
    shown = json.dumps(stage.orchestrion.debug("R1"))
    assert f"ghp_{MASK}" in shown
    assert not any(secret in shown for secret in (OURS, THEIRS, *KEY_LINES))


def kept_anywhere(stage: Stage) -> list[tuple[str, str]]:
    """Files of the store with a secret in them, and which."""
    files = [file for file in stage.orchestrion.project.store_dir.rglob("*") if file.is_file()]
    assert any(file.name == "orchestrion.db" for file in files)
    assert any(file.name == "log.jsonl" for file in files)
    return [(str(file), secret) for file in files for secret in ALL if secret.encode() in file.read_bytes()]


def test_both_databases_keep_what_was_said_without_secrets(store: Store) -> None:
    store.write(lambda tx: tx.event("note", data={"said": f"see {OURS}", "more": [THEIRS]}))
    [kept] = [
        row["data"] for row in store.read(lambda tx: tx.all("events", since=0, limit=10)) if row["kind"] == "note"
    ]
    assert json.loads(kept) == {"said": f"see orch_{MASK}", "more": [f"ghp_{MASK}"]}
