"""What somebody needs who goes on with a task, a session or a work stream: all of it comes from the store.

Which files were created, modified and deleted and whether that still holds, what was
decided, how it was tried before, what may go wrong, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from orchestrion.core.model import name
from orchestrion.core.states import TaskState
from orchestrion.core.values import readable
from orchestrion.memory import decisions, files, handoff, successors
from orchestrion.memory.prime import cut, line
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: So many things of each kind are given.
NAMED = 20
#: So many files of each kind are given; the others are counted.
FILES_NAMED = 100
#: Bytes of somebody's text, and of the whole one.
_SAID, _TEXT = 2_000, 16_000


class Checked(TypedDict):
    """Files as they were verified just now."""

    #: So many of them as are shown, the worst first.
    files: Sequence[Mapping[str, Any]]
    #: How many there are.
    total: int
    #: What came of all together.
    status: str


def of_task(tx: Transaction, task: Row, checked: Checked) -> dict[str, Any]:
    """The context of a task, with its files."""
    runs = tx.all("runs_of_task", task=task["id"])
    near = [task["id"], *(row["id"] for row in tx.all("ancestors", id=task["id"])), *_before(tx, task["id"])]
    decided, total = decisions.standing(tx, tasks=near, limit=NAMED)
    found = {
        "id": name("T", task["id"]),
        "title": task["title"],
        "state": task["state"],
        "summary": cut(task["summary"] or "", _SAID),
        **_handed_over(tx, name("T", task["id"]), task=task["id"]),
        **_files(checked),
        "decisions": [_short(*one) for one in decided],
        "decisions_total": total,
        "approaches": _approaches(tx, task["id"], runs),
        "approaches_total": len(runs),
        "risks": [*_dangers(task), *_broken(checked), *_foreseen(decided)],
        "next_steps": _next_steps(tx, task, checked),
    }
    return {**found, "text": as_text(found)}


def of_session(tx: Transaction, session: Row, checked: Checked) -> dict[str, Any]:
    """The context of a session, as that of a task; its approaches are the tasks that it had to do with."""
    called = name("S", session["id"])
    tasks = [tx.the("task", id=row["id"]) for row in tx.all("tasks_of_session", session=called, limit=NAMED)]
    decided, total = decisions.standing(tx, session=session["id"], limit=NAMED)
    found = {
        "id": called,
        "title": session["name"] or session["client"],
        "state": session["state"],
        "summary": cut(session["summary"] or "", _SAID),
        **_handed_over(tx, called, session=session["id"]),
        **_files(checked),
        "decisions": [_short(*one) for one in decided],
        "decisions_total": total,
        **_of_tasks(tasks, int(tx.the("count_tasks_of_session", session=called)["total"])),
        "risks": [risk for row in tasks for risk in _dangers(row)][:NAMED] + _broken(checked) + _foreseen(decided),
        "next_steps": [*_mend(checked), *_steps(tx, tasks)] or [_ANYTHING],
    }
    return {**found, "text": as_text(found)}


def of_stream(tx: Transaction, tag: str, checked: Checked) -> dict[str, Any]:
    """The context of a work stream, as that of a session: its tasks, those at work and those that wait first."""
    counts = {row["state"]: int(row["total"]) for row in tx.all("states_of_tag", tag=tag)}
    tasks = [tx.the("task", id=row["id"]) for row in tx.all("tasks_of_stream", tag=tag, limit=NAMED)]
    decided, total = decisions.standing(tx, tag=tag, limit=NAMED)
    waiting = [row for row in tasks if row["state"] != "ready"]
    take = [f"`orchestrion claim --tag {tag}` takes the next of its tasks, with its brief"] if "ready" in counts else []
    found = {
        "id": tag,
        "title": "work stream",
        "shown_by": f"--tag {tag}",
        "state": ", ".join(f"{counts[state]} {state}" for state in TaskState if state in counts),
        "summary": "",
        **_handed_over(tx, f"--tag {tag}", tag=tag),
        **_files(checked),
        "decisions": [_short(*one) for one in decided],
        "decisions_total": total,
        **_of_tasks(tasks, sum(counts.values())),
        "risks": [risk for row in tasks for risk in _dangers(row)][:NAMED] + _broken(checked) + _foreseen(decided),
        "next_steps": [*_mend(checked), *take, *_steps(tx, waiting)] or [_ANYTHING],
    }
    return {**found, "text": as_text(found)}


_ANYTHING = "nothing is left of it: `orchestrion prime` says what else there is"


def _handed_over(tx: Transaction, whose: str, **scope: Any) -> dict[str, Any]:
    """What was said last, a person's words too where a run spoke later, and how many handoffs that leaves out."""
    left = handoff.latest(tx, **scope)
    words = [cut(row["said"], _SAID) for row in left]
    if len(left) > 1:
        words = [f"{name('H', row['id'])} of {row['actor']}: {text}" for row, text in zip(left, words, strict=True)]
    return {
        "handed_over": "\n\n".join(words),
        "handed_over_more": left[0]["total"] - len(left) if left else 0,
        "handed_over_by": f"orchestrion handoff {whose} --list",
    }


def _of_tasks(tasks: Sequence[Row], total: int) -> dict[str, Any]:
    approaches = [
        {
            "task": name("T", row["id"]),
            "title": row["title"],
            "state": row["state"],
            "code": row["code"],
            "summary": cut((row["summary"] if _is_reported(row) else "") or row["reason"] or "", _SAID),
        }
        for row in tasks
    ]
    return {"approaches": approaches, "approaches_total": total}


def _is_reported(task: Row) -> bool:
    """Whether a task's summary is of how it stands: one that is done again has that of an earlier attempt."""
    return task["state"] in (TaskState.COMPLETED, TaskState.REVIEW)


def _steps(tx: Transaction, tasks: Iterable[Row]) -> list[str]:
    return [step for row in tasks if (step := _step(tx, row))][:NAMED]


def _before(tx: Transaction, task: int) -> list[int]:
    edges = tx.all("edges_of", task=task, limit=200)
    return [edge["prerequisite"] for edge in edges if edge["prerequisite"] is not None and edge["kind"] != "child"]


def _files(checked: Checked) -> dict[str, Any]:
    by_op = {op: [_file(one) for one in checked["files"] if one["op"] == op][:FILES_NAMED] for op in files.OPS}
    return {"files": by_op, "files_total": checked["total"], "verification": checked["status"]}


def _file(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("path", "old_path", "status", "detail", "run") if one[key]}


def _short(row: Row, instead: str | None) -> dict[str, Any]:
    return {
        "id": name("D", row["number"]),
        "title": row["title"],
        "status": row["status"],
        "impact": row["impact"],
        "decision": cut(row["decision"], _SAID),
        "instead": instead,
    }


def _approaches(tx: Transaction, task: int, runs: Sequence[Row]) -> list[dict[str, Any]]:
    kept: dict[int | None, list[dict[str, Any]]] = {}
    for row in tx.all("artifacts_of", ids=[task]):
        artifact = {"id": name("A", row["id"]), "name": row["name"], "size": row["size"]}
        kept.setdefault(row["run"], []).append(artifact)
    return [
        {
            "run": name("R", run["id"]),
            "agent": run["agent"],
            "state": run["state"],
            "code": run["code"],
            "summary": cut(run["summary"] or "", _SAID),
            "reason": cut(run["reason"] or "", _SAID),
            "branch": run["branch"] if run["head_commit"] else None,
            "artifacts": kept.get(run["id"], [])[-NAMED:],
        }
        for run in runs[-NAMED:]
    ]


def _dangers(task: Row) -> list[str]:
    """What has gone wrong with a task."""
    called = name("T", task["id"])
    found = []
    if task["state"] in ("failed", "retrying", "blocked", "review") and (
        task["reason"] or task["error"] or task["code"]
    ):
        found.append(
            line(
                f"{called} is {task['state']}",
                f"({task['code'] or 'no code'}): {task['reason'] or task['error'] or ''}",
            )
        )
    if task["feedback"] and task["state"] != "completed":
        found.append(line(f"{called} was sent back:", task["feedback"]))
    return found


def _broken(checked: Checked) -> list[str]:
    wrong = [one for one in checked["files"] if one["status"] in _WRONG]
    return [line(f"{one['path']} is not as it was recorded:", one["detail"] or "") for one in wrong[:NAMED]]


_WRONG = ("failed", "partial")


def _foreseen(decided: Iterable[tuple[Row, str | None]]) -> list[str]:
    return [
        line(f"{name('D', row['number'])} foresaw:", decisions.said(risk))
        for row, _ in decided
        if row["status"] not in ("superseded", "rejected")
        for risk in readable(row, name("D", row["number"]), "risks")["risks"]
    ][:NAMED]


def _next_steps(tx: Transaction, task: Row, checked: Checked) -> list[str]:
    steps = [*_mend(checked), *filter(None, [_step(tx, task)])]
    if task["state"] == "completed":
        waiting = [tx.the("task", id=row["id"]) for row in tx.all("dependents", ids=[task["id"]])[:NAMED]]
        ready = [
            line(f"`orchestrion claim {name('T', one['id'])}`:", one["title"])
            for one in waiting
            if one["state"] == "ready"
        ]
        steps += ready or ["it is completed: `orchestrion prime` says what is next"]
    return steps


def _mend(checked: Checked) -> list[str]:
    wrong = [one["path"] for one in checked["files"] if one["status"] in _WRONG]
    named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return [line("look at what is not as it was recorded:", named)] if wrong else []


def _step(tx: Transaction, task: Row) -> str:
    """What to do with a task that is not done; empty for one that is."""
    called = name("T", task["id"])
    run = name("R", task["run"]) if task["run"] else ""
    if task["run"] and not (row := tx.the("run", id=task["run"]))["supervised"]:
        return f"{successors.holder(tx, row).said()}; go on from its files (`orchestrion show {run}`)"
    return {
        "ready": f"`orchestrion claim {called}` takes it, with its brief",
        "in_progress": f"{run} works on it: `orchestrion show {run}`; when it is over, go on from its files",
        "review": f"`orchestrion approve {called}`, or `orchestrion reject {called} --reason TEXT`",
        "failed": f"`orchestrion retry {called}` tries it again",
        "retrying": f"it is tried again by itself; `orchestrion retry {called}` does it now",
        "pending": f"it waits: `orchestrion why {called}` says for what",
        "blocked": f"it needs a decision: `orchestrion why {called}` says which",
    }.get(task["state"], "")


# -- as a text ----------------------------------------------------------------------------------


def as_text(found: Mapping[str, Any]) -> str:
    """The same in words, for an agent."""
    called, whole = found["id"], f"orchestrion context {found.get('shown_by', found['id'])} --json"
    changed = [_file_line(op, one) for op, some in found["files"].items() for one in some[:NAMED]]
    decided = [line(f"{d['id']} {d['title']}{_standing(d)}:", d["decision"]) for d in found["decisions"]]
    tried = [_approach(one) for one in found["approaches"]]
    filed = f"{found['files_total']}, {found['verification']}"
    parts = [
        f"# {line(called, found['title'])} ({found['state'].replace('_', ' ')})",
        found["summary"],
        _quoted(found),
        _section(f"Files ({filed})", changed, found["files_total"], whole),
        _section("Decisions", decided, found["decisions_total"], "orchestrion decisions"),
        _section("What was tried", tried, found["approaches_total"], "orchestrion status"),
        _section("Risks", found["risks"]),
        _section("Next", found["next_steps"]),
    ]
    return cut("\n\n".join(filter(None, parts)), _TEXT) + "\n"


def _standing(decision: Mapping[str, Any]) -> str:
    """How a decision stands that does not hold; empty: it holds."""
    if decision["status"] in decisions.HOLDING:
        return ""
    instead = f"; {decision['instead']} holds instead" if decision["instead"] else ", does not hold"
    return f" ({decision['status']}{instead})"


def _quoted(found: Mapping[str, Any]) -> str:
    said, more = found["handed_over"], found["handed_over_more"]
    rest = [f"- and {more} more: `{found['handed_over_by']}`"] if more else []
    return "\n".join(["## Handed over", *(f"> {one}" for one in said.splitlines()), *rest]) if said.strip() else ""


def _section(heading: str, lines: Sequence[str], total: int = 0, shown_by: str = "") -> str:
    if not lines:
        return ""
    more = [f"- and {total - len(lines)} more: `{shown_by}`"] if total > len(lines) else []
    return "\n".join([f"## {heading}", *(f"- {text}" for text in lines), *more])


def _file_line(op: str, one: Mapping[str, Any]) -> str:
    was = f" (was {one['old_path']})" if "old_path" in one else ""
    why = f": {one['detail']}" if "detail" in one else ""
    return line(f"{op} {one['path']}{was}", f"[{one['status']}{why}]")


def _approach(one: Mapping[str, Any]) -> str:
    who = one.get("run") or one.get("task")
    code = f" {one['code']}" if one["code"] else ""
    kept = "".join(f", kept as {artifact['id']}" for artifact in one.get("artifacts", ())[-3:])
    on = f", on {one['branch']}" if one.get("branch") else ""
    return line(f"{who} {one['state']}{code}{on}{kept}:", one["summary"] or one.get("reason") or one.get("title") or "")
