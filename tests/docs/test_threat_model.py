"""Every row of the threat model has a test that shows it: one of these, or one that is there anyway."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.masking import masked
from orchestrion.runs.agents.agent import Assignment, Permissions
from orchestrion.runs.agents.claude import ClaudeAgent
from orchestrion.runs.log import RunLog, read
from orchestrion.scheduler import permissions
from stage import Stage

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")

#: row -> the tests that show it, below ``tests/``; "" is this file.
SHOWN = {
    "A1": [":test_a_command_reads_and_writes_all_that_is_the_users"],
    "A2": [":test_a_command_reads_other_runs"],
    "A3": [":test_a_command_that_leaves_its_run_is_the_user"],
    "A4": [
        ":test_a_command_writes_tokens_but_no_illegal_move",
        ":test_what_a_command_does_to_the_store_behind_its_triggers_is_named_afterwards",
    ],
    "A5": [":test_a_command_finds_the_users_repository"],
    "A6": [":test_what_claude_may_is_told_to_it"],
    "A7": [":test_what_claude_may_is_told_to_it"],
    "A8": ["runs/agents/test_codex.py:test_permissions", "runs/agents/test_codex.py:test_new_session"],
    "A9": [
        "runs/agents/test_acp.py:test_permissions_decide",
        "runs/agents/test_acp.py:test_nothing_is_written_where_only_reading_is_allowed",
    ],
    "A10": [
        "runs/agents/test_claude.py:test_its_environment_is_an_allow_list",
        "runs/test_supervise.py:test_the_agent_calls_back_wherever_the_database_is",
    ],
    "A11": [":test_commands_checks_and_setup_see_all_variables"],
    "K1": [
        ":test_inside_a_run_the_program_refuses",
        "orchestrator/test_rights.py:test_who_may_add_changes_nothing_that_is_there",
        "orchestrator/test_rights.py:test_from_inside_a_run_of_another_store_one_only_reads",
        "orchestrator/test_rights.py:test_an_empty_name_is_no_run",
        "orchestrator/test_rights.py:test_inside_a_run_no_other_project_gets_a_store_a_row_or_an_id",
        "orchestrator/test_rights.py:test_a_run_speaks_for_itself_and_overrules_no_person",
        "orchestrator/test_rights.py:test_a_run_speaks_in_the_sessions_that_it_or_an_earlier_attempt_began",
        "orchestrator/test_rights.py:test_a_run_that_is_over_reads_and_writes_nothing",
    ],
    "K2": [
        ":test_acting_on_this_machine_needs_the_key",
        "interfaces/web/test_web_security.py:test_a_key_that_others_can_read_is_set_right_and_said",
        "interfaces/web/test_web_security.py:test_what_has_the_place_of_the_key_and_is_none_opens_nothing_and_holds_nobody_up",
    ],
    "K3": [":test_a_command_reads_the_key", ":test_a_command_that_leaves_its_run_is_the_user"],
    "G1": [
        "runs/workspace/test_traps.py:test_a_repository_that_was_bent_is_not_believed_and_its_files_are_saved",
        ":test_a_command_can_push_into_the_project",
    ],
    "G2": [
        "runs/workspace/test_traps.py:test_no_setting_of_the_agent_makes_us_run_anything",
        "runs/workspace/test_traps.py:test_nor_does_one_in_a_submodule_or_a_clone",
        ":test_a_linked_worktree_shares_the_configuration",
    ],
    "G3": [
        "runs/workspace/test_traps.py:test_a_repository_that_was_bent_is_not_believed_and_its_files_are_saved",
        "runs/workspace/test_traps.py:test_a_linked_worktree_that_leads_elsewhere_is_not_believed",
    ],
    "G4": [
        "runs/workspace/test_traps.py:test_a_pipe_where_git_reads_holds_nobody_up",
        "runs/test_supervise.py:test_a_run_that_bends_its_own_folder_ends_and_gives_its_slot_back",
        "runs/test_supervise.py:test_reading_of_a_run_whose_folder_was_bent_waits_for_nothing_and_shows_the_rest",
        "orchestrator/test_private_files.py:test_what_has_the_place_of_a_file_of_the_store_holds_nobody_up",
        "orchestrator/test_private_files.py:test_what_a_link_leads_to_keeps_its_mode",
    ],
    "G5": [
        "runs/workspace/test_prepare.py:test_a_clone_has_the_identity_and_shares_neither_stash_nor_hooks",
        "runs/workspace/test_prepare.py:test_no_hook_of_the_user_runs_for_an_agent_in_a_linked_worktree",
    ],
    "G6": [
        "runs/workspace/test_prepare.py:test_a_workspace_pushes_only_where_that_is_allowed",
        ":test_a_push_to_another_address_is_not_stopped",
    ],
    "G7": [":test_a_check_runs_what_the_agent_wrote_as_the_user"],
    "S1": [
        "core/test_masking.py:test_a_secret_is_replaced_and_its_kind_stays",
        "runs/test_secrets_of_runs.py:test_what_a_run_prints_is_kept_without_secrets",
        "runs/test_secrets_of_runs.py:test_what_an_agent_says_of_its_work_is_kept_without_secrets",
        "runs/test_secrets_of_runs.py:test_values_of_the_worker_s_variables_are_kept_in_no_report",
        "runs/test_secrets_of_runs.py:test_both_databases_keep_what_was_said_without_secrets",
        "orchestrator/test_cases.py:test_a_question_of_a_client_is_kept_without_secrets",
    ],
    "S10": [
        "runs/test_secrets_of_runs.py:test_nor_is_one_that_the_agent_does_not_know_for_a_secret",
        "runs/test_secrets_of_runs.py:test_nor_where_its_run_ends_by_others",
        "runs/test_secrets_of_runs.py:test_nor_of_a_run_that_fails_after_its_report",
        "orchestrator/test_remembering.py:test_what_a_run_said_is_gone_through_once_more",
    ],
    "S2": [
        "core/test_masking.py:test_a_coloured_secret_is_replaced_and_the_colours_stay",
        "core/test_masking.py:test_a_secret_in_an_endless_line_is_replaced_wherever_it_is_cut",
        "core/test_masking.py:test_a_key_that_comes_line_by_line_or_in_pieces_is_replaced",
        "core/test_masking.py:test_the_lines_of_a_value_are_replaced_when_they_come_apart",
        "core/test_masking.py:test_lines_that_alone_would_be_no_secret_are_replaced_only_with_the_others",
    ],
    "S3": [
        ":test_a_secret_without_a_shape_is_kept",
        "core/test_masking.py:test_what_a_variable_holds_that_is_no_secret_stays",
    ],
    "S8": [
        "core/test_masking.py:test_what_a_variable_holds_that_is_secret_is_replaced",
        "core/test_masking.py:test_what_a_variable_holds_that_is_no_secret_stays",
    ],
    "S9": [
        "core/test_masking.py:test_a_value_in_json_is_replaced_and_json_it_stays",
        "core/test_masking.py:test_other_spellings_of_a_value_are_kept",
    ],
    "S4": [":test_a_secret_in_two_messages_is_kept_in_halves"],
    "S5": [":test_what_is_somebodys_work_is_not_altered"],
    "S6": ["runs/test_secrets_of_runs.py:test_debug_shows_no_secret_also_of_an_older_log"],
    "S7": ["interfaces/web/test_web_security.py:test_a_token_is_kept_as_a_hash"],
    "M1": [
        "orchestrator/test_private_files.py:test_everything_of_a_store_in_git_is_the_owners",
        "orchestrator/test_private_files.py:test_what_was_open_to_all_is_tightened_when_it_is_opened",
    ],
    "M2": [
        "orchestrator/test_private_files.py:test_outside_git_the_shared_folder_stays_shared_and_the_store_is_the_owners"
    ],
    "M3": ["orchestrator/test_private_files.py:test_a_group_that_shares_the_repository_does_not_share_the_store"],
    "H1": ["interfaces/web/test_web_security.py:test_without_a_token_nobody_comes_in"],
    "H2": [
        "interfaces/web/test_web_security.py:test_a_read_token_cannot_act",
        "interfaces/web/test_web_security.py:test_an_operator_cannot_do_what_admins_do",
    ],
    "H3": ["interfaces/web/test_web_security.py:test_a_token_ends"],
    "H4": ["interfaces/web/test_web_routes.py:test_commands_come_from_trusted_doors_alone"],
    "H5": [
        "interfaces/web/test_web_security.py:test_a_foreign_host_is_refused",
        "interfaces/web/test_web_security.py:test_a_foreign_origin_is_refused",
        "interfaces/web/test_web_security.py:test_a_form_cannot_act",
    ],
    "H6": [
        "interfaces/web/test_web_security.py:test_behind_a_proxy_nobody_is_from_this_machine",
        "interfaces/mcp/test_mcp_http.py:test_behind_a_proxy_nobody_is_from_this_machine",
    ],
    "H7": [
        "interfaces/web/test_web_serving.py:test_who_asks_without_a_token_is_counted_by_address_and_health_never",
        "interfaces/web/test_web_security.py:test_nobody_without_the_key_uses_up_what_its_holder_may_ask",
        "interfaces/web/test_web_security.py:test_of_one_caller_so_many_requests_are_answered_at_once",
        "interfaces/web/test_web_security.py:test_who_is_signed_in_or_signs_in_is_not_held_up_by_those_who_are_not",
        "interfaces/web/test_web_serving.py:test_streams_without_the_key_keep_neither_probes_nor_anybody_else_out",
    ],
    "H8": [
        "interfaces/web/test_web_serving.py:test_half_a_request_and_one_with_two_lengths_end_the_connection",
        "interfaces/test_http_connection.py:test_half_a_request_ends_the_connection",
        "interfaces/test_http_connection.py:test_a_body_that_drips_is_ended",
        "interfaces/test_http_connection.py:test_of_too_many_connections_one_that_is_waited_for_makes_room",
        "interfaces/test_http_connection.py:test_who_does_not_read_is_waited_for",
        "interfaces/test_http_connection.py:test_of_too_many_answers_those_without_the_key_make_room_and_nobody_new_is_kept_out",
        "interfaces/web/test_web_events.py:test_streams_without_the_key_make_room_for_those_with_it",
        "interfaces/test_http_connection.py:test_a_request_with_two_lengths_is_refused",
    ],
    "H9": ["interfaces/web/test_web_security.py:test_what_is_written_comes_back_as_data"],
}


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    rows = re.findall(r"^\| ([A-Z][0-9]+) \|", PAGE, re.MULTILINE)
    assert rows == sorted(set(rows), key=rows.index), "a row's name is used twice"
    assert set(rows) == set(SHOWN)


@pytest.mark.parametrize("row", SHOWN)
def test_the_tests_of_a_row_are_there(row: str) -> None:
    for test in SHOWN[row]:
        file, _, name = test.partition(":")
        text = (ROOT / "tests" / file if file else Path(__file__)).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {name}\(", text, re.MULTILINE), test


# -- what an agent that runs commands can do --------------------------------------------------------


@pytest.mark.long
def test_a_command_reads_and_writes_all_that_is_the_users(stage: Stage) -> None:
    secret = stage.folder / "home" / "diary"
    secret.write_text("dear diary")
    stage.open()
    stage.add(f"cat {secret}; echo and more >> {secret}")
    stage.drain()
    assert stage.lines() == ["dear diary"]
    assert secret.read_text() == "dear diaryand more\n"


@pytest.mark.long
def test_a_command_reads_other_runs(stage: Stage) -> None:
    stage.open()
    stage.add("echo for my own log")
    stage.add(f"cat {stage.run_folder('R1')}/log.jsonl {stage.run_folder('R1')}/brief.md", after=["T1"])
    stage.drain()
    read_by_the_other = "\n".join(stage.lines("R2"))
    assert "for my own log" in read_by_the_other
    assert "Run R1" in read_by_the_other


@pytest.mark.long
def test_a_command_that_leaves_its_run_is_the_user(stage: Stage) -> None:
    stage.open()
    stage.add("env -u ORCHESTRION_RUN orchestrion token create mine --role admin --json > made")
    stage.drain()
    made = json.loads(stage.merged("made") or "")
    assert stage.orchestrion.holder_of(made["token"])["role"] == "admin"
    assert not [
        one for one in stage.orchestrion.events(limit=1000) if one["kind"] == "token.created" and "run:" in one["actor"]
    ]


_BEND = """
import hashlib, os, sqlite3
store = sqlite3.connect(os.environ["ORCHESTRION_DB"], timeout=60)
digest = hashlib.sha256(b"orch_mine").hexdigest()
columns = "project, name, role, hash, created_at"
store.execute(f"insert into tokens ({columns}) values (1, 'mine', 'admin', ?, 1)", (digest,))
store.commit()
try:
    store.execute("update tasks set state = 'review' where id = 2")
except sqlite3.Error as refused:
    print(refused)
"""


@pytest.mark.long
def test_a_command_writes_tokens_but_no_illegal_move(stage: Stage) -> None:
    stage.open()
    bend = stage.folder / "bend.py"
    bend.write_text(_BEND)
    stage.add(f"{sys.executable} {bend}")
    stage.add("true", after=["T1"])
    stage.drain()
    assert stage.orchestrion.holder_of("orch_mine")["role"] == "admin"
    assert any("illegal_move" in line for line in stage.lines()), stage.lines(stream="err")


_UNDO = """
import os, sqlite3
store = sqlite3.connect(os.environ["ORCHESTRION_DB"], timeout=60)
[[move]] = store.execute("select sql from sqlite_master where name = 'tasks_move'")
for statement in (
    "drop trigger tasks_move",
    "update tasks set state = 'completed' where id = 2",
    move,
    "drop trigger runs_move",
    "delete from tasks where id = 3",
    "update decisions set title = 'theirs'",
):
    store.execute(statement)
store.commit()
"""


@pytest.mark.long
def test_what_a_command_does_to_the_store_behind_its_triggers_is_named_afterwards(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "bent", os.environ)  # whose store is not in order at the end
    stage.open()
    undo = stage.folder / "undo.py"
    undo.write_text(_UNDO)
    stage.orchestrion.decide("ours")
    stage.add(f"{sys.executable} {undo}")
    stage.add("true", after=["T1"])
    stage.orchestrion.add_gate("T2", "approval")
    stage.add("true", after=["T2"])
    stage.drain()
    assert (stage.task("T2")["state"], stage.task("T2")["attempts"]) == ("completed", 0)
    found = stage.orchestrion.maintain("validate_structure", level="comprehensive")["found"]
    named = {problem["rule"]: problem["said"] for problem in found["problems"]}
    assert "T2 is completed" in named["results_are_of_a_run"]
    assert "runs_move is gone" in named["the_database_refuses_too"]
    assert "T3 is not there" in named["references_are_there"]
    assert not any("D1" in said for said in named.values())
    assert stage.orchestrion.health()["components"]["structure"]["status"] == "degraded"
    stage.close()


@pytest.mark.long
def test_a_command_finds_the_users_repository(stage: Stage) -> None:
    stage.open()
    hook = "$(head -1 .git/objects/info/alternates)/../hooks"
    stage.add(
        f'mkdir -p {hook}; echo "touch {stage.folder}/was-here" > {hook}/post-commit; chmod +x {hook}/post-commit'
    )
    stage.drain()
    assert stage.run()["state"] == "succeeded"
    left = stage.root / ".git" / "hooks" / "post-commit"
    assert os.access(left, os.X_OK)
    assert "was-here" in left.read_text()


@pytest.mark.long
@pytest.mark.users_repository_changes
def test_a_command_can_push_into_the_project(stage: Stage) -> None:
    stage.open()
    stage.add(
        "git commit -q --allow-empty -m pushed; git push -q $ORCHESTRION_PROJECT HEAD:pushed;"
        " git push -q $ORCHESTRION_PROJECT HEAD:refs/orchestrion/plans/default; exit 1"
    )
    stage.drain()
    for ref in ("pushed", "refs/orchestrion/plans/default"):
        assert stage.git("log", "-1", "--format=%s", ref) == "pushed"


@pytest.mark.long
def test_commands_checks_and_setup_see_all_variables(stage: Stage) -> None:
    stage.environ["SOME_SERVICE"] = "its address"
    stage.open(workspace__setup='echo "setup $SOME_SERVICE"')
    stage.add('echo "command $SOME_SERVICE"', checks=('echo "check $SOME_SERVICE"',))
    stage.drain()
    assert stage.lines() == ["command its address"]
    assert [check["output"] for check in stage.run()["checks"]] == ["setup its address\n", "check its address\n"]


@pytest.mark.parametrize("permissions", list(Permissions))
def test_what_claude_may_is_told_to_it(tmp_path: Path, permissions: Permissions) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asked = Assignment("Do it", tmp_path, tmp_path, program=(str(program),), permissions=permissions)
    argv = ClaudeAgent().begin(asked).argv()
    mode = argv[argv.index("--permission-mode") + 1]
    assert mode == {"read": "default", "edit": "acceptEdits", "all": "bypassPermissions"}[str(permissions)]
    assert ("--disallowedTools" in argv) is (permissions is Permissions.READ)
    assert "--allowedTools" not in argv


# -- what the program refuses -----------------------------------------------------------------------

FORBIDDEN = (
    "approve T2",
    "cancel T2",
    "gate open T2",
    "land",
    "permissions --allow 1",
    "slots global=9",
    "token create mine",
)


@pytest.mark.long
def test_inside_a_run_the_program_refuses(stage: Stage) -> None:
    stage.open()
    stage.add("\n".join([*(f"orchestrion --json {command}" for command in FORBIDDEN), "true"]))
    stage.add("true", after=["T1"])
    stage.orchestrion.add_gate("T2", "approval")
    stage.drain()
    refused = re.findall(r'^ *"code": "(\w+)"', "\n".join(stage.lines(stream="err")), re.MULTILINE)
    assert refused == ["not_for_runs"] * len(FORBIDDEN)
    assert stage.task("T2")["state"] not in ("ready", "completed", "cancelled")
    assert stage.orchestrion.tokens() == []


@pytest.fixture
def server(stage: Stage) -> Iterator[str]:
    """The address of a server of the project."""
    stage.open()
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrion", "serve", "--port", "0"],
        cwd=stage.root,
        env=stage.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    with process:
        said = next(line for line in process.stderr if "listening on " in line)
        yield re.search(r"http://([0-9.]+:[0-9]+)", said)[1]  # type: ignore[index]
        process.terminate()
        process.stderr.read()


def post(address: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """What a server answers to whoever adds a task."""
    with closing(HTTPConnection(address, timeout=60)) as connection:
        told = {"Content-Type": "application/json", **headers}
        connection.request("POST", "/api/v1/tasks", json.dumps({"title": "x"}), told)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.long
def test_acting_on_this_machine_needs_the_key(stage: Stage, server: str) -> None:
    assert post(server)[1]["code"] == "key_needed"
    assert post(server, Authorization="Bearer guessed")[0] == 401
    assert stage.orchestrion.list_tasks().total == 0
    key = stage.orchestrion.project.store_dir / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert post(server, Authorization=f"Bearer {key.read_text().strip()}")[0] == 201


@pytest.mark.long
def test_a_command_reads_the_key(stage: Stage, server: str) -> None:
    curl = 'curl -s -H "Authorization: Bearer $(cat $(dirname $ORCHESTRION_DB)/key)" -d \'{"title": "x"}\''
    stage.add(f"{curl} -H 'Content-Type: application/json' http://{server}/api/v1/tasks > made")
    stage.drain()
    assert json.loads(stage.merged("made") or "")["id"] == "T2"


# -- its workspace ----------------------------------------------------------------------------------


_SET = """
for did in clean smudge; do git config filter.mine.$did "echo $did >> {folder}/filters; cat"; done
git config core.fsmonitor "touch {folder}/monitor"
git config core.hooksPath {folder}/hooks
echo '* filter=mine' > .gitattributes; echo b > b.txt
"""


@pytest.mark.long
@pytest.mark.users_repository_changes
def test_a_linked_worktree_shares_the_configuration(stage: Stage) -> None:
    stage.open(workspace__isolation="worktree")
    (stage.folder / "hooks").mkdir()
    for hook in ("post-checkout", "pre-commit", "post-commit", "reference-transaction"):
        (stage.folder / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {stage.folder}/hook\n")
        (stage.folder / "hooks" / hook).chmod(0o755)
    stage.add(_SET.format(folder=stage.folder))
    stage.add("echo c > c.txt", after=["T1"])
    stage.drain()
    assert set((stage.folder / "filters").read_text().split()) == {"clean", "smudge"}
    assert not (stage.folder / "monitor").exists()
    assert not (stage.folder / "hook").exists()
    set_there = (stage.root / ".git" / "config").read_text()
    assert "mine" in set_there
    assert "fsmonitor" in set_there


@pytest.mark.long
def test_a_push_to_another_address_is_not_stopped(stage: Stage) -> None:
    elsewhere = stage.folder / "elsewhere.git"
    stage.git("init", "-q", "--bare", elsewhere)
    stage.open()
    stage.add(f"echo b > b.txt; git add b.txt; git commit -qm b; git push -q {elsewhere} HEAD:refs/heads/x")
    stage.drain()
    assert stage.git("show", "x:b.txt", at=elsewhere) == "b"


@pytest.mark.long
def test_a_check_runs_what_the_agent_wrote_as_the_user(stage: Stage) -> None:
    stage.open()
    stage.add(f"echo 'touch {stage.folder}/was-here' > test.sh", checks=("sh test.sh",))
    stage.drain()
    assert (stage.folder / "was-here").exists()


# -- secrets ----------------------------------------------------------------------------------------


def test_a_secret_without_a_shape_is_kept() -> None:
    text = f"the password is hunter2, the key {secrets.token_hex(32)}"
    assert masked(text) == text


def test_a_secret_in_two_messages_is_kept_in_halves(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.add_all("out", ['{"delta": "ghp_abcdefghijklm"}', '{"delta": "nopqrstuvwxyzABCDEFGHIJ"}'])
    log.close()
    kept = [line["text"] for _, line in read(tmp_path / "log.jsonl")]
    assert kept == ['{"delta": "ghp_abcdefghijklm"}', '{"delta": "nopqrstuvwxyzABCDEFGHIJ"}']


@pytest.mark.long
def test_what_is_somebodys_work_is_not_altered(stage: Stage) -> None:
    token = "ghp_" + "a1" * 18
    stage.open()
    stage.add(
        f"echo {token} > b.txt; echo {token} | orchestrion done --summary made --detail -",
        title=f"Use {token}",
        description=f"with {token}",
    )
    stage.drain()
    task = stage.task()
    assert (task["title"], task["description"]) == (f"Use {token}", f"with {token}")
    assert stage.orchestrion.artifact("A1")["text"].strip() == token
    assert stage.merged("b.txt") == f"{token}\n"
    assert token not in (stage.run_folder() / "brief.md").read_text()
    asked = [permissions.Ask("Bash", f"curl -u {token} example.org")]
    stage.orchestrion.store.write(lambda tx: permissions.note(tx, 1, 1, asked))
    with stage.direct() as database:
        [denied] = database.rows("select said, rule from permissions")
    assert denied["rule"] == f"Bash(curl -u {token} example.org)"
    assert token not in denied["said"]


def test_a_threat_model_is_linked_where_people_look() -> None:
    assert "docs/threat-model.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/threat-model.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
