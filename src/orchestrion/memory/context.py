"""Gathers from the store what the agent of one task should know, as the parts of its brief.

What is near comes first: results, decisions and files of the tasks that this one waited
for, then what is found by the words of its title, then what is new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrion.core.errors import NotFound
from orchestrion.core.masking import masked
from orchestrion.core.model import name
from orchestrion.core.states import EdgeKind, EdgeState, TaskState
from orchestrion.core.values import readable, stored_json
from orchestrion.memory import decisions, handoff, search
from orchestrion.memory.brief import (
    BYTES_PER_TOKEN,
    DEFAULT_TOKENS,
    ArtifactText,
    Attempt,
    BriefParts,
    DecisionText,
    Feedback,
    Handover,
    Place,
    Reply,
    Result,
    TaskRef,
    compose,
)
from orchestrion.memory.roles import Role, load_role
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: A brief names at most so many tasks of each kind.
NAMED = 20
#: And so many files.
FILES_NAMED = 50
#: Decisions that are looked for by words.
_FOUND = 8
#: Work streams whose handoffs are told.
_STREAMS = 3
#: Characters of an artifact that are read: more than any brief has room for.
_READ = DEFAULT_TOKENS * BYTES_PER_TOKEN + 1
#: Characters of a task's title and description in which words and paths are looked for.
_LOOKED_AT = 4_000
_PATH = re.compile(r"[\w.+@/-]*[\w+@-]")


def brief(
    tx: Transaction,
    task: int,
    run: int,
    *,
    root: Path | None,
    named: Mapping[str, str],
    advise: Callable[[str], str] = str,
) -> str:
    """The brief for ``run`` of ``task``; ``root`` is where the project's roles are, ``named`` its named checks.

    ``advise`` puts a text that advises commands into the words of a door.
    """
    row = tx.the("task", id=task)
    attempt = tx.the("run", id=run)
    edges = [edge for edge in tx.all("edges_of", task=task, limit=200) if edge["kind"] != EdgeKind.CHILD]
    above = [tx.the("task", id=one["id"]) for one in tx.all("ancestors", id=task)]
    before = [edge["prerequisite"] for edge in edges if edge["prerequisite"] is not None][:NAMED]
    decided = _decisions(tx, row, [task, *before, *(parent["id"] for parent in above)])
    text = compose(
        BriefParts(
            run=name("R", run),
            attempt=attempt["attempt"],
            task=name("T", task),
            title=row["title"],
            description=row["description"],
            checks=tuple((one, named.get(one, one)) for one in stored_json(row, "checks", name("T", task))),
            supervised=bool(attempt["supervised"]),
            role=_role(root, row["role"]),
            place=_place(tx, row, above),
            results=_results(tx, edges),
            handoffs=handoffs_for(tx, row),
            replies=_replies(edges),
            decisions=tuple(DecisionText(name("D", d["number"]), d["title"], d["decision"]) for d in decided),
            files=_files(tx, row, before, decided),
            attempts=_attempts(tx, task, run),
            feedback=_feedback(row),
            advise=advise,
        )
    )
    return masked(text)


def _role(root: Path | None, role: str) -> Role | None:
    if not role:
        return None
    try:
        return load_role(root, role)
    except NotFound:
        # The role's file went after the task was made; the task can be done without it.
        return None


def _place(tx: Transaction, row: Row, above: Sequence[Row]) -> Place:
    waiting = tx.all("dependents", ids=[row["id"]])[:NAMED]
    return Place(
        plan=row["plan_name"],
        parents=tuple(_ref(parent) for parent in reversed(above)),
        unblocks=tuple(_ref(tx.the("task", id=d["id"])) for d in waiting),
    )


# -- what came before ---------------------------------------------------------------------------


def _results(tx: Transaction, edges: Iterable[Row]) -> tuple[Result, ...]:
    """What the tasks before found; of one that is not completed, how it stands."""
    found: dict[int, Result] = {}
    for edge in edges:
        if edge["prerequisite"] is None or edge["state"] not in (EdgeState.MET, EdgeState.WAIVED):
            continue
        other = tx.the("task", id=edge["prerequisite"])
        standing = _standing(other, edge)
        kept = _artifacts(tx, other["id"], whole=edge["kind"] == EdgeKind.DATA)
        said = other["summary"] or ("" if other["state"] == TaskState.COMPLETED else other["error"] or other["reason"])
        if said or kept or standing:
            # A task may wait for another in two ways: the one that brings the texts tells more.
            known = found.get(other["id"])
            if known is None or edge["kind"] == EdgeKind.DATA:
                found[other["id"]] = Result(_ref(other), said or "", kept, standing)
    return tuple(found.values())[:NAMED]


def _standing(other: Row, edge: Row) -> str:
    """How a task stands on which this one does not build: it failed, say, or need not be waited for."""
    state = str(other["state"]).replace("_", " ")
    if edge["state"] == EdgeState.WAIVED:
        return f"{state}; it need not be waited for: {edge['reason']}"
    if other["state"] == TaskState.COMPLETED:
        return ""
    code = f", {other['code']}" if other["code"] else ""
    why = "; this task is here because of it" if edge["kind"] == EdgeKind.ON_FAILURE else ""
    return f"{state}{code}{why}"


def _artifacts(tx: Transaction, task: int, *, whole: bool) -> tuple[ArtifactText, ...]:
    """The newest version of each: with its text, or only named."""
    newest = {row["name"]: row for row in tx.all("artifacts_of", ids=[task])}
    if not whole:
        return tuple(ArtifactText(name("A", r["id"]), r["name"], None, 0, r["size"]) for r in newest.values())[-NAMED:]
    rows = [tx.the("artifact_begins", id=row["id"], most=_READ) for row in newest.values()]
    return tuple(ArtifactText(name("A", r["id"]), r["name"], r["text"], r["length"], r["size"]) for r in rows)


def handoffs_for(tx: Transaction, row: Row) -> tuple[Handover, ...]:
    """What was said last about the task, and about each work stream that it is of."""
    tags = stored_json(row, "tags", name("T", row["id"]))[:_STREAMS]
    asked = [("this task", {"task": row["id"]}), *((f"work stream {tag}", {"tag": tag}) for tag in tags)]
    found: dict[int, Handover] = {}
    for about, which in asked:
        for left in handoff.latest(tx, **which):
            found.setdefault(left["id"], Handover(name("H", left["id"]), f"{about}, by {left['actor']}", left["said"]))
    return tuple(found.values())


def _replies(edges: Iterable[Row]) -> tuple[Reply, ...]:
    asked = [e for e in edges if e["kind"] in (EdgeKind.QUESTION, EdgeKind.APPROVAL) and e["gate_state"] == "met"]
    return tuple(
        Reply(name("G", edge["gate"]), edge["gate_name"] or "approval", edge["answer"] or "")
        for edge in asked
        if edge["answer"] or edge["kind"] == EdgeKind.QUESTION
    )


def _attempts(tx: Transaction, task: int, run: int) -> tuple[Attempt, ...]:
    earlier = [row for row in tx.all("runs_of_task", task=task) if row["id"] != run and row["code"]]
    return tuple(
        Attempt(name("R", row["id"]), row["code"], row["reason"] or "", row["branch"] if row["head_commit"] else None)
        for row in reversed(earlier[-NAMED:])
    )


def _feedback(row: Row) -> tuple[Feedback, ...]:
    if not row["feedback"]:
        return ()
    return (Feedback("the last attempt was sent back", row["feedback"], f"orchestrion show {name('T', row['id'])}"),)


# -- what was decided, and which files matter -----------------------------------------------------


def _decisions(tx: Transaction, row: Row, near: Sequence[int]) -> list[Row]:
    """What holds: of this task and those around it, then what has its words, then the newest."""
    newest = tx.all("decisions_in_short", limit=NAMED)
    if not newest:
        return []
    held = {"statuses": ["accepted", "implemented"], "limit": NAMED}
    around = tx.all("list_decisions", tasks=list(near), **held)
    superseded = tx.all("list_decisions", tasks=list(near), statuses=["superseded"], limit=NAMED)
    around += [instead for one in superseded if (instead := decisions.holds_instead(tx, one))]
    ids = search.related_decisions(tx, row["title"], limit=_FOUND)
    found = {one["id"]: one for one in tx.all("list_decisions", ids=ids, **held)} if ids else {}
    by_words = [found[one] for one in ids if one in found]
    rows = {one["number"]: one for one in [*around, *by_words, *newest]}
    return list(rows.values())[:NAMED]


def _files(tx: Transaction, row: Row, before: Sequence[int], decided: Sequence[Row]) -> tuple[str, ...]:
    """What was recorded for it before, what the tasks before it changed, what it names, what decisions are about."""
    found = {file["path"]: f"{file['path']} ({file['op']} by {_by(file)})" for file in left_files(tx, row["id"])}
    for other in before:
        for file in tx.all("list_files", task=other, limit=FILES_NAMED):
            found.setdefault(file["path"], f"{file['path']} ({file['op']} by {name('T', other)})")
    for file in _named_files(tx, row):
        found.setdefault(file["path"], f"{file['path']} ({file['op']} by {_who(file)})")
    for one in decided:
        for path in readable(one, name("D", one["number"]), "files")["files"]:
            found.setdefault(path, f"{path} ({name('D', one['number'])})")
    return tuple(found.values())[:FILES_NAMED]


def left_files(tx: Transaction, task: int) -> list[Row]:
    """What earlier attempts at a task, or whoever else worked on it, recorded as changed."""
    return tx.all("list_files", task=task, limit=FILES_NAMED)


def _by(file: Row) -> str:
    return name("R", file["run"]) if file["run"] else _who(file)


def _named_files(tx: Transaction, row: Row) -> list[Row]:
    """What is recorded of files that the task's title or description names."""
    said = f"{row['title']}\n{row['description']}"[:_LOOKED_AT]
    paths = list(dict.fromkeys(path for path in _PATH.findall(said) if "." in path or "/" in path))[:NAMED]
    return tx.all("files_at", paths=paths, task=row["id"]) if paths else []


def _who(file: Row) -> str:
    return name("T", file["task"]) if file["task"] else name("S", file["session"])


def _ref(row: Row) -> TaskRef:
    return TaskRef(name("T", row["id"]), row["title"])
