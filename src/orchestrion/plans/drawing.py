"""A graph drawn: as a tree for a terminal, as Mermaid, as DOT, as JSON.

The input is plain values, so the same pictures serve a plan that was never stored, the live
graph, and a part of it. A title is somebody else's text: each format has one place here
that makes it harmless there. Mermaid and DOT show who waits for whom, arrows pointing the way work
flows, and the hierarchy as thin lines without an arrowhead. Nothing calls itself, whatever the depth.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrion.core.states import MARKS, EdgeKind, EdgeState, TaskState

#: A longer title is cut in pictures; JSON has all of it.
TITLE_WIDTH = 80
#: A tree names so many of the tasks that a task waits for, and counts the others.
_NAMED_WAITS = 5
#: Characters of indentation after which deeper levels of a tree do not move to the right any more.
_WIDEST_INDENT = 180
#: An id that means nothing else in Mermaid.
_SAFE_ID = re.compile(r"[A-Z][0-9]+\Z")
_MERMAID_SIGNS = re.compile(r"[\"#&<>`$;{}|\\*\[\]]|%%")


@dataclass(frozen=True, slots=True)
class Box:
    """A task in the picture."""

    #: Its short id, ``T12``; in a plan not stored yet, its key.
    id: str
    title: str
    #: A task state; a word that is none is drawn like pending.
    state: str = TaskState.PENDING
    #: Id of the parent; one that is not in the picture counts as none.
    parent: str | None = None
    #: Percent done; None: not shown.
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A wait in the picture. (Parents wait for children without saying; kind ``child`` is not drawn.)"""

    #: Id of the task that waits.
    task: str
    #: Id of what it waits for; one that is not in the picture is drawn as a bare id.
    prerequisite: str
    kind: str = EdgeKind.BLOCKS
    state: str = EdgeState.OPEN


class _Look(NamedTuple):
    mark: str
    fill: str
    line: str


_LOOKS: Mapping[str, _Look] = {
    TaskState.PENDING: _Look(MARKS[TaskState.PENDING], "#f4f4f5", "#a1a1aa"),
    TaskState.READY: _Look(MARKS[TaskState.READY], "#e0f2fe", "#0284c7"),
    TaskState.IN_PROGRESS: _Look(MARKS[TaskState.IN_PROGRESS], "#dbeafe", "#1d4ed8"),
    TaskState.RETRYING: _Look(MARKS[TaskState.RETRYING], "#fef3c7", "#d97706"),
    TaskState.BLOCKED: _Look(MARKS[TaskState.BLOCKED], "#ffedd5", "#c2410c"),
    TaskState.REVIEW: _Look(MARKS[TaskState.REVIEW], "#f3e8ff", "#7e22ce"),
    TaskState.COMPLETED: _Look(MARKS[TaskState.COMPLETED], "#dcfce7", "#15803d"),
    TaskState.FAILED: _Look(MARKS[TaskState.FAILED], "#fee2e2", "#b91c1c"),
    TaskState.CANCELLED: _Look(MARKS[TaskState.CANCELLED], "#e4e4e7", "#71717a"),
}


def _look(state: str) -> _Look:
    return _LOOKS.get(state, _LOOKS[TaskState.PENDING])


# --- tree -------------------------------------------------------------------------------------------------------------


def tree(
    boxes: Sequence[Box], arrows: Sequence[Arrow] = (), *, depth: int | None = None, limit: int | None = 1000
) -> str:
    """The hierarchy as indented lines with state marks; what a task still waits for stands behind it.

    At most ``depth`` levels and ``limit`` tasks are shown (None: all); what is left out is counted.
    """
    waits = _open_waits(arrows)
    lines: list[str] = []
    for place, branch in enumerate(visible := _cut(_outline(boxes), depth)):
        if limit is not None and place >= limit:
            lines.append(f"… and {len(visible) - place} more")
            break
        lines.append(_tree_line(branch, waits.get(branch.box.id, ())))
    return "\n".join(lines)


@dataclass(slots=True)
class _Branch:
    """A line of the tree."""

    box: Box
    #: 1: at the top.
    level: int
    #: What stands left of the task, and left of what is below it.
    lead: str
    below: str
    #: Tasks below it that are not shown.
    hidden: int = 0


def _outline(boxes: Sequence[Box]) -> Iterator[_Branch]:
    """Every task once, parents first. Tasks that are their own ancestors (bad data) begin at the top."""
    children = _children(boxes)
    seen: set[str] = set()
    known = {box.id for box in boxes}
    tops = [box for box in boxes if box.parent not in known]
    for top in [*tops, *boxes]:
        stack = [] if top.id in seen else [_Branch(top, 1, "", "")]
        while stack:
            branch = stack.pop()
            if branch.box.id in seen:
                continue
            seen.add(branch.box.id)
            yield branch
            stack.extend(reversed(list(_twigs(branch, children.get(branch.box.id, ())))))


def _children(boxes: Sequence[Box]) -> dict[str, list[Box]]:
    children: dict[str, list[Box]] = {}
    for box in boxes:
        if box.parent is not None:
            children.setdefault(box.parent, []).append(box)
    return children


def _twigs(branch: _Branch, children: Sequence[Box]) -> Iterator[_Branch]:
    # From some depth on the indentation stays, else a long chain would need a square of memory.
    room = branch.below[-_WIDEST_INDENT:]
    for box in children:
        is_last = box is children[-1]
        sign, rest = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield _Branch(box, branch.level + 1, room + sign, room + rest)


def _cut(branches: Iterator[_Branch], depth: int | None) -> list[_Branch]:
    """The branches down to a depth; the last ones know how many are hidden below."""
    if depth is None:
        return list(branches)
    shown: list[_Branch] = []
    for branch in branches:
        if branch.level <= max(depth, 1):
            shown.append(branch)
        else:
            shown[-1].hidden += 1
    return shown


def _open_waits(arrows: Sequence[Arrow]) -> dict[str, list[Arrow]]:
    waits: dict[str, list[Arrow]] = {}
    for arrow in arrows:
        if arrow.kind != EdgeKind.CHILD and arrow.state in (EdgeState.OPEN, EdgeState.DEAD):
            waits.setdefault(arrow.task, []).append(arrow)
    return waits


def _tree_line(branch: _Branch, waits: Sequence[Arrow]) -> str:
    box = branch.box
    parts = [branch.lead + _caption(box)]
    if waits:
        named = ", ".join(_wait(arrow) for arrow in waits[:_NAMED_WAITS])
        others = f" and {len(waits) - _NAMED_WAITS} more" if len(waits) > _NAMED_WAITS else ""
        parts.append(f"(waits for {named}{others})")
    if branch.hidden:
        parts.append(f"(+{branch.hidden} below)")
    return "  ".join(parts)


def _wait(arrow: Arrow) -> str:
    return " ".join([_one_line(arrow.prerequisite), *_labels(arrow)])


# --- Mermaid ----------------------------------------------------------------------------------------------------------


def mermaid(boxes: Sequence[Box], arrows: Sequence[Arrow] = ()) -> str:
    """A Mermaid flowchart. Ids that Mermaid could misread get a name of their own."""
    names = {one: one if _SAFE_ID.match(one) else f"n{place}" for place, one in enumerate(_ids(boxes, arrows))}
    known = {box.id for box in boxes}
    lines = ["flowchart LR"]
    lines += [f'  {names[box.id]}["{_in_mermaid(_caption(box))}"]:::{_state(box)}' for box in boxes]
    lines += [f'  {name}["{_in_mermaid(other)}"]' for other, name in names.items() if other not in known]
    lines += [f"  {names[box.parent]} -.- {names[box.id]}" for box in boxes if box.parent in known]
    lines += [f"  {names[a.prerequisite]} {_mermaid_arrow(a)} {names[a.task]}" for a in _drawn(arrows)]
    for state in sorted({_state(box) for box in boxes}):
        lines.append(f"  classDef {state} fill:{_LOOKS[state].fill},stroke:{_LOOKS[state].line},color:#18181b")
    return "\n".join(lines) + "\n"


def _mermaid_arrow(arrow: Arrow) -> str:
    line = "--x" if arrow.state == EdgeState.DEAD else "-.->" if _is_weak(arrow) else "-->"
    labels = ", ".join(_labels(arrow))
    return f'{line}|"{_in_mermaid(labels)}"|' if labels else line


def _in_mermaid(text: str) -> str:
    """Text inside of double quotes. Whatever Mermaid, Markdown or HTML could take for a sign becomes a number."""
    escaped = _MERMAID_SIGNS.sub(lambda found: "".join(f"#{ord(sign)};" for sign in found[0]), _one_line(text))
    # Mermaid takes the last ; from lines that look like "style x:#fff;", also within quotes.
    return escaped.replace(":", "#58;") if "style" in text or "classDef" in text else escaped


# --- DOT --------------------------------------------------------------------------------------------------------------


def dot(boxes: Sequence[Box], arrows: Sequence[Arrow] = ()) -> str:
    """A Graphviz digraph."""
    known = {box.id for box in boxes}
    lines = ["digraph plan {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for box in boxes:
        look = _look(box.state)
        lines.append(
            f'  {_in_dot(box.id)} [label={_in_dot(_caption(box))}, fillcolor="{look.fill}", color="{look.line}"];'
        )
    for box in boxes:
        if box.parent is not None and box.parent in known:
            lines.append(
                f'  {_in_dot(box.parent)} -> {_in_dot(box.id)} [style=dotted, arrowhead=none, color="#a1a1aa"];'
            )
    for arrow in _drawn(arrows):
        lines.append(f"  {_in_dot(arrow.prerequisite)} -> {_in_dot(arrow.task)}{_dot_attributes(arrow)};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_attributes(arrow: Arrow) -> str:
    attributes = [f"label={_in_dot(label)}"] if (label := ", ".join(_labels(arrow))) else []
    if _is_weak(arrow):
        attributes.append("style=dashed")
    if arrow.state == EdgeState.DEAD:
        attributes += ['color="#b91c1c"', "arrowhead=tee"]
    return f" [{', '.join(attributes)}]" if attributes else ""


def _in_dot(text: str) -> str:
    """Text as a quoted string. Graphviz reads backslashes and HTML entities in it, so both are written out."""
    escaped = _one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{escaped}"'


# --- JSON -------------------------------------------------------------------------------------------------------------


def as_json(boxes: Sequence[Box], arrows: Sequence[Arrow] = ()) -> dict[str, Any]:
    """The graph as plain data: ``{tasks: [...], edges: [{task, after, kind, state}]}``, nothing cut."""
    return {
        "tasks": [
            {"id": box.id, "title": box.title, "state": str(box.state), "parent": box.parent, "progress": box.progress}
            for box in boxes
        ],
        "edges": [
            {"task": arrow.task, "after": arrow.prerequisite, "kind": str(arrow.kind), "state": str(arrow.state)}
            for arrow in arrows
        ],
    }


# --- what the pictures share ------------------------------------------------------------------------------------------


def _caption(box: Box) -> str:
    """``✓ T12 Write it  50 %`` in one line."""
    title = _one_line(box.title)
    title = title if len(title) <= TITLE_WIDTH else title[: TITLE_WIDTH - 1] + "…"
    progress = "" if box.progress is None else f"  {box.progress:.0f} %"
    return f"{_look(box.state).mark} {_one_line(box.id)} {title}{progress}"


def _one_line(text: str) -> str:
    """The text without what could move a cursor, break a line or turn the direction of reading."""
    return "".join(_harmless(sign) for sign in text)


def _harmless(sign: str) -> str:
    category = unicodedata.category(sign)
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return " "
    # The joiner of emoji and scripts is the one invisible sign that pictures need.
    return "" if category == "Cf" and sign not in "\u200c\u200d" else sign


def _state(box: Box) -> str:
    return str(box.state) if box.state in _LOOKS else str(TaskState.PENDING)


def _ids(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> list[str]:
    """Every id once: those of the boxes first."""
    ends = [end for arrow in _drawn(arrows) for end in (arrow.prerequisite, arrow.task)]
    return list(dict.fromkeys([*(box.id for box in boxes), *ends]))


def _drawn(arrows: Sequence[Arrow]) -> list[Arrow]:
    return [arrow for arrow in arrows if arrow.kind != EdgeKind.CHILD]


def _is_weak(arrow: Arrow) -> bool:
    return arrow.kind == EdgeKind.SOFT or arrow.state == EdgeState.WAIVED


def _labels(arrow: Arrow) -> list[str]:
    """What is special about a wait, in words."""
    kind = [] if arrow.kind == EdgeKind.BLOCKS else [str(arrow.kind).replace("_", " ")]
    state = [str(arrow.state)] if arrow.state in (EdgeState.DEAD, EdgeState.WAIVED) else []
    return [*kind, *state]
