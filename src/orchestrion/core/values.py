"""Single values: how things are named, how moments are written, and what is refused in words and numbers.

Apart from ``model``, whose classes take longer to make than a hook of an agent may take in all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrion.core.errors import DamagedRow, InvalidInput

#: letter of a name -> what it names
NOUNS = {"T": "task", "R": "run", "A": "artifact", "D": "decision", "S": "session", "G": "gate", "H": "handoff"}

#: The end of the year 9999, in milliseconds: later moments cannot be shown.
LAST_MOMENT = 253_402_300_799_999
TITLE_LIMIT = 255
TEXT_LIMIT = 1_000_000
LIST_LIMIT = 200

#: Columns that hold JSON, of whatever table -> what it is.
JSON_COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("needs", "checks", "tags", "remarks", "done", "told"), list),
    **dict.fromkeys(("alternatives", "files", "components", "trade_offs", "risks", "criteria"), list),
    **dict.fromkeys(("context", "metadata", "tools", "found", "data"), dict),
    **dict.fromkeys(("old_value", "new_value"), object),
}

#: Those of them whose members are texts with something in them.
_OF_TEXTS = ("needs", "checks", "tags", "files")

_UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf")
_EMPTY_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
_NAME = re.compile(r"([A-Za-z])([1-9][0-9]{0,17})\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z")
_PLAN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def name(letter: str, number: int) -> str:
    """The short name of a thing: ``name("T", 12)`` is ``T12``."""
    return f"{letter}{number}"


def number(text: str, letter: str) -> int:
    """The number behind a short name; raises InvalidInput for anything else.

    A marker as an agent's environment carries it (``<store-uuid>/R31``) is understood too.
    """
    shown = text if len(text) <= 60 else text[:60] + "..."
    store, _, run = text.rpartition("/")
    match = _NAME.match(run if letter == "R" and store.replace("-", "").isalnum() else text)
    if match is None or match[1].upper() != letter:
        raise InvalidInput(
            f"{shown!r} is not the id of a {NOUNS[letter]}",
            hint=f"ids of {NOUNS[letter]}s look like {letter}12",
            code="invalid_id",
        )
    return int(match[2])


def number_named(text: str, *letters: str) -> int | None:
    """The number in a text that is the short name of a thing of one of these kinds; None: it is no such name."""
    match = _NAME.match(text.strip())
    return int(match[2]) if match and match[1].upper() in letters else None


def iso(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601 in UTC; None stays None.

    Of a row that was changed by hand, what is before 1970 or behind the year 9999 is the first or the last moment, and
    what is no number is shown as it is.
    """
    if not isinstance(milliseconds, int):
        return milliseconds
    shown = min(max(milliseconds, 0), LAST_MOMENT)
    return datetime.fromtimestamp(shown / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without a zone it is taken as UTC."""
    try:
        parsed = datetime.fromisoformat(text)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{text[:60]!r} is not a time",
            hint="write ISO 8601, for example 2026-11-20T18:00:00Z",
            code="invalid_time",
        ) from error


def stored_json(row: Mapping[str, Any], column: str, thing: str) -> Any:
    """What a JSON column of the row of ``thing`` holds. Raises DamagedRow if it was not written by this program."""
    import json  # which a command that only reads settings does without

    try:
        value: Any = json.loads(row[column])
    except ValueError as error:
        raise DamagedRow(thing, column, f"it is no JSON ({error})") from error
    except RecursionError as error:
        raise DamagedRow(thing, column, "it is nested too deeply") from error
    kind = JSON_COLUMNS[column]
    if not isinstance(value, kind):
        raise DamagedRow(thing, column, f"it is no {'list' if kind is list else 'object'}")
    is_member = _is_remark if column == "remarks" else _is_text if column in _OF_TEXTS else None
    if is_member and isinstance(value, list) and not all(map(is_member, value)):
        raise DamagedRow(thing, column, "its members are of another kind")
    return value


def _is_text(one: object) -> bool:
    return isinstance(one, str) and bool(one.strip())


def _is_remark(one: object) -> bool:
    return isinstance(one, dict) and {"code", "message"} <= one.keys()


def readable(row: Mapping[str, Any], thing: str, *columns: str) -> dict[str, Any]:
    """What JSON columns of a row hold, for whoever shows it; of one that was spoilt by hand, nothing of its kind.

    ``damaged`` names those, if there are any. Who acts by them takes ``stored_json``, which refuses.
    """
    found: dict[str, Any] = {}
    damaged = []
    for column in columns:
        try:
            found[column] = stored_json(row, column, thing)
        except DamagedRow:
            kind = JSON_COLUMNS[column]
            found[column] = None if kind is object else kind()
            damaged.append(column)
    return {**found, "damaged": damaged} if damaged else found


def check_moment(what: str, at: int | None) -> None:
    """Refuses what is no moment in milliseconds of the years 1970 to 9999; None is not checked."""
    if at is not None and not (isinstance(at, int | float) and 0 <= at <= LAST_MOMENT):
        raise InvalidInput(
            f"{what} must be a time from 1970-01-01 to 9999-12-31" + (f", not {at!r}" if isinstance(at, str) else ""),
            hint="write ISO 8601, for example 2026-11-20T18:00:00Z; Python takes milliseconds since 1970",
            code=f"invalid_{what}",
        )


def check_data(what: str, data: Any) -> None:
    """Refuses free data with a number that JSON has not."""
    import json

    try:
        json.dumps(data, allow_nan=False, default=str)
    except ValueError as problem:
        raise InvalidInput(
            f"the {what} has a number that JSON has not (NaN or infinity)",
            hint="leave it out, or write it as a text",
            code=f"invalid_{what}",
        ) from problem


def is_blank(text: str) -> bool:
    """Whether nothing of a text is to be seen: spaces of any kind, signs that are not drawn, letters that are empty."""
    return all(unicodedata.category(sign) in _UNSEEN or sign in _EMPTY_LETTERS for sign in text)


def check_title(title: str) -> None:
    """Refuses a title that is empty, too long, or not one line of printable text."""
    if is_blank(title):
        raise InvalidInput("a task needs a title", hint="say in a few words what is to be done", code="invalid_title")
    if len(title) > TITLE_LIMIT:
        raise InvalidInput(
            f"a title has at most {TITLE_LIMIT} characters, this one has {len(title)}",
            hint="put the rest into the description",
            code="invalid_title",
        )
    for character in title:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidInput(
                f"a title is one line of text; this one has the control character U+{ord(character):04X}",
                hint="leave it out",
                code="invalid_title",
            )


def check_text(what: str, text: str) -> None:
    """Refuses a text that is too long or that no database can hold."""
    if len(text) > TEXT_LIMIT:
        raise InvalidInput(
            f"the {what} has {len(text)} characters; at most {TEXT_LIMIT} are kept in a task",
            hint="put it into a file or an artifact",
            code="too_long",
            field=what,
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(
            f"the {what} has characters that are not text (NUL or broken UTF-8)",
            hint="leave them out",
            code="invalid_text",
            field=what,
        )


def check_command(command: str | None) -> None:
    """Refuses a command that no shell can run."""
    if command is None:
        return
    check_text("command", command)
    if not command.strip():
        raise InvalidInput("a command cannot be empty", hint="leave it out, or say what to run", code="invalid_command")


def is_plan_name(plan: str) -> bool:
    """Whether a plan can be called so."""
    try:
        check_plan_name(plan)
    except InvalidInput:
        return False
    return True


def check_plan_name(plan: str) -> None:
    """Refuses a plan name that cannot be a branch's name, and the reserved ``run``."""
    if plan == "run":
        raise InvalidInput("the plan name 'run' is reserved", hint="choose another", code="invalid_plan_name")
    if not _PLAN.match(plan) or ".." in plan or plan.endswith((".lock", ".")):
        suggestion = re.sub(r"[^a-z0-9]+", "-", plan.lower()).strip("-")[:64] or "my-plan"
        raise InvalidInput(
            f"{plan[:80]!r} cannot be the name of a plan",
            hint=f"a plan's name becomes a branch: lower-case letters, digits, '-', '_', '.'; try {suggestion!r}",
            code="invalid_plan_name",
        )


def check_word(what: str, word: str, *, empty: bool = True) -> None:
    """Refuses a name that is not one plain word (letters, digits and ``._:/@+-``)."""
    if empty and not word:
        return
    if not _WORD.match(word) or ".." in word:
        raise InvalidInput(
            f"{word[:80]!r} cannot be {'an' if what[0] in 'aeiou' else 'a'} {what}",
            hint="use letters, digits and . _ : / @ + -, at most 128 of them, beginning with a letter or digit",
            code=f"invalid_{what}",
        )


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is not one of ``allowed``, and names them."""
    if value not in allowed:
        raise InvalidInput(
            f"unknown {what} {str(value)[:60]!r}",
            hint=f"one of: {', '.join(allowed)}",
            code=f"invalid_{what}",
            allowed=list(allowed),
        )


def check_number(what: str, value: float | None, low: float, high: float) -> None:
    """Refuses a number outside ``low`` to ``high`` (NaN included), and what is none; None is not checked."""
    is_number = isinstance(value, int | float)
    if value is not None and not (is_number and low <= value <= high):
        raise InvalidInput(
            f"{what} must be {'' if is_number else 'a number '}from {low:g} to {high:g}, not {value!r}",
            hint=f"the least is {low:g}, the most {high:g}",
            code=f"invalid_{what}",
        )


def check_list(what: str, values: tuple[object, ...]) -> None:
    """Refuses a list that is longer than any task needs."""
    if len(values) > LIST_LIMIT:
        raise InvalidInput(
            f"a task has at most {LIST_LIMIT} {what}s, not {len(values)}", hint="split the task", code="too_many"
        )


def count(number: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def in_words(value: Any) -> str:
    """Free data for people: ``key: value, other: value``; texts stand as they are, without the escapes of JSON."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {in_words(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(in_words(one) for one in value)
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


#: What tells a terminal to colour, move or name: sequences, and strings up to their end.
_TOLD_TERMINALS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]", re.DOTALL | re.MULTILINE
)


def as_it_stood(text: str) -> str:
    """A program's output as a terminal shows it in the end: of a line that was written anew, the last writing."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def without_escapes(text: str) -> str:
    """A program's output without what is meant for a terminal: colours, progress bars, titles of windows."""
    return as_it_stood(_TOLD_TERMINALS.sub("", text) if "\x1b" in text else text)
