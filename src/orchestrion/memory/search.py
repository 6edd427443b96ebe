"""Finding what is remembered by words: decisions, tasks, artifacts, handoffs.

All the words of a question must occur, each as a word or as its beginning. Decisions can
be found at once. Tasks and artifacts change at a pace at which an index would cost every
claim something, so the index reads the journal and catches up when somebody searches.
Handoffs are in no index: they are read, for what one says may be masked when its run ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from orchestrion.core.errors import InvalidInput
from orchestrion.core.model import name
from orchestrion.store import Transaction

#: Things found at most.
MOST = 1000
#: Characters of a text in which words are found; what is behind them is not.
LONGEST = 100_000
#: Lines of the journal that are caught up with in one transaction, so that nobody waits long for it.
AT_ONCE = 2_000
#: Tasks whose texts are read and written with one statement.
_PIECE = 200
_ASKED_WORDS = 20
_WORD = re.compile(r"[^\W_]+")
_EXCERPT = 160


def catch_up(tx: Transaction, since: int | None = None) -> int | None:
    """Reads on in the journal, where it was left or behind the line ``since``. Where there is more to read, or None."""
    known = int(tx.the("searched")["searched"])
    begin = known if since is None else since
    lines = tx.the("lines_told", since=begin, limit=AT_ONCE)
    _add_tasks(tx, [int(row["id"]) for row in tx.all("tasks_told_of", since=begin, limit=AT_ONCE)])
    if (lines["settled"] or 0) > known:
        tx.put("note_searched", line=lines["settled"])
    return int(lines["last"]) if lines["total"] == AT_ONCE else None


def _add_tasks(tx: Transaction, tasks: Sequence[int]) -> None:
    for start in range(0, len(tasks), _PIECE):
        piece = list(tasks[start : start + _PIECE])
        rows = [
            _text(
                "T", row["id"], row["title"], " ".join(row[part] or "" for part in ("summary", "description", "result"))
            )
            for row in tx.all("texts_of_tasks", ids=piece, most=LONGEST)
        ]
        known = {row["thing"]: (row["title"], row["words"]) for row in tx.all("texts_known", kind="T", ids=piece)}
        news = [row for row in rows if known.get(row["thing"]) != (row["title"], row["words"])]
        gone = known.keys() - {row["thing"] for row in rows}
        tx.put("forget_texts", kind="T", ids=sorted({*gone, *(row["thing"] for row in news)}))
        news += [
            _text("A", row["id"], row["name"], row["content"])
            for row in tx.all("artifacts_to_find", ids=piece, most=LONGEST)
        ]
        tx.put("add_texts", rows=json.dumps(news))


def add(tx: Transaction, kind: str, thing: int, title: str, text: str) -> None:
    """A thing can be found from now on."""
    tx.put("add_texts", rows=json.dumps([_text(kind, thing, title, text)]))


def _text(kind: str, thing: int, title: str, text: str) -> dict[str, Any]:
    return {"kind": kind, "thing": thing, "title": " ".join(words(title)), "words": " ".join(words(text[:LONGEST]))}


def find(tx: Transaction, text: str, *, kinds: Sequence[str], limit: int) -> list[tuple[str, int]]:
    """Kind and number of what has all of the words, the best first. Raises InvalidInput if there is no word."""
    asked = list(dict.fromkeys(words(text[:LONGEST])))
    if not asked:
        raise InvalidInput(
            f"{text[:60]!r} has no word to search for", hint="use letters or digits", code="invalid_search"
        )
    asked, indexed = asked[:_ASKED_WORDS], [kind for kind in kinds if kind != "H"]
    rows = tx.all("find_texts", words=asked, kinds=indexed, limit=limit) if indexed else []
    found = [(row["kind"], int(row["thing"])) for row in rows]
    if "H" in kinds:
        found += [("H", number) for number in islice(_handoffs(tx, asked), limit - len(found))]
    return found


def _handoffs(tx: Transaction, asked: Sequence[str]) -> Iterator[int]:
    """Those that have all the words, the newest first."""
    before: int | None = None
    while rows := tx.all("handoffs_said", before=before, limit=_PIECE):
        for row in rows:
            there = set(words(row["said"][:LONGEST]))
            if all(any(one.startswith(word) for one in there) for word in asked):
                yield int(row["id"])
        before = rows[-1]["id"]


def related_decisions(tx: Transaction, text: str, *, limit: int) -> list[int]:
    """Rows of decisions that have some of the words of a text, the best first; words of two letters say nothing."""
    told = dict.fromkeys(_stem(word) for word in words(text[:LONGEST]) if len(word) > 2)
    if not told:
        return []
    rows = tx.all("related_decisions", words=list(told)[:_ASKED_WORDS], limit=limit)
    return [int(row["thing"]) for row in rows]


def _stem(word: str) -> str:
    """What a word and its plural begin with."""
    return word[:-1] if len(word) > 4 and word.endswith("s") else word


def words(text: str) -> Iterable[str]:
    """The words of a text in lower case; whatever stands between letters and digits divides them."""
    return (word[:64] for word in _WORD.findall(text.lower().replace("\0", " ")))


def shown(tx: Transaction, kind: str, thing: int, text: str) -> dict[str, Any]:
    """A found thing with the place where the first word occurs, and the state of a task or decision."""
    row = tx.the(_EXCERPTS[kind], id=thing)
    number = row["number"] if kind == "D" else thing
    found = {"id": name(kind, number), "title": row["title"], "excerpt": _excerpt(row["said"] or "", text)}
    return {**found, "state": row["state"]}


_EXCERPTS = {
    "D": "excerpt_of_decision",
    "T": "excerpt_of_task",
    "A": "excerpt_of_artifact",
    "H": "excerpt_of_handoff",
}


def _excerpt(said: str, text: str) -> str:
    places = [found for word in words(text) if (found := said.lower().find(word)) >= 0]
    start = max(0, min(places, default=0) - _EXCERPT // 4)
    return " ".join(said[start : start + _EXCERPT].split())
