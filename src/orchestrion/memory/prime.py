"""What a fresh session should know, in 1,500 tokens: whatever the project holds.

Facts only, the shortest form of each, and the commands that show the rest. A text that is
too long for the budget loses lines of its longest part first, and says how many; a part of
which not even that has room is named at the end. Of what was handed over the longest loses lines first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrion.core.model import check_number, name
from orchestrion.core.rights import IN_A_SHELL
from orchestrion.memory import handoff, sessions, successors
from orchestrion.memory.brief import BYTES_PER_TOKEN
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Size when nobody says otherwise, and the least and most that may be asked for, in tokens.
TOKENS, LEAST, MOST = 1_500, 200, 100_000
#: So many things of each kind are named at most.
_NAMED = 8
#: Bytes of a line.
_LINE = 240
#: Bytes of a handoff, of several together, of the project's name, and of the title of a task that somebody holds.
_HANDOFF, _HANDOFFS, _NAME, _TITLE = 1_600, 2_400, 80, 60
#: So many plans are named, and commands to go on with.
_PLANS, _WAYS = 5, 3
_STATES = ("ready", "in_progress", "review", "blocked", "failed", "retrying", "pending", "completed", "cancelled")


@dataclass(frozen=True)
class Wanted:
    """For whom it is."""

    #: The project, as people call it.
    project: str
    #: A number; its own tasks are named.
    session: int | None = None
    #: Only this work stream.
    tag: str | None = None
    #: Only tasks of this role are offered.
    role: str | None = None
    #: Whether what was handed over is part of it.
    handoff: bool = True
    #: Whether it may claim tasks and add some.
    may_claim: bool = True


@dataclass
class _Quote:
    """What somebody said, below a line that names it."""

    head: str
    lines: list[str]
    #: How many lines it has in all.
    total: int
    #: Command that shows all of it.
    shown_by: str

    def text(self) -> str:
        more = self.total - len(self.lines)
        rest = [f"- and {more} more lines: `{self.shown_by}`"] if more else []
        return "\n".join([f"- {self.head}:", *(f"> {said}" for said in self.lines), *rest])


@dataclass
class _Part:
    """A heading and its lines, or what people said."""

    heading: str
    lines: list[str]
    #: How many there are in all, if more than the lines.
    total: int = 0
    #: Command that shows the rest.
    shown_by: str = ""
    quotes: list[_Quote] = field(default_factory=list)
    left_out: int = 0
    #: Headings of parts that had no room; the last part names them.
    dropped: list[str] = field(default_factory=list)

    def text(self) -> str:
        shown = self.shown()
        more = max(self.total, shown + self.left_out) - shown
        rest = [f"- {f'and {more} more' if shown else more}: `{self.shown_by}`"] if more and self.shown_by else []
        return "\n".join(filter(None, [self.heading, *self.lines, *(one.text() for one in self.quotes), *rest]))

    def shown(self) -> int:
        return len(self.lines) + len(self.quotes)

    def size(self) -> int:
        return len(self.text().encode())

    def shorten(self) -> None:
        """One line less; of several quotes the longest loses it, and none its last one before the others."""
        longest = max(reversed(self.quotes), key=lambda one: len(one.text()), default=None)
        if longest and len(longest.lines) > 1:
            longest.lines.pop()
        else:
            (self.quotes or self.lines).pop()
            self.left_out += 1


def compose(tx: Transaction, wanted: Wanted, budget_tokens: int = TOKENS) -> str:
    """The text, as Markdown, of at most so many tokens (bytes / 4). Raises InvalidInput for a budget out of bounds."""
    check_number("budget_tokens", budget_tokens, LEAST, MOST)
    counts = _counts(tx, wanted)
    need = tx.all("need_a_person", tag=wanted.tag, limit=_NAMED)
    ready = tx.all("ready_next", tag=wanted.tag, role=wanted.role, limit=_NAMED)
    held = successors.held_by(tx, name("S", wanted.session)) if wanted.session else []
    told = [part for part in _parts(tx, wanted, counts, need, ready) if part.shown()]
    parts = [_stand(tx, wanted, counts, held), *told, _ways_on(wanted, held, need, ready)]
    budget = budget_tokens * BYTES_PER_TOKEN
    while len(_joined(parts).encode()) > budget:
        if not _shorten(parts):
            return cut(_joined(parts), budget)
    return _joined(parts)


def _joined(parts: list[_Part]) -> str:
    return "\n\n".join(part.text() for part in parts) + "\n"


def _shorten(parts: list[_Part]) -> bool:
    """Takes a line away: of the longest part between the first and the last, else a part, else of the first."""
    first, *middle, last = parts
    longest = max(middle, key=lambda part: (bool(part.shown()), part.size()), default=first)
    if longest.shown() and longest is not first:
        longest.shorten()
    elif middle:
        parts.remove(middle[-1])
        last.lines[_WAYS:] = [_left_out([middle[-1].heading, *last.dropped])]
        last.dropped.insert(0, middle[-1].heading)
    elif len(first.lines) > 1:
        first.lines.pop()
    else:
        return False
    return True


def _left_out(headings: list[str]) -> str:
    named = ", ".join(heading.removeprefix("## ").partition(" (")[0].lower() for heading in headings)
    return f"- left out for length: {named} (`orchestrion prime` with more --tokens)"


def _stand(tx: Transaction, wanted: Wanted, counts: Mapping[str, int], held: Sequence[Row]) -> _Part:
    """What the project is, and how far."""
    told = [f"{counts[state]} {state.replace('_', ' ')}" for state in _STATES if counts.get(state)]
    total = sum(counts.values())
    none = f"No task has the tag {wanted.tag}." if wanted.tag else "No tasks yet."
    lines = [f"{total} task{'s' if total != 1 else ''}: {', '.join(told)}." if told else none]
    if tx.the("paused")["paused_at"]:
        lines.append("The queue is paused: `orchestrion resume`.")
    if wanted.session is not None:
        lines.append(_own(tx, wanted.session, held))
    plans = tx.all("plans", limit=_PLANS + 1)
    if plans:
        named = ", ".join(f"{plan['name']} ({plan['tasks']})" for plan in plans[:_PLANS])
        more = " and more (`orchestrion status`)" if len(plans) > _PLANS else ""
        lines.append(line(f"Plans: {named}{more}.", ""))
    stream = f", work stream {wanted.tag}" if wanted.tag else ""
    return _Part(f"# {cut(line(wanted.project, ''), _NAME)}{stream}: where it stands", lines)


def _counts(tx: Transaction, wanted: Wanted) -> Mapping[str, int]:
    rows = tx.all("states_of_tag", tag=wanted.tag) if wanted.tag else tx.all("count_states")
    return {row["state"]: int(row["total"]) for row in rows}


def _own(tx: Transaction, session: int, held: Sequence[Row]) -> str:
    tasks = tx.all("tasks_of_session", session=name("S", session), limit=_NAMED)
    others = [name("T", row["id"]) for row in tasks if row["id"] not in {run["task"] for run in held}]
    told = [f"holds {_held(held)}"] if held else []
    told += [f"worked on {', '.join(others)}"] if others else []
    return f"Session {name('S', session)} {' and '.join(told) or 'has done nothing yet'}."


def _held(runs: Sequence[Row]) -> str:
    return ", ".join(f"{name('T', run['task'])} by {name('R', run['id'])}" for run in runs[:_NAMED])


def _parts(
    tx: Transaction, wanted: Wanted, counts: Mapping[str, int], need: list[Row], ready: list[Row]
) -> list[_Part]:
    tag = wanted.tag
    awaited = sum(counts.get(state, 0) for state in ("review", "blocked", "failed"))
    holding = tx.the("count_decisions", statuses=["accepted", "implemented"])["total"]
    listed = f"orchestrion list --tag {tag}" if tag else "orchestrion list"
    may_be_claimed = (
        tx.the("count_ready", tag=tag, role=wanted.role)["total"] if wanted.role else counts.get("ready", 0)
    )
    return [
        _handed_over(tx, tag) if wanted.handoff else _Part("", []),
        _named(
            "## Running",
            tx.all("running_now", tag=tag, limit=_NAMED),
            lambda row: _run(tx, row, wanted.session),
            counts.get("in_progress", 0),
            "runs",
        ),
        _named("## Needs a person", need, _need, awaited, "status"),
        _named("## Ready next", ready, _ready, may_be_claimed, _ready_command(wanted)),
        _named(
            "## Finished last",
            tx.all("finished_last", tag=tag, limit=_NAMED),
            _finished,
            counts.get("completed", 0),
            f"{listed} --state completed".removeprefix("orchestrion "),
        ),
        _named(
            "## Decisions that hold",
            tx.all("decisions_in_short", tag=tag, limit=_NAMED),
            _decision,
            holding,
            "decisions",
        ),
    ]


def _named(heading: str, rows: list[Row], say: Callable[[Row], str], total: int, command: str) -> _Part:
    return _Part(heading, [say(row) for row in rows], total, f"orchestrion {command}")


def _run(tx: Transaction, row: Row, session: int | None) -> str:
    minutes = max(0, row["now"] - (row["started_at"] or row["now"])) // 60_000
    who = (row["agent"] or "an agent") if row["supervised"] else row["agent"] or "a client"
    is_gone = row["lease_until"] <= row["now"]
    how = row["phase"] if row["supervised"] else "not heard of; the next claim frees it" if is_gone else "holds it"
    told = f"({who}, {how}, {minutes} min{'' if is_gone else _of_session(tx, row, session)})"
    return line(f"- {name('R', row['id'])} {name('T', row['task'])} {cut(row['title'], _TITLE)}", told)


def _of_session(tx: Transaction, row: Row, session: int | None) -> str:
    """When the session that holds a run was seen, and how another one takes its place."""
    holder = None if row["supervised"] else sessions.holder(tx, row)
    if holder is None or holder.session is None or successors.is_own(tx, row, name("S", session) if session else None):
        return ""
    return f"; {holder.session} was {holder.seen()}: {holder.resuming()} takes over{IN_A_SHELL}"


def _need(row: Row) -> str:
    why = ": ".join(filter(None, (row["code"], row["said"])))
    return line(f"- {name('T', row['id'])} {row['state']}: {row['title']}", f"({why})" if why else "")


def _ready(row: Row) -> str:
    return line(f"- {name('T', row['id'])} {row['title']}", f"({row['role']})" if row["role"] else "")


def _finished(row: Row) -> str:
    return line(f"- {name('T', row['id'])} {row['title']}:", row["summary"] or "no summary")


def _decision(row: Row) -> str:
    head = f"- {name('D', row['number'])} {row['title']}"
    return line(f"{head}:" if row["decision"] else head, row["decision"])


def _handed_over(tx: Transaction, tag: str | None) -> _Part:
    """What stands of each scope; the earlier ones are counted."""
    quotes = [_quote(row) for row in handoff.standing(tx, tag=tag, limit=_NAMED)]
    total = tx.the("count_handoffs")["total"]
    part = _Part("## Handed over", [], total, "orchestrion handoff --list", quotes)
    while part.size() > _HANDOFFS and len(quotes) > 1:
        part.shorten()
    return part


def _quote(row: Row) -> _Quote:
    # How all stood then is no news any more; what was said of it is.
    said = [one for one in row["said"].splitlines() if one.strip()]
    lines = [cut(one, _LINE) for one in cut("\n".join(said), _HANDOFF).splitlines()]
    whole = len(said) if row["length"] <= len(row["said"]) else len(said) + 1
    called = name("H", row["id"])
    head = line(f"{called} {handoff.about(row)}, by {row['actor'] or 'somebody'}", "")
    return _Quote(head, lines, whole, f"orchestrion show {called}")


def _ways_on(wanted: Wanted, held: list[Row], need: list[Row], ready: list[Row]) -> _Part:
    """Three ways to go on."""
    taking = [_go_on(held) if held else _take(wanted, ready)]
    shown = f"orchestrion context {name('T', need[0]['id'])}" if need else "orchestrion status"
    told = "all about what needs a person first" if need else "where everything stands"
    decided = "`orchestrion decisions --search WORDS`: what was decided, and why"
    return _Part("## Go on with", [*(taking if wanted.may_claim else ()), f"- `{shown}`: {told}", f"- {decided}"])


def _go_on(held: list[Row]) -> str:
    first = held[0]
    again = f"`orchestrion claim {name('T', first['task'])}` gives it again, with its brief"
    report = f"`orchestrion done {name('R', first['id'])} --summary TEXT` reports it"
    return f"- {_held(held)}, {'which is' if len(held) == 1 else 'which are'} yours: {again}; {report}"


def _take(wanted: Wanted, ready: list[Row]) -> str:
    if ready:
        return f"- `orchestrion claim {name('T', ready[0]['id'])}`: takes the next task, with its brief"
    option = f" --tag {wanted.tag}" if wanted.tag else ""
    return f'- `orchestrion add "TITLE"{option}`: nothing is ready; a new task'


def _ready_command(wanted: Wanted) -> str:
    options = [f"--{what} {value}" for what, value in (("tag", wanted.tag), ("role", wanted.role)) if value]
    return " ".join(["list --state ready", *options]) if options else "ready"


def line(head: str, said: str) -> str:
    """A line with somebody's text, which is made one line and cut."""
    return cut(" ".join(f"{head} {said}".split()), _LINE)


def cut(text: str, size: int) -> str:
    """A text of at most ``size`` bytes; one that is cut ends in an ellipsis."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= size:
        return raw.decode()
    return raw[: max(0, size - 3)].decode("utf-8", "ignore").rstrip() + "…"
