"""Tools that look after the project and this server: maintenance, health, restart."""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.core.errors import Conflict, InvalidInput, StoreProblem
from orchestrion.core.model import iso
from orchestrion.interfaces.mcp.desk import Desk, Seat, ToolCall
from orchestrion.interfaces.mcp.replies import LIMIT, fitted, shortened, size
from orchestrion.ops import health as measured
from orchestrion.ops import restart as restarting
from orchestrion.ops.health import DEGRADED, HEALTHY, Part
from orchestrion.orchestrator.checking import report

#: A client that called within this time counts as connected over HTTP, in seconds.
CONNECTED_S = 300.0
#: Mistakes of ours within this time are worth a word, in seconds.
RECENT_S = 600.0
#: Restarts that a history names.
RESTARTS = 10
#: What an action found goes by this name.
_FOUND = {
    "scan_cleanup": "scan_results",
    "validate_structure": "validation_results",
    "update_documentation": "documentation_results",
    "prepare_handover": "handover_package",
}


# -- maintenance --------------------------------------------------------------------------------


def maintain(call: ToolCall) -> dict[str, Any]:
    """Does one action of maintenance."""
    given = call.given
    target = (given["target_task_id"] or "").strip() or None
    if given["scope"] == "specific_subtask" and target is None:
        raise InvalidInput(
            "orchestrator_maintenance_coordinator: target_task_id is required with the scope specific_subtask",
            hint="name the task, as T12; or choose current_session or full_project",
            code="invalid_parameters",
            problems=[{"parameter": "target_task_id", "problem": "is required with the scope specific_subtask"}],
        )
    done = call.cases.maintain(
        given["action"],
        scope=given["scope"],
        level=given["validation_level"],
        task=target,
        dry_run=given["dry_run"],
    )
    acts = done.get("done", done.get("would_do", []))
    reply = {
        "status": "maintenance_completed",
        "operation_id": done["id"],
        "timestamp": done["at"],
        "action": done["action"],
        "scope": done["scope"],
        "validation_level": done["level"],
        "dry_run": done["dry_run"],
        "target_task_id": done["task"],
        "cleanup_total": len(acts),
        "cleanup_actions": acts,
        "recommendations": [shortened(call.advised(line), 200, "orchestrion why") for line in done["recommendations"]],
        "notes": done["notes"],
    }
    reply = fitted(reply, ("cleanup_actions", "recommendations"))
    reply["cleanup_actions"] = reply["cleanup_actions"][:20]
    found = dict(done["found"])
    if "next_steps" in found:
        found["next_steps"] = [call.advised(step) for step in found["next_steps"]]
    return _with_found(reply, _FOUND[done["action"]], found)


def _with_found(reply: dict[str, Any], key: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """``reply`` with what was found, its longest lists cut until all fits; what was cut is counted."""
    shown: dict[str, Any] = {one: dict(value) if isinstance(value, dict) else value for one, value in found.items()}
    left = 0
    while size({**reply, key: shown}) > LIMIT - 60:
        holder, longest = max(_lists(shown), key=lambda one: size(one[0][one[1]]), default=(None, ""))
        if holder is None or not holder[longest]:
            left += len(reply["cleanup_actions"][3:]) + len(reply["recommendations"][3:])
            reply = {name: value[:3] if isinstance(value, list) else value for name, value in reply.items()}
            break
        keep = len(holder[longest]) * 2 // 3
        left += len(holder[longest]) - keep
        holder[longest] = holder[longest][:keep]
    return {**reply, key: shown} | ({"left_out": left} if left else {})


def _lists(shown: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Where the lists are that can be cut, in ``shown`` and one level below."""
    holders = [shown, *(value for value in shown.values() if isinstance(value, dict))]
    return [(holder, key) for holder in holders for key, value in holder.items() if isinstance(value, list) and value]


# -- health -------------------------------------------------------------------------------------


def health(call: ToolCall) -> dict[str, Any]:
    """How well this server and its project are, measured now."""
    given, desk = call.given, call.desk
    found = _examined(call)
    checks: dict[str, Any] = {}
    if given["include_reboot_readiness"]:
        issues = _obstacles(call)
        ready = {"ready": not issues, "issues": issues, "details": {"requests_in_flight": desk.in_flight}}
        checks["reboot_readiness"] = ready
    if given["include_database_status"]:
        store = found["components"]["store"]
        kept = ("code", "kind", "schema", "known_schema", "read_ms", "write_ms", "bytes", "integrity")
        facts = {key: store[key] for key in kept if key in store}
        checks["database"] = {"connected": store["status"] != "unhealthy", "status": store["status"], **facts}
    if given["include_connection_status"]:
        checks["connections"] = {**_connections(desk), "status": DEGRADED if desk.closing else HEALTHY}
    reply = {
        "healthy": found["healthy"],
        "status": found["status"],
        "live": found["live"],
        "ready": found["ready"],
        "not_ready": found["not_ready"],
        "timestamp": found["at"],
        "server_version": found["version"],
        "maintenance_mode": desk.closing,
        "checks": checks,
        "components": {name: _brief(part) for name, part in found["components"].items()},
        "waiting_tasks_total": found.get("waiting_tasks", {}).get("total", 0),
        "waiting_tasks": found.get("waiting_tasks", {}).get("tasks", []),
        "runs": [run for run in found.get("runs", {}).get("runs", []) if run["status"] != "working"],
    }
    return fitted(reply, ("waiting_tasks", "runs"))


def _examined(call: ToolCall) -> dict[str, Any]:
    """The health of all; a store that cannot even be opened is part of the answer."""
    try:
        return call.cases.health(extra=[_server(call)], closing=call.desk.closing)
    except StoreProblem as problem:
        return report([measured.broken("store", problem), _server(call)], {}, closing=call.desk.closing)


def _brief(part: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"status": part["status"], "said": part["said"][:160]}
    kept |= {key: part[key] for key in ("advice", "answered_ms", "alive", "ready", "oldest_ready_s") if part.get(key)}
    kept |= {key: part[key] for key in ("uptime_s", "rss_mb", "threads", "calls", "requests_in_flight") if key in part}
    return kept


def _server(call: ToolCall) -> Part:
    """This server's own numbers."""
    import psutil

    desk, now = call.desk, time.time()
    process = psutil.Process()
    with process.oneshot():
        rss, threads = round(process.memory_info().rss / 1e6, 1), process.num_threads()
    recent = [one for one in desk.failures if now - one[0] < RECENT_S]
    facts = {
        "pid": os.getpid(),
        "transport": desk.transport,
        "uptime_s": round(now - desk.started_at, 3),
        "rss_mb": rss,
        "threads": threads,
        "calls": sum(seat.calls for seat in desk.seats.values()),
        "requests_in_flight": desk.in_flight,
        "recent_mistakes": len(recent),
    }
    said = f"up {facts['uptime_s']:.0f} s, {rss:.0f} MB, {desk.in_flight} calls in flight"
    if recent:
        advice = "their tracebacks are in orchestrion's errors.log; please report them"
        return Part("server", DEGRADED, f"{len(recent)} mistakes of its own lately; {said}", advice, facts)
    return Part("server", HEALTHY, said, "", facts)


def _connections(desk: Desk) -> dict[str, Any]:
    active = _connected(desk)
    return {
        "transport": desk.transport,
        "active_connections": len(active),
        "known_sessions": len(desk.seats),
        "requests_in_flight": desk.in_flight,
        "protocols": sorted({seat.protocol for seat in active if seat.protocol}),
    }


def _connected(desk: Desk) -> list[Seat]:
    """Clients that are there: the one of stdio, those who called lately over HTTP."""
    now = time.time()
    return [seat for seat in desk.seats.values() if desk.transport == "stdio" or now - seat.seen_at < CONNECTED_S]


def _obstacles(call: ToolCall) -> list[str]:
    """Why this server could not restart now."""
    found = ["it is restarting already"] if call.desk.closing else []
    if call.desk.restart is None:
        found.append("it runs inside another program, which has to restart it")
    try:
        wait = restarting.must_wait(call.cases, call.desk.name, time.time())
    except StoreProblem as problem:
        return [*found, f"the store is away, where a restart is recorded: {problem.message}"]
    return found + ([f"it restarted too often; possible in {wait:g} s"] if wait else [])


# -- restart ------------------------------------------------------------------------------------

#: What becomes of calls that were taken, by whether a restart is graceful.
_RESTARTS = {True: "the server answers what it has taken", False: "the server tells who still waits to ask again"}


def restart(call: ToolCall) -> dict[str, Any]:
    """Restarts this server, once this reply is out."""
    given, desk = call.given, call.desk
    call.cases.judge("restart_server")
    if desk.closing:
        raise Conflict("this server is restarting already", hint="ask orchestrator_restart_status", code="restarting")
    if desk.restart is None:
        raise Conflict(
            "this server runs inside another program and cannot restart itself",
            hint="restart that program",
            code="cannot_restart",
        )
    order = restarting.Order(
        id=uuid.uuid4().hex[:12],
        server=desk.name,
        reason=given["reason"],
        graceful=given["graceful"],
        preserve_state=given["preserve_state"],
        timeout_s=float(given["timeout"]),
    )
    restarting.begin(call.cases, order, time.time())
    desk.restart(order)
    return {
        "restart_id": order.id,
        "graceful": order.graceful,
        "preserve_state": order.preserve_state,
        "timeout": given["timeout"],
        "phase": "preparing",
        "progress": restarting.PHASES["preparing"],
        "restart_reason": order.reason,
        "requests_in_flight": max(0, desk.in_flight - 1),
        "completed_at": None,
        "errors": [],
        "message": f"{_RESTARTS[order.graceful]} and executes itself anew; your connection stays open",
        "next_steps": ["orchestrator_restart_status says how it went"],
    }


def shutdown_prepare(call: ToolCall) -> dict[str, Any]:
    """What would be lost if this server were stopped now."""
    given, desk = call.given, call.desk
    blocking: list[str] = []
    checks: dict[str, Any] = {}
    lost: list[str] = []
    others = max(0, desk.in_flight - 1)
    if given["check_active_tasks"]:
        checks["active_tasks"], lost = _active_tasks(call)
    if given["check_database_state"]:
        store = measured.of_store(call.cases.store)
        calls = {"transactions_pending": others, "connections_open": desk.threads}
        checks["database"] = {**calls, "status": store.status, "write_ms": store.facts.get("write_ms")}
        blocking += [f"the store: {store.said}"] if store.status == "unhealthy" else []
    if given["check_client_connections"]:
        seats = _connected(desk)
        status = "busy" if others else "idle"
        told = {"active_connections": len(seats), "notifiable": 0, "requests_in_flight": others, "status": status}
        checks["client_connections"] = told
    blocking += [f"{others} calls are being answered"] if others else []
    return {
        "ready_for_shutdown": not blocking,
        "blocking_issues": blocking,
        "would_be_lost": lost + ([f"the answers to {others} calls; what they had not committed"] if others else []),
        "force": "orchestrator_restart_server with graceful false does not wait for them",
        "timestamp": iso(time.time_ns() // 1_000_000),
        "checks": checks,
    }


def _active_tasks(call: ToolCall) -> tuple[dict[str, Any], list[str]]:
    """Runs that are active: supervised ones go on without any server, a client's as long as its lease."""
    runs = call.cases.status()["runs"]
    own = [run for run in runs if not run["supervised"]]
    lost = [f"{run['id']} of {run['task']} goes back at {run['lease_until']} unless its client returns" for run in own]
    checked = {
        "count": len(runs),
        "supervised": len(runs) - len(own),
        "held_by_clients": len(own),
        "suspendable": len(runs),
        "status": "active" if runs else "idle",
    }
    return checked, lost[:10]


def reconnect_test(call: ToolCall) -> dict[str, Any]:
    """Whether a client would find all again: the store answers, its session is known here and there."""
    given, desk = call.given, call.desk
    store = measured.of_store(call.cases.store)
    passed = [store.status != "unhealthy"]
    results: dict[str, Any] = {"store": {"status": store.status, "read_ms": store.facts.get("read_ms")}}
    if given["session_id"]:
        results["session_test"] = _session_test(call, given["session_id"].strip())
        passed.append(results["session_test"]["status"] == "pass")
    else:
        results["all_sessions"] = [_seat(seat) for seat in list(desk.seats.values())[-20:]]
    if given["include_buffer_status"]:
        waiting = desk.line.buffered() if desk.line else 0
        in_flight = {"requests_in_flight": desk.in_flight, "unread_bytes": waiting}
        results["buffer_status"] = {**in_flight, "held_back": desk.closing}
    if given["include_reconnection_stats"]:
        results["reconnection_stats"] = _reconnections(call)
    status = "pass" if all(passed) else "partial" if any(passed) else "fail"
    now = iso(time.time_ns() // 1_000_000)
    reply = {"test_completed": True, "timestamp": now, "overall_status": status}
    return _with_found({**reply, "cleanup_actions": [], "recommendations": []}, "results", results)


def _session_test(call: ToolCall, session: str) -> dict[str, Any]:
    """A session by its name, or by the client's own name of its conversation. Raises NotFound."""
    found = call.cases.session_detail(session)
    seat = next((one for one in call.desk.seats.values() if one.session == found["id"]), None)
    shown = {"session_id": found["id"], "status": "pass", "state": found["state"], "last_activity": found["seen_at"]}
    if found["state"] != "active":
        shown |= {"status": "fail", "reason": "it has ended; orchestrator_resume_session goes on with it"}
    return shown | {"connected_here": seat is not None, "connection": _seat(seat) if seat else None}


def _seat(seat: Seat) -> dict[str, Any]:
    return {
        "session_id": seat.session,
        "client": seat.client,
        "protocol": seat.protocol,
        "transport": seat.transport,
        "calls": seat.calls,
        "restarts_survived": seat.carried,
        "last_activity": iso(int(seat.seen_at * 1000)),
    }


def _reconnections(call: ToolCall) -> dict[str, Any]:
    own = [one for one in restarting.history(call.cases) if one["server"] == call.desk.name]
    over = [one for one in own if one["phase"] == "complete"]
    return {
        "restarts": len(own),
        "successful": len(over),
        "sessions_carried": sum(seat.carried > 0 for seat in call.desk.seats.values()),
        "last_seconds": round(over[0]["ended"] - over[0]["began"], 3) if over else None,
    }


def restart_status(call: ToolCall) -> dict[str, Any]:
    """The last restart of this server and its phases."""
    found = restarting.history(call.cases)
    now = restarting.current(found, call.desk.name, call.desk.closing)
    now["estimated_completion"] = _estimate(now, found)
    if not call.given["include_error_details"]:
        now["errors"] = len(now.get("errors", []))
    reply: dict[str, Any] = {"current_status": now, "timestamp": iso(time.time_ns() // 1_000_000)}
    if call.given["include_history"]:
        reply["history"] = _history(found, call.given["include_error_details"])
    return reply


def _estimate(now: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str | None:
    """When a restart that is going on will probably be over, by how long earlier ones took; None: nobody knows."""
    took = [one["ended"] - one["began"] for one in found if one["phase"] == "complete"]
    began = next((one["began"] for one in found if iso(int(one["began"] * 1000)) == now.get("started_at")), None)
    if not took or began is None or now["completed_at"]:
        return None
    return iso(int((began + statistics.median(took)) * 1000))


def _history(found: Sequence[Mapping[str, Any]], with_errors: bool) -> dict[str, Any]:
    over = [one for one in found if one["phase"] == "complete"]
    return {
        "recent_restarts": [_past(one, with_errors) for one in found[:RESTARTS]],
        "total_restarts": len(found),
        "last_successful_restart": iso(int(over[0]["ended"] * 1000)) if over else None,
    }


def _past(one: Mapping[str, Any], with_errors: bool) -> dict[str, Any]:
    shown = {
        "timestamp": iso(int(one["began"] * 1000)),
        "reason": one["reason"],
        "graceful": one["graceful"],
        "success": one["phase"] == "complete",
        "phase": one["phase"],
        "duration": round(one["ended"] - one["began"], 3),
        "phases": [phase["phase"] for phase in one["phases"]][-3:],
    }
    return shown | ({"errors": one["errors"]} if with_errors and one["errors"] else {})
