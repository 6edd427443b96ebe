"""Tools about runs: start one with an agent of this machine, watch it, talk to it, end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.values import number
from orchestrion.interfaces.mcp.desk import ToolCall
from orchestrion.interfaces.mcp.replies import fitted, page, shortened


def heartbeat(call: ToolCall) -> dict[str, Any]:
    """Renews a lease."""
    run = call.cases.heartbeat(call.given["run_id"].strip()).as_json()
    return {"run": run["id"], "task_id": run["task"], "lease_until": run["lease_until"], "state": run["state"]}


def start(call: ToolCall) -> dict[str, Any]:
    """Has an agent of this machine do a task, in a worker of its own that this server's end does not end."""
    call.report(0, None, "waiting for the agent to start")
    task = call.given["task_id"].strip()
    try:
        run = call.cases.start_run(task, agent=call.given["agent"])
    except InvalidInput as refused:
        if refused.code == "command_missing":
            change = f"`orchestrion update {task} --run CMD`"
            refused.hint = f"name an agent that needs none (agent=claude, say), or give the task a command: {change}"
        raise
    kept = ("agent", "state", "phase")
    return {"run": run["id"], "task_id": run["task"]} | {key: run[key] for key in kept}


def status(call: ToolCall) -> dict[str, Any]:
    """One run with its log, or the runs of a task, or all runs, newest first."""
    given = call.given
    if given["run_id"]:
        return _one(call, given["run_id"].strip())
    if given["include_log"]:
        raise InvalidInput(
            "orchestrator_run_status: include_log needs run_id",
            hint="name the run",
            code="invalid_parameters",
            problems=[{"parameter": "run_id", "problem": "is required with include_log"}],
        )
    found = call.cases.list_runs(task=given["task_id"], limit=50, offset=given["offset"]).as_json("runs")
    reply = {"total_count": found["total"]}
    return page(reply, "runs", map(_shown, found["runs"]), total=found["total"], offset=given["offset"])


def _one(call: ToolCall, run: str) -> dict[str, Any]:
    detail, task = call.cases.run_detail(run), call.given["task_id"]
    if task and number(task, "T") != number(detail["task"], "T"):
        raise InvalidInput(
            f"{detail['id']} is a run of {detail['task']}, not of {task}", hint="name one of the two", code="wrong_run"
        )
    files = call.cases.files_of(run)
    reply: dict[str, Any] = {
        **_shown(detail),
        "checks": [{key: one[key] for key in ("command", "exit_code", "duration_ms")} for one in detail["checks"]],
        "files": [f"{one['kind']} {one['path']}" for one in files],
        "overlaps": detail["overlaps"][:10],
        "messages": [{key: one[key] for key in ("text", "state", "created_at")} for one in detail["messages"][-5:]],
        "log": f"orchestrion://runs/{detail['id']}/log",
        "diff": f"orchestrion://runs/{detail['id']}/diff",
    }
    if not call.given["include_log"]:
        return fitted(reply, ("files", "messages", "checks"))
    offset = call.given["offset"]
    found = call.cases.log_lines(run, offset, 200)
    lines = ({key: shortened(str(value), 300, reply["log"]) for key, value in line.items()} for line in found.lines)
    return page(
        {"run": detail["id"], "state": detail["state"], "log_total": found.total},
        "log_lines",
        lines,
        total=found.total,
        offset=offset,
    )


def _shown(run: Mapping[str, Any]) -> dict[str, Any]:
    kept = (
        "id", "task", "attempt", "agent", "role", "state", "phase", "code", "supervised", "branch", "lease_until",
        "started_at", "ended_at", "duration_s", "turns", "cost_usd", "files_changed", "exit_code",
        "awaits",
    )  # fmt: skip
    shown = {key: run[key] for key in kept if run[key] not in (None, "")}
    shown["summary"] = shortened(run["summary"], 240, f"orchestrion://runs/{run['id']}")
    shown["reason"] = shortened(run["reason"], 240, f"orchestrion://runs/{run['id']}")
    return {key: value for key, value in shown.items() if value is not None}


def kill(call: ToolCall) -> dict[str, Any]:
    """Ends a run."""
    reason = call.given["reason"] or "killed by a client"
    killed = call.cases.kill(call.given["run_id"].strip(), reason)
    shown = killed.as_json()
    note = call.cases.ended_elsewhere(shown["id"])
    return {**_shown(shown), "held_by": killed.row["actor"], **({"note": note} if note else {})}


def message(call: ToolCall) -> dict[str, Any]:
    """Says something to a run's agent."""
    found = call.cases.message(call.given["run_id"].strip(), call.given["text"])
    return {"run": found["run"], "state": found["state"], "how": found["how"], "created_at": found["created_at"]}
