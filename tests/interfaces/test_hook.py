"""``orchestrion hook``: what Claude Code is answered at its own moments, as a process of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrion import Orchestrator
from orchestrion.interfaces import hook
from orchestrion.interfaces.mcp.desk import CLIENT_SESSION
from orchestrion.interfaces.mcp.desk import Desk as McpDesk
from orchestrion.orchestrator.hooking import MOST_HELD_BACK

SESSION = "0b532380-9635-4a2e-b81a-ac0cd8d165c8"
PATIENCE_S = 60
#: What a hook has no need of; its start is waited for at every file that an agent writes.
HEAVY = ("click", "yaml", "rich", "psycopg", "psutil", "asyncio", "mcp", "pydantic", "orchestrion.interfaces.cli")
#: What the most frequent ones have no need of either; classes of ``dataclasses`` take a third of their time.
HEAVIER = ("dataclasses", "uuid", "subprocess", "orchestrion.core.model", "orchestrion.orchestrator.whole")


@dataclass(frozen=True)
class Answer:
    """How a hook ended."""

    code: int
    out: str
    err: str

    @property
    def context(self) -> str | None:
        """What the model is told at a session's start."""
        found = json.loads(self.out)["hookSpecificOutput"] if self.out else {}
        assert not found or found["hookEventName"] == "SessionStart"
        return found.get("additionalContext")


class Desk:
    """A project, and the hooks of a session that sits there."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.environ = dict(environ)
        self.orchestrion = Orchestrator.open(root, environ=self.environ)

    def asked(self, **more: Any) -> bytes:
        common = {
            "session_id": SESSION,
            "transcript_path": "/x.jsonl",
            "cwd": str(self.root),
            "permission_mode": "default",
        }
        return json.dumps({**common, **more}).encode()

    def hook(
        self, event: str, *, raw: bytes | None = None, environ: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrion", "hook", event],
            input=self.asked(hook_event_name=event, **more) if raw is None else raw,
            cwd="/",
            env={**self.environ, **(environ or {})},
            capture_output=True,
            timeout=PATIENCE_S,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def write(self, path: str, text: str = "x", *, kind: str = "create", **more: Any) -> Answer:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self.hook(
            "PostToolUse", tool_name="Write", tool_input={"file_path": str(file)}, tool_response={"type": kind}, **more
        )

    def claim(self, session: str = "S1", **values: Any) -> dict[str, Any]:
        """A task, claimed as by a command that the agent of a session typed."""
        self.orchestrion.add("Write it", **values)
        environ = {**self.environ, "ORCHESTRION_SESSION": session}
        with Orchestrator.open(self.root, environ=environ) as own:
            return own.claim()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.orchestrion.store.url)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def files(self) -> list[tuple[Any, ...]]:
        return self.rows("select path, op, source, status, session, run from files order by path")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRION_", "GIT_", "CLAUDE"))}
    return kept | {"HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(home / "c")}


@pytest.fixture
def desk(tmp_path: Path, environ: dict[str, str]) -> Any:
    root = tmp_path / "project"
    (root / ".orchestrion").mkdir(parents=True)
    made = Desk(root, environ)
    yield made
    made.orchestrion.close()


# -- SessionStart ---------------------------------------------------------------------------------


def test_a_session_begins_with_what_is_going_on(desk: Desk, tmp_path: Path) -> None:
    desk.orchestrion.add("Write slugify()")
    answer = desk.hook("SessionStart", source="startup", environ={"CLAUDE_ENV_FILE": str(tmp_path / "env")})
    assert (answer.code, answer.err) == (0, "")
    assert "Write slugify()" in (answer.context or "")
    assert (tmp_path / "env").read_text() == "export ORCHESTRION_SESSION=S1\n"
    assert desk.rows("select client, external, folder, state from sessions") == [
        ("claude-code", SESSION, str(desk.root), "active")
    ]


def test_each_start_is_told_once_however_many_hooks_there_are(desk: Desk) -> None:
    with ThreadPoolExecutor(4) as pool:
        startups = list(pool.map(lambda _: desk.hook("SessionStart", source="startup"), range(4)))
    assert [answer.code for answer in startups] == [0] * 4
    assert len([answer for answer in startups if answer.context]) == 1
    assert desk.hook("SessionStart", source="resume").context
    assert desk.hook("SessionStart", source="compact").context
    assert desk.hook("SessionStart", source="startup", session_id="another").context
    assert len(desk.rows("select 1 from sessions")) == 2


def test_other_starts_are_not_ours(desk: Desk) -> None:
    assert desk.hook("SessionStart", source="clear") == Answer(0, "", "")
    assert desk.rows("select 1 from sessions") == []


# -- PostToolUse ----------------------------------------------------------------------------------


def test_a_written_file_is_recorded(desk: Desk) -> None:
    assert desk.write("src/a.py") == Answer(0, "", "")
    assert desk.write("src/a.py", "y", kind="update") == Answer(0, "", "")
    notebook = {"tool_name": "NotebookEdit", "tool_input": {"notebook_path": str(desk.root / "src/a.py")}}
    assert desk.hook("PostToolUse", **notebook).code == 0
    assert desk.files() == [("src/a.py", "created", "hook", "verified", 1, None)]


def test_a_file_belongs_to_the_run_that_the_session_claimed_and_keeps_its_lease(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.claim(session="S1")
    desk.claim(session="S7")
    before = dict(desk.rows("select id, lease_until from runs"))
    assert desk.write("a.txt").err == ""
    after = dict(desk.rows("select id, lease_until from runs"))
    assert desk.files() == [("a.txt", "created", "hook", "verified", 1, 1)]
    assert after[1] > before[1]
    assert after[2] == before[2]


def test_hooks_of_who_goes_on_with_a_session_are_about_its_task(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.hook("SessionStart", source="startup", session_id="another")
    desk.claim(session="S1")
    desk.claim(session="S2")
    desk.orchestrion.on_behalf_of("mcp:claude-code/S2", "S2").resume_session("S1")
    before = dict(desk.rows("select id, lease_until from runs"))
    assert desk.write("a.txt", session_id="another").err == ""
    assert desk.files() == [("a.txt", "created", "hook", "verified", 1, 2)]
    after = dict(desk.rows("select id, lease_until from runs"))
    assert all(after[run] > before[run] for run in (1, 2))
    for event, code in (("Stop", 0), ("TaskCompleted", 2)):
        answer = desk.hook(event, session_id="another")
        assert (answer.code, "R1 still holds T1" in answer.out + answer.err) == (code, True)
    desk.orchestrion.done("R1", "done")
    assert "R2 still holds T2" in desk.hook("Stop", session_id="another").out
    # The first one, if it lives after all, is of another session now, which holds nothing.
    assert desk.hook("Stop") == Answer(0, "", "")
    assert desk.write("b.txt").err == ""
    assert desk.files()[1] == ("b.txt", "created", "hook", "verified", 3, None)


def test_files_of_others_are_left_alone(desk: Desk, tmp_path: Path) -> None:
    outside = {"tool_input": {"file_path": str(tmp_path / "b.txt")}, "tool_response": {"type": "create"}}
    answer = desk.hook("PostToolUse", tool_name="Write", **outside)
    assert (answer.code, answer.out) == (0, "")
    assert "outside the project" in answer.err
    assert desk.hook("PostToolUse", tool_name="Read", tool_input={"pattern": "x"}) == Answer(0, "", "")
    assert desk.files() == []


# -- Stop and TaskCompleted -----------------------------------------------------------------------


def test_a_session_may_stop_when_it_holds_nothing(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.claim(session="S7")
    assert desk.hook("Stop", stop_hook_active=False) == Answer(0, "", "")
    assert desk.hook("TaskCompleted", task_id="1", task_subject="x") == Answer(0, "", "")


def test_a_claimed_run_whose_check_fails_holds_it_back_a_bounded_number_of_times(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.claim(checks=["echo what is wrong; test -f done.txt"])
    for _ in range(MOST_HELD_BACK):
        answer = desk.hook("Stop", stop_hook_active=True)
        told = json.loads(answer.out)
        assert (answer.code, told["decision"]) == (0, "block")
        for part in ("R1 still holds T1", "what is wrong", "orchestrion done R1", "orchestrion release R1"):
            assert part in told["reason"]
    assert desk.hook("Stop", stop_hook_active=True) == Answer(0, "", "")
    evidence = desk.orchestrion.run_detail("R1")["checks"]
    assert [one["exit_code"] for one in evidence] == [1] * MOST_HELD_BACK


def test_work_that_passes_but_was_not_reported_holds_it_back_until_it_is(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.claim(checks=["true"])
    assert "its checks pass, but nothing was reported" in json.loads(desk.hook("Stop").out)["reason"]
    desk.orchestrion.done("R1", "written")
    assert desk.hook("Stop") == Answer(0, "", "")


def test_a_task_of_the_client_is_refused_by_exit_code(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    desk.claim()
    answer = desk.hook("TaskCompleted", task_id="1", task_subject="x")
    assert (answer.code, answer.out) == (2, "")
    assert "R1 still holds T1 (Write it): nothing was reported" in answer.err
    desk.orchestrion.release("R1")
    assert desk.hook("TaskCompleted", task_id="1", task_subject="x").code == 0


def test_the_server_that_the_same_client_starts_is_of_the_same_session(desk: Desk) -> None:
    desk.hook("SessionStart", source="startup")
    server = McpDesk(str(desk.root), None, {**desk.environ, CLIENT_SESSION: SESSION}, confined=False)
    try:
        seat = server.seat(None, "claude-code", "2026-07-28")
        begun = server.project().start_session("A name", client=seat.client, external=seat.external)
    finally:
        server.close()
    assert (begun["id"], begun["name"]) == ("S1", "A name")


# -- in a supervised run --------------------------------------------------------------------------


def test_an_agent_of_a_worker_is_only_listened_to(desk: Desk) -> None:
    desk.orchestrion.add(
        "Do it",
        command=(
            f'echo x > a.txt; printf \'%s\' "$INPUT" | sed "s#FILE#$PWD/a.txt#" > ../input;'
            f" {sys.executable} -m orchestrion hook SessionStart < ../input > ../start;"
            f" {sys.executable} -m orchestrion hook PostToolUse < ../input > ../post 2>&1;"
            f" {sys.executable} -m orchestrion hook Stop < ../input > ../stop; cat ../start ../post ../stop"
        ),
    )
    asked = desk.asked(source="startup", tool_name="Write", tool_input={"file_path": "FILE"}).decode()
    environ = {**desk.environ, "INPUT": asked}
    with Orchestrator.open(desk.root, environ=environ) as own:
        own.work(slots=1, drain=True)
    said = [line["text"] for line in desk.orchestrion.log("R1") if line["stream"] == "out"]
    assert said == []
    assert desk.rows("select 1 from sessions") == []
    assert [(path, run) for path, _, _, _, _, run in desk.files()] == [("a.txt", 1)]


def test_a_run_of_another_store_is_not_ours(desk: Desk) -> None:
    assert desk.write("a.txt", environ={"ORCHESTRION_RUN": "another/R1"}) == Answer(0, "", "")
    assert desk.write("a.txt", environ={"ORCHESTRION_RUN": f"{desk.orchestrion.store.uuid}/R9"}).code == 0
    assert desk.files() == []


# -- what must never stop an agent ----------------------------------------------------------------


@pytest.mark.parametrize("event", ["SessionStart", "PostToolUse", "Stop", "TaskCompleted"])
@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"session_id": 7, "tool_input": {"file_path": "a"}}'],
)
def test_malformed_input(desk: Desk, event: str, raw: bytes) -> None:
    answer = desk.hook(event, raw=raw)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("orchestrion hook: ")
    assert answer.err.count("\n") == 1


def test_an_event_that_nobody_knows(desk: Desk) -> None:
    answer = desk.hook("PreCompact")
    assert (answer.code, answer.out) == (0, "")
    assert "'PreCompact'" in answer.err


@pytest.mark.parametrize("event", ["SessionStart", "PostToolUse", "Stop", "TaskCompleted"])
def test_no_project_and_no_store(desk: Desk, tmp_path: Path, event: str) -> None:
    fields = {"source": "startup", "tool_input": {"file_path": "a.txt"}}
    for place, made in (("nowhere", ""), ("empty", ".orchestrion")):
        folder = tmp_path / place
        (folder / made).mkdir(parents=True)
        answer = desk.hook(event, raw=json.dumps({"session_id": "x", "cwd": str(folder), **fields}).encode())
        assert (answer.code, answer.out) == (0, "")
        assert "no project" in answer.err if not made else "no store" in answer.err
        assert not list(folder.rglob("*.db"))


def test_a_broken_store(desk: Desk) -> None:
    desk.orchestrion.close()
    Path(desk.orchestrion.store.url).write_bytes(b"this is no database, however long one looks at it" * 100)
    answer = desk.write("a.txt")
    assert (answer.code, answer.out) == (0, "")
    assert "cannot be used" in answer.err


def test_a_locked_store_is_waited_for_only_so_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = sqlite3.connect(desk.orchestrion.store.url, isolation_level=None)
    holder.execute("begin immediate")
    monkeypatch.setattr(hook, "PATIENCE_S", 0.3)
    monkeypatch.setattr(sys, "stdin", open_bytes(desk.asked(source="startup")))
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
    monkeypatch.delenv("ORCHESTRION_RUN", raising=False)
    try:
        assert hook.main(["SessionStart"]) == 0
    finally:
        holder.close()
        sys.stdin.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert "is the store locked?" in said.err


def open_bytes(raw: bytes) -> Any:
    """Standard input that holds ``raw``."""
    import io

    return io.TextIOWrapper(io.BytesIO(raw))


# -- how much it needs ----------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["SessionStart", "PostToolUse", "Stop"])
def test_it_loads_neither_the_command_line_nor_yaml(desk: Desk, event: str) -> None:
    desk.hook("SessionStart", source="startup")
    fields = {"source": "resume", "tool_input": {"file_path": str(desk.root / "a.txt")}}
    code = (
        "import sys; sys.argv = ['orchestrion', 'hook', sys.argv[1]]\n"
        "from orchestrion.__main__ import main\n"
        "def end(code): print(*sys.modules, file=sys.stderr); raise SystemExit(code)\n"
        "import os; os._exit = end\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, event],
        input=desk.asked(**fields),
        env=desk.environ,
        capture_output=True,
        check=True,
    )
    loaded = set(done.stderr.decode().splitlines()[-1].split())
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, check=True)
    ours = loaded - set(bare.stdout.decode().split())
    assert "orchestrion.orchestrator.hooking" in ours
    unwanted = HEAVY if event == "SessionStart" else HEAVY + HEAVIER
    assert [one for one in sorted(ours) if any(one == h or one.startswith(f"{h}.") for h in unwanted)] == []
