"""The text that an agent gets to do one task.

``compose`` writes it from values: who the agent is, what is to be done and how it is
judged, where the task stands in its plan, what the tasks before it found, what was handed
over and answered, what was decided, what went wrong before, and how to report back. An agent pays for every word, so
there is a budget in tokens (bytes / 4). A brief that is too long is shortened section by
section, the least important first (SHORTENED_FIRST says in which order): at first none to
less than a twelfth of the budget, so that one huge artifact does not push out all else,
then, if that is not enough, to nothing. Each section says what it left out and which
command shows it: nothing is cut in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from orchestrion.core.errors import InvalidInput
from orchestrion.core.retry import FAILURES
from orchestrion.memory.roles import Role

#: Size of a brief when nobody says otherwise, in tokens.
DEFAULT_TOKENS = 6_000
#: Below this not even the task and the way to report back have room.
LEAST_TOKENS = 800
#: Bytes of UTF-8 per token: a rough measure, the same for every model.
BYTES_PER_TOKEN = 4
#: Sections in the order in which they are shortened, the least important first.
SHORTENED_FIRST = (
    *("files", "decisions", "place", "attempts", "role", "handoffs"),
    *("results", "description", "answers", "checks", "feedback"),
)
#: A text of which fewer characters than this would be left is left out as a whole.
_LEAST_KEPT = 40
#: Bytes between two paragraphs.
_GAP = len("\n\n")


@dataclass(frozen=True)
class TaskRef:
    """Another task, by name."""

    #: As ``T12``.
    id: str
    title: str


@dataclass(frozen=True)
class Place:
    """Where the task stands in its plan."""

    #: Name of the plan.
    plan: str
    #: The task's parents, the highest first.
    parents: tuple[TaskRef, ...] = ()
    #: Tasks that wait for this one.
    unblocks: tuple[TaskRef, ...] = ()


@dataclass(frozen=True)
class ArtifactText:
    """A stored result, with its text."""

    #: As ``A7``.
    id: str
    name: str
    #: None: it is only named.
    text: str | None
    #: Characters of all of it, if the text is only its beginning.
    length: int = 0
    #: Bytes of all of it.
    size: int = 0


@dataclass(frozen=True)
class Result:
    """What a task found that this one waited for."""

    task: TaskRef
    summary: str
    #: Those of a ``data`` dependency have their text.
    artifacts: tuple[ArtifactText, ...] = ()
    #: How it stands, if it is not completed, as ``failed (timeout)``.
    standing: str = ""


@dataclass(frozen=True)
class Handover:
    """What somebody who left said for who comes next."""

    #: As ``H3``.
    id: str
    #: What it is about, and who said it.
    about: str
    text: str


@dataclass(frozen=True)
class Reply:
    """A question that was asked of a person, and what they said."""

    #: Of the gate, as ``G4``.
    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class DecisionText:
    """What was decided, in short."""

    #: As ``D4``.
    id: str
    title: str
    decision: str


@dataclass(frozen=True)
class Attempt:
    """An earlier run of this task that did not succeed."""

    #: As ``R30``.
    run: str
    #: Its code in the failure taxonomy.
    code: str
    error: str
    #: Branch that keeps its work, if there is any.
    branch: str | None = None


@dataclass(frozen=True)
class Feedback:
    """Why the work was not accepted so far."""

    #: As ``check `make test` ended with exit code 1`` or ``rejected by Ann``.
    cause: str
    #: Output of the check, or the reason in full.
    text: str
    #: Command that shows all of it.
    shown_by: str


@dataclass(frozen=True)
class BriefParts:
    """Everything that may go into a brief."""

    #: As ``R31``.
    run: str
    #: Number of this attempt, from 1.
    attempt: int
    #: As ``T12``.
    task: str
    title: str
    description: str = ""
    #: Commands that must succeed for the work to be accepted, each after what the task calls it.
    checks: tuple[tuple[str, str], ...] = ()
    #: Whether a supervisor commits, checks and merges; else the agent reports by itself.
    supervised: bool = True
    role: Role | None = None
    place: Place | None = None
    results: tuple[Result, ...] = ()
    handoffs: tuple[Handover, ...] = ()
    replies: tuple[Reply, ...] = ()
    decisions: tuple[DecisionText, ...] = ()
    #: A line for each file that matters, as ``src/a.py (modified by R12)``.
    files: tuple[str, ...] = ()
    #: The latest first.
    attempts: tuple[Attempt, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    #: The words for a text of ours that advises commands: a door has its own. Other people's words stay as they are.
    advise: Callable[[str], str] = str


@dataclass(frozen=True)
class _Piece:
    """A part of a section that is shown, cut or left out as one."""

    #: What the text is; stays when the text is cut.
    head: str
    text: str = ""
    #: Command that shows all of the text; empty for a piece that is never cut.
    shown_by: str = ""
    #: Whether the text is somebody's output, to be shown as it is.
    verbatim: bool = False
    #: Whether the end matters more than the beginning, as in the output of a check.
    keep_end: bool = False
    #: Characters of all of the text, if this is only its beginning.
    length: int = 0
    #: Whether the head advises commands.
    advises: bool = False


@dataclass(frozen=True)
class _Section:
    """A heading and what stands under it."""

    #: One of SHORTENED_FIRST, or empty for what is never shortened.
    name: str
    heading: str
    pieces: tuple[_Piece, ...]
    #: Command that shows the pieces that were left out.
    shown_by: str = ""
    #: Bytes it may have; None: as many as it needs.
    room: int | None = None


def compose(parts: BriefParts, budget_tokens: int = DEFAULT_TOKENS) -> str:
    """The brief as Markdown, of at most ``budget_tokens`` tokens; always with the task's id and title.

    Raises InvalidInput (``brief_budget``) if the budget cannot hold even the shortest brief.
    """
    budget = budget_tokens * BYTES_PER_TOKEN
    sections = [_advised(section, parts.advise) for section in _sections(parts) if section.pieces]
    for least, name in product((budget // 12, 0), SHORTENED_FIRST):
        excess = _size(_text(sections)) - budget
        if excess <= 0:
            break
        sections = [_shortened(section, excess, least) if section.name == name else section for section in sections]
    text = _text(sections)
    if _size(text) <= budget:
        return text
    raise InvalidInput(
        f"a brief for {parts.task} needs at least {-(-_size(text) // BYTES_PER_TOKEN):,} tokens, not {budget_tokens:,}",
        hint=f"allow at least {LEAST_TOKENS} tokens",
        code="brief_budget",
        task=parts.task,
        budget_tokens=budget_tokens,
    )


def _sections(parts: BriefParts) -> list[_Section]:
    """All that is to be said, in reading order."""
    show_task, show_run = f"orchestrion show {parts.task}", f"orchestrion show {parts.run}"
    return [
        _Section("", "", (_Piece(_title(parts)),)),
        _Section("feedback", "Not accepted yet: repair this first", tuple(map(_of_feedback, parts.feedback)), show_run),
        _Section("description", "What is to be done", _of_description(parts, show_task), show_task),
        _Section("answers", "Answers to what was asked", _of_replies(parts, show_task), show_task),
        _Section("checks", "Accepted only if these commands succeed", _of_checks(parts), show_task),
        _Section("role", "Who you are", _of_role(parts.role), "orchestrion roles"),
        _Section("results", "Results you build on", _of_results(parts), show_task),
        _Section("handoffs", "Handed over", tuple(map(_of_handover, parts.handoffs)), "orchestrion handoff --list"),
        _Section(
            "decisions", "Decisions that hold", tuple(map(_of_decision, parts.decisions)), "orchestrion decisions"
        ),
        _Section(
            "files", "Files that matter", tuple(_Piece(f"- {_one_line(file)}") for file in parts.files), show_task
        ),
        _Section("attempts", "Earlier attempts that failed", tuple(map(_of_attempt, parts.attempts)), show_task),
        _Section("place", "Place in the plan", _of_place(parts.place), "orchestrion graph"),
        _Section("", "How to report back", (_Piece(_report(parts), advises=True),)),
    ]


def _advised(section: _Section, advise: Callable[[str], str]) -> _Section:
    """The section with the commands that it advises in the words of a door."""

    def shown(command: str) -> str:
        return advise(f"`{command}`")[1:-1] if command else ""

    pieces = (
        replace(piece, head=advise(piece.head) if piece.advises else piece.head, shown_by=shown(piece.shown_by))
        if piece.advises or piece.shown_by
        else piece
        for piece in section.pieces
    )
    return replace(section, pieces=tuple(pieces), shown_by=shown(section.shown_by))


def _title(parts: BriefParts) -> str:
    again = f", attempt {parts.attempt}" if parts.attempt > 1 else ""
    return f"# {parts.task}: {parts.title}\n\nRun {parts.run}{again}."


def _of_feedback(feedback: Feedback) -> _Piece:
    return _Piece(f"{_line(feedback.cause)}:", feedback.text, feedback.shown_by, verbatim=True, keep_end=True)


def _of_description(parts: BriefParts, shown_by: str) -> tuple[_Piece, ...]:
    return (_Piece("", parts.description, shown_by),) if parts.description.strip() else ()


def _of_checks(parts: BriefParts) -> tuple[_Piece, ...]:
    # Never cut: half a command is another command.
    return tuple(
        _Piece(f"`{_line(called)}`:" if called != command else "", command, verbatim=True)
        for called, command in parts.checks
    )


def _of_role(role: Role | None) -> tuple[_Piece, ...]:
    if role is None:
        return ()
    shown_by = "orchestrion roles"
    pieces = [_Piece("", role.role_definition, shown_by)]
    if role.approach:
        pieces.append(_Piece("How you work:", _bullets(role.approach), shown_by))
    if role.output_format:
        pieces.append(_Piece("What you hand over:", role.output_format, shown_by))
    if role.expertise:
        pieces.append(_Piece("What you know well:", _bullets(role.expertise), shown_by))
    return tuple(pieces)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_one_line(line)}" for line in lines)


def _of_results(parts: BriefParts) -> tuple[_Piece, ...]:
    """Summaries first: a long artifact must not push out what another task said in a sentence."""
    summaries = [
        _Piece(_of_result(result), result.summary, f"orchestrion show {result.task.id}") for result in parts.results
    ]
    artifacts = [_of_artifact(artifact, result.task) for result in parts.results for artifact in result.artifacts]
    return (*summaries, *artifacts)


def _of_result(result: Result) -> str:
    standing = f" ({_line(result.standing)})" if result.standing else ""
    return f"**{result.task.id}** {_line(result.task.title)}{standing}{':' if result.summary.strip() else ''}"


def _of_artifact(artifact: ArtifactText, task: TaskRef) -> _Piece:
    whole = f"orchestrion artifact {artifact.id}"
    if artifact.text is None:
        called = f"Artifact {artifact.id} of {task.id}, {_line(artifact.name)}"
        return _Piece(f"- {called} ({artifact.size:,} bytes): `{whole}`", advises=True)
    head = f"Artifact {artifact.id} of {task.id}, {_line(artifact.name)}:"
    return _Piece(head, artifact.text, whole, verbatim=True, length=artifact.length)


def _of_handover(handover: Handover) -> _Piece:
    return _Piece(f"**{handover.id}**, {_line(handover.about)}:", handover.text, f"orchestrion show {handover.id}")


def _of_replies(parts: BriefParts, shown_by: str) -> tuple[_Piece, ...]:
    said = "(it was opened without a word)"
    return tuple(
        _Piece(f"**{reply.id}** {_line(reply.question)}", reply.answer or said, shown_by) for reply in parts.replies
    )


def _of_decision(decision: DecisionText) -> _Piece:
    head = f"**{decision.id}** {_line(decision.title)}{':' if decision.decision.strip() else ''}"
    return _Piece(head, decision.decision, f"orchestrion show {decision.id}")


def _of_attempt(attempt: Attempt) -> _Piece:
    failure = FAILURES.get(attempt.code)
    meaning = f" ({failure.meaning})" if failure else ""
    kept = f" Its work is kept on the branch `{attempt.branch}`." if attempt.branch else ""
    head = f"**{attempt.run}** ended with `{_line(attempt.code)}`{meaning}.{kept}"
    return _Piece(head, attempt.error, f"orchestrion show {attempt.run}", verbatim=True, keep_end=True)


def _of_place(place: Place | None) -> tuple[_Piece, ...]:
    if place is None:
        return ()
    lines = [f"It belongs to plan {place.plan}."]
    lines += [f"- part of {_named(parent)}" for parent in place.parents]
    lines += [f"- {_named(task)} waits for this task" for task in place.unblocks]
    return tuple(_Piece(line) for line in lines)


def _named(task: TaskRef) -> str:
    return f"{task.id} {_line(task.title)}"


def _report(parts: BriefParts) -> str:
    fail = f'If it cannot be done: `orchestrion fail {parts.run} --error "WHY"`.'
    if parts.supervised:
        return (
            "Work in this folder only: it is your own copy of the repository. When you stop, your work is committed, "
            "checked and merged; do not commit to other branches, push or merge by yourself.\n\n"
            f'Before you stop, say what you did: `orchestrion done {parts.run} --summary "WHAT WAS DONE"`. {fail}'
        )
    return (
        "Nobody watches this run: it is yours until its lease ends, and every call that names it renews it "
        f"(`orchestrion heartbeat {parts.run}`).\n\n"
        f'When it is done: `orchestrion done {parts.run} --summary "WHAT WAS DONE" --file PATH --deleted PATH` '
        f"(each file that you changed, and each that is gone). {fail} "
        f"To give it back: `orchestrion release {parts.run}`."
    )


def _shortened(section: _Section, excess: int, least: int) -> _Section:
    """The section with ``excess`` bytes fewer, if that leaves it ``least``."""
    size = _size(_section_text(section))
    return section if size <= least else replace(section, room=max(least, size - excess))


def _text(sections: Sequence[_Section]) -> str:
    return "\n\n".join(map(_section_text, sections)) + "\n"


def _section_text(section: _Section) -> str:
    heading = f"## {section.heading}" if section.heading else ""
    if section.room is None:
        shown = [_whole(piece) for piece in section.pieces]
    else:
        shown = _fitted(section, section.room - _size(heading) - _GAP)
    return "\n\n".join(part for part in (heading, _joined(shown)) if part)


def _joined(shown: Sequence[str]) -> str:
    """Bullets stand close together, all else in paragraphs of its own."""
    parts: list[str] = []
    for before, one in pairwise(["", *shown]):
        close = one.startswith("- ") and before.startswith("- ")
        parts += [("\n" if close else "\n\n") if before else "", one]
    return "".join(parts)


def _whole(piece: _Piece) -> str:
    return _with_text(piece, piece.text)


def _with_text(piece: _Piece, text: str, note: str = "") -> str:
    body = _closed(_clean(text).strip("\n"), verbatim=piece.verbatim)
    return "\n\n".join(part for part in (piece.head, body, note) if part.strip())


def _closed(text: str, *, verbatim: bool) -> str:
    """The text so that no fence is left open: verbatim in one that nothing in it can close."""
    if not text or not verbatim:
        return f"{text}\n```" if text.count("\n```") + text.startswith("```") & 1 else text
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def _fitted(section: _Section, room: int) -> list[str]:
    """As many pieces as fit, in order, long ones cut to a fair share; then what is missing."""
    wholes = [_whole(piece) for piece in section.pieces]

    def shown(count: int) -> list[str] | None:
        note = _left_out(section, len(wholes) - count)
        pieces = _shared_out(section.pieces[:count], wholes[:count], room - _GAP * count - _size(note))
        return None if pieces is None else [text for text in (*pieces, note) if text]

    return shown(_most(len(wholes), lambda count: shown(count) is not None)) or []


def _left_out(section: _Section, count: int) -> str:
    if count == 0:
        return ""
    which = "all" if count == len(section.pieces) else f"{count} more"
    return f"({which} left out for length: `{section.shown_by}`)"


def _shared_out(pieces: Sequence[_Piece], wholes: Sequence[str], room: int) -> list[str] | None:
    """The pieces in ``room`` bytes: short ones whole, the others cut to equal shares; None if they cannot be."""
    share = _fair_share([_size(whole) for whole in wholes], room)
    shown = []
    for piece, whole in zip(pieces, wholes, strict=True):
        text = whole if _size(whole) <= share else _cut(piece, share)
        if text is None:
            return None
        shown.append(text)
    return shown


def _fair_share(sizes: Sequence[int], room: int) -> int:
    """The largest share such that sizes cut down to it add up to no more than ``room``."""
    left = room
    for position, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - position)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _cut(piece: _Piece, room: int) -> str | None:
    """The piece in at most ``room`` bytes, saying how much is missing; None if too little would be left."""
    if not piece.shown_by:
        return None
    text = _clean(piece.text).strip("\n")
    kept = _most(min(len(text), max(room, 0)), lambda count: _size(_cut_to(piece, text, count)) <= room)
    return _cut_to(piece, text, kept) if kept >= _LEAST_KEPT else None


def _cut_to(piece: _Piece, text: str, count: int) -> str:
    length = max(piece.length, len(text))
    note = f"({length - count:,} of {length:,} characters left out for length: `{piece.shown_by}`)"
    first = count // 4 if piece.keep_end else count
    last = text[len(text) - (count - first) :] if piece.keep_end else ""
    return _with_text(piece, f"{text[:first]}\n[...]\n{last}", note)


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest count up to ``limit`` that fits, if whatever is smaller fits too; 0 is taken to fit."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _line(text: str) -> str:
    """Somebody's words as a part of one line, of at most 300 characters."""
    line = _one_line(text)
    return line if len(line) <= 300 else f"{line[:299]}…"


def _one_line(text: str) -> str:
    return " ".join(_clean(text).split())


def _clean(text: str) -> str:
    """What can be written as UTF-8: output of programs may hold anything."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _size(text: str) -> int:
    return len(text.encode("utf-8"))
