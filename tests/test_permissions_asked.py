"""From an agent that is denied something to the attempt that may do it; its program speaks as Claude Code does."""

from __future__ import annotations

import sys

import pytest

from orchestrion.core.errors import Conflict
from orchestrion.scheduler import permissions
from stage import Stage

pytestmark = pytest.mark.long

AGENT = """
import json, os, sys
DIES = False
from pathlib import Path

def say(**line):
    print(json.dumps(line), flush=True)

sys.stdin.readline()
rules = sys.argv[sys.argv.index("--allowedTools") + 1:] if "--allowedTools" in sys.argv else []
say(type="system", subtype="init", session_id="s1", model="fake")
call = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "make release"}}
usage = {"input_tokens": 10, "output_tokens": 1}
say(type="assistant", message={"id": "m1", "model": "fake", "content": [call], "usage": usage})
denied = "Bash(make release)" not in rules
said = {"type": "tool_result", "tool_use_id": "c1", "is_error": denied, "content": "denied" if denied else "made"}
decision = {"id": "c1", "permission_decision": {"decision": "deny" if denied else "accept"}}
say(type="user", message={"content": [said]}, tool_result_meta=[decision])
if DIES:
    os.kill(os.getpid(), 9)
if not denied:
    Path("release.txt").write_text(" ".join(sys.argv[1:]))
say(type="result", subtype="success", is_error=False, result="as far as I may")
"""


def play(stage: Stage, program: str = AGENT) -> None:
    """A task fails because its agent was not allowed to do what it takes."""
    file = stage.folder / "claude.py"
    file.write_text(program)
    stage.close()
    stage.open(agents={"claude": {"program": f"{sys.executable} {file}"}}, run__feedback=0, retry__delay_s=0)
    stage.orchestrion.add("Release it", agent="claude", checks=["test -f release.txt"], max_retries=0)
    assert stage.drain().failed == 1


def test_what_is_allowed_is_done_by_the_next_attempt_in_its_session(stage: Stage) -> None:
    play(stage)
    one = stage.orchestrion
    found = one.permissions()
    assert found["total"] == 1
    [ask] = found["permissions"]
    assert (ask["task"], ask["run"], ask["tool"], ask["said"]) == ("T1", "R1", "Bash", "make release")
    assert ask["rule"] == "Bash(make release)"
    assert [card["permission"] for card in one.board()["permissions"]] == [1]
    allowed = one.on_behalf_of("web:ada").allow(1)
    assert (allowed["state"], allowed["retried"], allowed["decided_by"]) == ("allowed", True, "web:ada")
    assert stage.drain().all_completed
    assert "--resume s1" in (stage.merged("release.txt") or "")
    assert one.permissions()["total"] == 0
    assert one.board()["permissions_total"] == 0
    with pytest.raises(Conflict, match="allowed by web:ada already"):
        one.refuse(1)
    kinds = [event["kind"] for event in one.events(limit=1000) if event["kind"].startswith("permission.")]
    assert kinds == ["permission.asked", "permission.allowed"]


def test_what_is_refused_is_not_asked_again(stage: Stage) -> None:
    play(stage)
    one = stage.orchestrion
    assert one.refuse(1)["state"] == "refused"
    one.retry("T1")
    assert stage.drain().failed == 1
    assert one.permissions()["total"] == 0
    assert [ask["state"] for ask in one.permissions(pending=False, task="T1")["permissions"]] == ["refused"]


def test_an_agent_that_asks_without_end_fills_no_board(stage: Stage) -> None:
    asking = """
for number in range(3000):
    call = {"type": "tool_use", "id": f"n{number}", "name": "Bash", "input": {"command": f"make n{number}"}}
    say(type="assistant", message={"id": f"n{number}", "model": "fake", "content": [call], "usage": usage})
    said = {"type": "tool_result", "tool_use_id": f"n{number}", "is_error": True, "content": "denied"}
    decision = {"id": f"n{number}", "permission_decision": {"decision": "deny"}}
    say(type="user", message={"content": [said]}, tool_result_meta=[decision])
denied =
"""
    play(stage, AGENT.replace("\ndenied =", asking.rstrip(), 1))
    assert stage.orchestrion.permissions()["total"] == permissions.MOST
    assert len(stage.orchestrion.board()["permissions"]) < permissions.MOST


def test_it_is_kept_if_the_agent_dies_at_once(stage: Stage) -> None:
    play(stage, AGENT.replace("DIES = False", "DIES = True"))
    assert stage.orchestrion.permissions()["total"] == 1
