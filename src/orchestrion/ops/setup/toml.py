"""One table of a TOML file, put in or taken out by its lines; the rest of the file stays as it is.

Codex keeps each server as a table of its own, ``[mcp_servers.NAME]``. The lines of that table are
all we touch. What was meant is compared with what the result says, so that a file in an
unusual form (an inline table, dotted keys) is refused and not spoilt.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrion.ops.setup.broken import Broken

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")


def parse(text: str) -> dict[str, Any]:
    """What the text says. Raises Broken."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Broken(_PLACE.sub("", str(error)).strip(), text, _place(error, text)) from error
    except RecursionError as error:
        raise Broken("it nests too deeply", text, 0) from error


def _place(error: ValueError, text: str) -> int:
    """Where the mistake is: in an attribute since Python 3.14, before that in the message alone."""
    at = getattr(error, "pos", None)
    if isinstance(at, int):
        return at
    found = _PLACE.search(str(error))
    return _position(text, int(found[1]), int(found[2])) if found else len(text)


def get(text: str, path: Sequence[str]) -> Any:
    """The value at ``path``, or None. Raises Broken."""
    return _dig(parse(text), path)


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """The text in which the table at ``path`` has these keys; others in it stay. Raises Broken."""
    wanted = copy.deepcopy(parse(text))
    table = wanted
    for key in path:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise Broken(f"{key} must be a table", text, 0)
    table.update(value)
    newline = "\r\n" if "\r\n" in text else "\n"
    found = _own_lines(text, path)
    changed = _replaced(text, found, value, newline) if found else _appended(text, path, value, newline)
    return _as_meant(text, changed, wanted, path)


def take_out(text: str, path: Sequence[str]) -> str:
    """The text without the table at ``path`` and those below it. Raises Broken."""
    wanted = copy.deepcopy(parse(text))
    above = _dig(wanted, path[:-1])
    if not isinstance(above, dict) or path[-1] not in above:
        return text
    del above[path[-1]]
    changed = text
    while found := _own_lines(changed, path) or _own_lines(changed, path, below=True):
        changed = _without(changed, *found)
    return _as_meant(text, changed, wanted, path)


def give_back(text: str, path: Sequence[str], before: str) -> str:
    """The text with the table at ``path`` as another text, ``before``, has it, or without it. Raises Broken."""
    bare = take_out(text, path)
    own = _table(before, path)
    if not own:
        return bare
    newline = "\r\n" if "\r\n" in text else "\n"
    head = bare if not bare or bare.endswith("\n") else bare + newline
    return head + (newline if head.strip() else "") + (own if own.endswith("\n") else own + newline)


def _table(text: str, path: Sequence[str]) -> str:
    """The lines of the table at ``path`` and of those below it."""
    lines, own = text, ""
    while found := _own_lines(lines, path) or _own_lines(lines, path, below=True):
        own += "".join(lines.splitlines(keepends=True)[slice(*found)])
        lines = _without(lines, *found)
    return own


def _dig(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document


def _own_lines(text: str, path: Sequence[str], *, below: bool = False) -> tuple[int, int] | None:
    """The lines of the table, from its header to the last one that says something; ``below``: of one under it."""
    lines = text.splitlines(keepends=True)
    header = _header(path, below)
    first = next((number for number, line in enumerate(lines) if header.match(line)), None)
    if first is None:
        return None
    last = first
    for number in range(first + 1, len(lines)):
        if lines[number].lstrip().startswith("["):
            break
        if lines[number].strip() and not lines[number].lstrip().startswith("#"):
            last = number
    return first, last + 1


def _header(path: Sequence[str], below: bool) -> re.Pattern[str]:
    names = [rf"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')" for name in path]
    return re.compile(r"[ \t]*\[\[?[ \t]*" + r"[ \t]*\.[ \t]*".join(names) + (r"[ \t]*\." if below else r"[ \t]*\]"))


def _appended(text: str, path: Sequence[str], value: Mapping[str, Any], newline: str) -> str:
    head = text if not text or text.endswith("\n") else text + newline
    gap = newline if head.strip() else ""
    lines = [f"[{'.'.join(path)}]", *(_line(key, one) for key, one in value.items())]
    return head + gap + "".join(line + newline for line in lines)


def _line(key: str, value: Any) -> str:
    # A text, a number, a list of texts: JSON's spelling of these is TOML's.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def _replaced(text: str, found: tuple[int, int], value: Mapping[str, Any], newline: str) -> str:
    lines = text.splitlines(keepends=True)
    own = lines[found[0] : found[1]]
    if not own[-1].endswith("\n"):
        own[-1] += newline
    for key, one in value.items():
        first, end = _key_lines(own, key)
        own[first:end] = [_line(key, one) + newline]
    return "".join([*lines[: found[0]], *own, *lines[found[1] :]])


def _key_lines(own: Sequence[str], key: str) -> tuple[int, int]:
    """The lines that give ``key`` its value; none, at the end, if it has none."""
    import tomllib

    start = re.compile(rf"[ \t]*(?:{re.escape(key)}|\"{re.escape(key)}\")[ \t]*=")
    first = next((number for number, line in enumerate(own) if start.match(line)), None)
    if first is None:
        return len(own), len(own)
    for end in range(first + 1, len(own) + 1):
        try:
            tomllib.loads("".join(own[first:end]))
        except tomllib.TOMLDecodeError:
            continue  # a list over several lines is not complete yet
        return first, end
    return first, first + 1


def _without(text: str, first: int, end: int) -> str:
    """Without these lines, and without the empty one that set them apart."""
    lines = text.splitlines(keepends=True)
    if first and not lines[first - 1].strip():
        first -= 1
    return "".join(lines[:first] + lines[end:])


def _as_meant(text: str, changed: str, wanted: Mapping[str, Any], path: Sequence[str]) -> str:
    try:
        said: dict[str, Any] | None = _bare(parse(changed), path)
    except Broken:
        said = None
    if said == _bare(wanted, path):
        return changed
    name = ".".join(path)
    at = max(text.find(path[0]), 0)
    raise Broken(f"{name} is written in a form that cannot be edited; write it as a table [{name}]", text, at)


def _bare(document: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The document without empty tables on the way: one without content may have a header or none."""
    bare = copy.deepcopy(dict(document))
    for depth in range(len(path) - 1, 0, -1):
        above = _dig(bare, path[: depth - 1])
        if isinstance(above, dict) and above.get(path[depth - 1]) == {}:
            del above[path[depth - 1]]
    return bare


def _position(text: str, line: int, column: int) -> int:
    return sum(len(one) for one in text.splitlines(keepends=True)[: line - 1]) + column - 1
