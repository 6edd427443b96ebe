"""What was decided, why, and what became of it: numbered records that agents and people read.

Numbers are those of the project, without gaps. A decision can supersede, refine or reverse
an earlier one; the chain is kept. A superseded or reversed decision no longer holds; a
refined one does, read together with what refines it. If what took its place is rejected
after all, it has the status again that it had before. A decision is whose status it has: who recorded
it, until somebody else gives it another. A run changes none that is a person's.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrion.core.errors import Conflict, IllegalMove, InvalidInput, NotFound
from orchestrion.core.model import LIST_LIMIT, check_choice, check_text, check_title, check_word, iso, name
from orchestrion.core.rights import RUN, is_run, not_for_runs
from orchestrion.core.values import number_named, readable
from orchestrion.memory import search as words
from orchestrion.store import Transaction
from orchestrion.store.store import Row

STATUSES = ("proposed", "accepted", "implemented", "superseded", "rejected")
IMPACTS = ("low", "medium", "high", "critical")
RELATIONS = ("supersedes", "refines", "reverses")
#: Statuses of a decision that holds, and so takes the place of the one that it supersedes or reverses.
HOLDING = ("accepted", "implemented")
#: Status -> those that somebody may give it next. ``superseded`` comes by another decision alone.
MOVES: dict[str, tuple[str, ...]] = {
    "proposed": ("accepted", "rejected"),
    "accepted": ("proposed", "implemented", "rejected"),
    "implemented": ("accepted", "rejected"),
    "rejected": ("proposed", "accepted"),
    "superseded": (),
}
#: Fields that hold a text, and those that hold a list.
TEXTS = ("context", "decision", "rationale")
LISTS = ("alternatives", "files", "components", "trade_offs", "risks", "criteria")
#: Decisions of a chain that are named.
_CHAIN = 50
#: What an entry of these lists is called in short, and its parts.
_ENTRIES = {"alternatives": ("name", ("description", "pros", "cons")), "risks": ("risk", ("mitigation",))}


@dataclass(frozen=True)
class NewDecision:
    """A decision that is not recorded yet. Construction refuses values that none may have."""

    title: str
    context: str = ""
    decision: str = ""
    rationale: str = ""
    status: str = "accepted"
    #: A word, as ``architecture``.
    category: str = ""
    #: One of IMPACTS, or empty.
    impact: str = ""
    #: Texts, or mappings with ``name``, ``description``, ``pros`` and ``cons``.
    alternatives: Sequence[Any] = ()
    #: Paths from the project's root.
    files: Sequence[str] = ()
    components: Sequence[str] = ()
    trade_offs: Sequence[str] = ()
    #: Texts, or mappings with ``risk`` and ``mitigation``.
    risks: Sequence[Any] = ()
    criteria: Sequence[str] = ()
    #: Numbers of the task, run and session it was taken in.
    task: int | None = None
    run: int | None = None
    session: int | None = None
    #: How it changes an earlier decision, and that one's number: ``("supersedes", 3)``.
    changes: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        _check_title(self.title)
        for field in TEXTS:
            check_text(field, getattr(self, field))
        check_choice("status", self.status, ("proposed", "accepted", "implemented", "rejected"))
        check_word("category", self.category)
        if self.impact:
            check_choice("impact", self.impact, IMPACTS)
        for field in LISTS:
            _check_length(field, getattr(self, field))
            check_text(field, _kept(field, getattr(self, field)))


def record(tx: Transaction, new: NewDecision) -> int:
    """Keeps a decision. Returns its number. Raises NotFound, Conflict (the other one was superseded before)."""
    tx.one("lock_project")
    replaced = _replaced(tx, new.changes)
    row = tx.the(
        "add_decision",
        title=new.title.strip(),
        status=new.status,
        category=new.category,
        impact=new.impact,
        **{field: getattr(new, field) for field in TEXTS},
        **{field: _kept(field, getattr(new, field)) for field in LISTS},
        task=new.task,
        run=new.run,
        session=new.session,
        actor=tx.origin.actor,
        replaces=replaced["id"] if replaced else None,
        relation=new.changes[0] if new.changes else None,
    )
    if replaced and new.changes and new.changes[0] != "refines" and new.status in HOLDING:
        _move(tx, replaced, "superseded")
    words.add(tx, "D", row["id"], new.title, " ".join(getattr(new, field) for field in TEXTS))
    data = {"decision": name("D", row["number"]), "title": new.title}
    tx.event("decision.recorded", task=new.task, run=new.run, data=data)
    return int(row["number"])


def _check_title(title: str) -> None:
    try:
        check_title(title)
    except InvalidInput as refused:
        refused.message = refused.message.replace("a task needs", "a decision needs")
        refused.hint = refused.hint.replace("what is to be done", "what was decided")
        raise


def _replaced(tx: Transaction, changes: tuple[str, int] | None) -> Row | None:
    if changes is None:
        return None
    row = one(tx, changes[1])
    _refuse_superseded(tx, row)
    return row


def _refuse_superseded(tx: Transaction, row: Row) -> None:
    if row["status"] == "superseded":
        raise Conflict(
            f"{name('D', row['number'])} is superseded already, by {', '.join(_in_its_place(tx, row)) or 'another'}",
            hint="change that one instead",
            code="superseded",
        )


def _in_its_place(tx: Transaction, row: Row) -> list[str]:
    """Decisions that hold instead of one."""
    later = tx.all("changed_by", id=row["id"])
    return [name("D", o["number"]) for o in later if o["relation"] != "refines" and _took_effect(o)]


def _took_effect(row: Row) -> bool:
    """Whether a decision holds, or did until its own place was taken."""
    return (row["was"] or row["status"]) in HOLDING


def change(tx: Transaction, number: int, status: str) -> Row:
    """A decision gets another status; the one whose place it takes, or gives up, gets its own.

    Raises NotFound, InvalidInput, IllegalMove, Conflict (another took that place before).
    """
    check_choice("status", status, STATUSES)
    tx.one("lock_project")
    row = one(tx, number)
    if row["status"] == status:
        return row
    if status not in MOVES[row["status"]]:
        by_another = "record a decision that supersedes it" if status == "superseded" else ""
        raise IllegalMove(name("D", number), row["status"], status, MOVES[row["status"]], hint=by_another)
    _move(tx, row, status)
    if row["replaces"] and row["relation"] != "refines" and (row["status"] in HOLDING) != (status in HOLDING):
        _change_places(tx, one(tx, row["replaced"]), holds=status in HOLDING)
    return one(tx, number)


def _change_places(tx: Transaction, older: Row, *, holds: bool) -> None:
    """The place of an older decision is taken by a newer one that ``holds`` now, or is its own again."""
    if holds:
        _refuse_superseded(tx, older)
        _move(tx, older, "superseded")
    elif older["was"]:
        _move(tx, older, older["was"])


def _move(tx: Transaction, row: Row, to: str) -> None:
    if row["status"] != to:
        _refuse_runs_what_is_a_persons(tx, row)
        tx.put("decision_moves", id=row["id"], found=row["status"], to=to, actor=tx.origin.actor)
        data = {"decision": name("D", row["number"])}
        tx.event(f"decision.{to}", task=row["task"], found=row["status"], to=to, data=data)


def _refuse_runs_what_is_a_persons(tx: Transaction, row: Row) -> None:
    """Raises InvalidInput (``not_for_runs``) where a run would change a decision that a person recorded or changed."""
    actor = tx.origin.actor
    if not is_run(actor) or is_run(row["actor"]):
        return
    refused = not_for_runs(actor.removeprefix(RUN), f"changing {name('D', row['number'])}, which is a person's,")
    refused.hint = "propose another one: record it with the status proposed, and a person accepts it"
    raise refused


def one(tx: Transaction, number: int) -> Row:
    """One decision. Raises NotFound."""
    row = tx.one("decision_by_number", number=number)
    if row is None:
        raise NotFound(
            f"there is no decision {name('D', number)}",
            hint="`orchestrion decisions` shows the decisions",
            code="no_decision",
        )
    return row


def listing(
    tx: Transaction, *, limit: int, before: int | None = None, offset: int = 0, text: str | None = None, **wanted: Any
) -> tuple[list[Row], int]:
    """Decisions, newest first, and how many there are in all.

    ``text``: all of these words occur, or it is the decision's id. ``wanted``: category, impact, statuses, file,
    tasks, session, tag.
    """
    given = {key: value for key, value in wanted.items() if value is not None}
    if text:
        given["ids"] = [thing for _, thing in words.find(tx, text, kinds=["D"], limit=words.MOST)]
        named = tx.one("decision_by_number", number=number_named(text, "D") or 0)
        given["ids"] += [named["id"]] if named else []
    if "file" in given:
        given["file"] = json.dumps(given["file"], ensure_ascii=False)
    rows = tx.all("list_decisions", before=before, limit=limit, offset=offset or None, **given)
    return rows, int(tx.the("count_decisions", **given)["total"])


def standing(tx: Transaction, *, limit: int, **wanted: Any) -> tuple[list[tuple[Row, str | None]], int]:
    """Decisions for who builds on them, and how many there are: those that hold, newest first, then the others.

    With one that was superseded comes the id of the one that holds instead, which is among the first.
    """
    holding, held_total = listing(tx, limit=limit, statuses=list(HOLDING), **wanted)
    others, total = listing(tx, limit=limit, statuses=[one for one in STATUSES if one not in HOLDING], **wanted)
    instead = {row["id"]: found for row in others if (found := holds_instead(tx, row))}
    first = {row["number"]: row for row in [*holding, *instead.values()]}
    rows = [*(first[number] for number in sorted(first, reverse=True)), *others]
    named = {one: name("D", found["number"]) for one, found in instead.items()}
    return [(row, named.get(row["id"])) for row in rows[:limit]], held_total + total + len(first) - len(holding)


def holds_instead(tx: Transaction, row: Row) -> Row | None:
    """The decision that holds in the place of one that was superseded or reversed."""
    return tx.one("holds_instead", id=row["id"]) if row["status"] == "superseded" else None


def as_json(row: Row) -> dict[str, Any]:
    """A decision as every door shows it."""
    return {
        "id": name("D", row["number"]),
        **{field: row[field] for field in ("title", "status", "category", "impact", *TEXTS)},
        **readable(row, name("D", row["number"]), *LISTS),
        "task": name("T", row["task"]) if row["task"] else None,
        "run": name("R", row["run"]) if row["run"] else None,
        "session": name("S", row["session"]) if row["session"] else None,
        "actor": row["actor"],
        "replaces": {"id": name("D", row["replaced"]), "relation": row["relation"]} if row["replaces"] else None,
        "took_effect": _took_effect(row),
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }


def detail(tx: Transaction, number: int) -> dict[str, Any]:
    """A decision with its chain: the earlier ones it goes back to, and the later ones that change it."""
    row = one(tx, number)
    earlier = tx.all("earlier_decisions", id=row["id"], limit=_CHAIN)
    later = tx.all("changed_by", id=row["id"])
    return {
        **as_json(row),
        "chain": [{"id": name("D", o["number"]), "title": o["title"], "status": o["status"]} for o in earlier],
        "replaced_by": [
            {
                "id": name("D", o["number"]),
                "relation": o["relation"],
                "status": o["status"],
                "took_effect": _took_effect(o),
            }
            for o in later
        ],
    }


def change_said(found: Mapping[str, Any]) -> str:
    """How a decision changes an earlier one: ``supersedes D1``, ``would supersede D1`` if it is proposed; or empty."""
    if not found["replaces"]:
        return ""
    relation, other = found["replaces"]["relation"], found["replaces"]["id"]
    if found["took_effect"]:
        return f"{relation} {other}"
    return f"{'would' if found['status'] == 'proposed' else 'was to'} {relation.removesuffix('s')} {other}"


def changes_of(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What later decisions (of ``detail``) do to this one, and their ids. Those that never held are no change."""
    return [
        (f"{_PASSIVE[one['relation']]} by" if one["took_effect"] else _PROPOSED[one["relation"]], one["id"])
        for one in found.get("replaced_by", ())
        if one["took_effect"] or one["status"] == "proposed"
    ]


def _check_length(field: str, values: Sequence[Any]) -> None:
    if len(values) > LIST_LIMIT:
        raise InvalidInput(
            f"a decision has at most {LIST_LIMIT} {field.replace('_', '-')}, not {len(values)}",
            hint="name those that matter",
            code="too_many",
        )


def _kept(field: str, values: Sequence[Any]) -> str:
    """A list as it is kept: mappings where an entry has parts, else texts."""
    if field not in _ENTRIES:
        entries: list[Any] = [_text(field, value) for value in values]
    else:
        key, parts = _ENTRIES[field]
        entries = [_entry(field, key, parts, value) for value in values]
    return json.dumps(entries, ensure_ascii=False)


def _entry(field: str, key: str, parts: Sequence[str], value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {key: _text(field, value)}
    if not isinstance(value, Mapping) or not isinstance(value.get(key), str):
        raise InvalidInput(
            f"{str(value)[:80]!r} cannot be one of the {field}",
            hint=f"a text, or a mapping with {key}, {', '.join(parts)}",
            code=f"invalid_{field}",
        )
    return {key: _text(field, value[key]), **{part: _part(field, value[part]) for part in parts if value.get(part)}}


def _part(field: str, value: Any) -> Any:
    return [_text(field, one) for one in value] if isinstance(value, list | tuple) else _text(field, value)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{str(value)[:80]!r} is no text", hint=f"{field} holds texts", code=f"invalid_{field}")
    check_text(field, value)
    return value


# -- as a document --------------------------------------------------------------------------------


def slug(number: int, title: str) -> str:
    """The name of a decision's file: ``0012-use-sqlite.md``."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60].strip("-")
    return f"{number:04d}-{kept or 'decision'}.md"


def as_adr(found: Mapping[str, Any]) -> str:
    """A decision (``detail``) as a Markdown record."""
    number = int(found["id"][1:])
    facts = [f"- Status: {found['status']}", f"- Date: {str(found['created_at'])[:10]}"]
    facts += [f"- {field.capitalize()}: {found[field]}" for field in ("category", "impact", "task") if found[field]]
    if found["replaces"]:
        how, _, other = change_said(found).rpartition(" ")
        facts.append(f"- {how.capitalize()}: {other}")
    facts += [f"- {what}: {other}" for what, other in changes_of(found)]
    parts = [f"# {number}. {found['title']}", "\n".join(facts)]
    parts += [_section(heading, found[field]) for heading, field in _SECTIONS if found[field]]
    return "\n\n".join(parts) + "\n"


_PASSIVE = {"supersedes": "Superseded", "refines": "Refined", "reverses": "Reversed"}
_PROPOSED = {"supersedes": "Proposed instead", "refines": "Proposed to refine it", "reverses": "Proposed to reverse it"}
_SECTIONS = (
    ("Context", "context"),
    ("Decision", "decision"),
    ("Rationale", "rationale"),
    ("Alternatives", "alternatives"),
    ("Trade-offs", "trade_offs"),
    ("Risks", "risks"),
    ("Success criteria", "criteria"),
    ("Affected files", "files"),
    ("Affected components", "components"),
)


def _section(heading: str, value: Any) -> str:
    text = value if isinstance(value, str) else "\n".join(f"- {said(one)}" for one in value)
    return f"## {heading}\n\n{text}"


def said(entry: Any) -> str:
    """An entry of a list in a line: ``use a file (pros: simple; cons: slow)``."""
    if isinstance(entry, str):
        return entry
    first, *rest = entry.items()
    parts = [f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in rest]
    return f"{first[1]} ({'; '.join(parts)})" if parts else str(first[1])
