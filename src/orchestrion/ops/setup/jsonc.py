"""JSON edited where it stands: one part is put in, replaced or taken out, and no other byte changes.

The files belong to people: they have comments, an order and an indentation of their own. So
a text is read into nodes that know where they stand, an edit is a cut at such a place, and
what is put in looks like what stands around it. Whether comments and a comma behind the last
part are allowed depends on the program that reads the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrion.ops.setup.broken import Broken

#: Names of members and numbers of elements, from the top.
Path = Sequence[str | int]

#: Nothing that a person writes nests deeper.
_DEEPEST = 200
_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_OR_COMMENT = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_COMMENT_ON_LINE = re.compile(r"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/)")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DECODER = json.JSONDecoder()
_WORDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Node:
    """A value and where it stands."""

    start: int
    end: int
    value: Any
    #: Members of an object or elements of a list; empty for anything else.
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Part:
    """A member of an object, or an element of a list."""

    #: Empty for an element.
    key: str
    #: Where the key begins, or the element.
    start: int
    node: Node
    #: Where the comma behind it stands.
    comma: int | None

    @property
    def end(self) -> int:
        """Behind the value."""
        return self.node.end


def parse(text: str, *, comments: bool = True) -> Node:
    """The whole text as a node. Raises Broken. A blank text is an empty object."""
    if not text.strip():
        return Node(0, len(text), {})
    reader = _Reader(text, comments)
    top = reader.value(0)
    reader.end()
    return top


def get(text: str, path: Path, *, comments: bool = True) -> Any:
    """The value at ``path``; None if there is none, or null. Raises Broken."""
    found = _find(text, parse(text, comments=comments), path)
    return found.value if found else None


def put(text: str, path: Path, value: Any, *, comments: bool = True) -> str:
    """The text with ``value`` at ``path``; objects on the way are made. Raises Broken."""
    top = parse(text, comments=comments)
    if not text.strip():
        return _styled(_nested(path, value), _Style("\n", "  "), "") + "\n"
    node, style = top, _style(text, top)
    for depth, key in enumerate(path):
        part = _part(text, node, key, path[:depth])
        if part is None:
            return _added(text, node, str(key), _nested(path[depth + 1 :], value), style)
        node = part.node
    return text[: node.start] + _styled(value, style, _indent(text, node.start)) + text[node.end :]


def append(text: str, path: Path, value: Any, *, comments: bool = True) -> str:
    """The text with a further element in the list at ``path``, which is made if need be. Raises Broken."""
    top = parse(text, comments=comments)
    found = _find(text, top, path)
    if found is None:
        return put(text, path, [value], comments=comments)
    if not isinstance(found.value, list):
        raise _unfit(text, found, path, "a list")
    return _added(text, found, None, value, _style(text, top))


def take_out(text: str, path: Path, *, comments: bool = True) -> str:
    """The text without the part at ``path``. Raises Broken."""
    above = _find(text, parse(text, comments=comments), path[:-1])
    part = _part(text, above, path[-1], path[:-1]) if above else None
    return _removed(text, above, above.parts.index(part)) if above and part else text


# -- finding ------------------------------------------------------------------------------------


def _find(text: str, top: Node, path: Path) -> Node | None:
    node = top
    for depth, key in enumerate(path):
        part = _part(text, node, key, path[:depth])
        if part is None:
            return None
        node = part.node
    return node


def _part(text: str, node: Node, key: str | int, path: Path) -> Part | None:
    """The part of a name or number; the last one of a name, as every reader of JSON has it."""
    if isinstance(key, int):
        if not isinstance(node.value, list):
            raise _unfit(text, node, path, "a list")
        return node.parts[key] if key < len(node.parts) else None
    if not isinstance(node.value, dict):
        raise _unfit(text, node, path, "an object")
    return next((part for part in reversed(node.parts) if part.key == key), None)


def _unfit(text: str, node: Node, path: Path, wanted: str) -> Broken:
    what = ".".join(map(str, path)) or "the file"
    return Broken(f"{what} must be {wanted}, and is {_WORDS.get(type(node.value), 'a number')}", text, node.start)


# -- changing -----------------------------------------------------------------------------------


class _Style(NamedTuple):
    """How a text is laid out."""

    newline: str
    #: One step of indentation.
    unit: str


def _style(text: str, top: Node) -> _Style:
    newline = "\r\n" if "\r\n" in text else "\n"
    first = top.parts[0] if top.parts else None
    own_line = first is not None and "\n" in text[top.start : first.start]
    return _Style(newline, (_indent(text, first.start) if first and own_line else "") or "  ")


def _indent(text: str, at: int) -> str:
    """The white space that the line of ``at`` begins with."""
    line = text[text.rfind("\n", 0, at) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _nested(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _styled(value: Any, style: _Style, indent: str) -> str:
    return json.dumps(value, indent=style.unit, ensure_ascii=False).replace("\n", style.newline + indent)


def _added(text: str, node: Node, key: str | None, value: Any, style: _Style) -> str:
    """The text with a part behind the last one of ``node``."""
    named = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    if not node.parts:
        closing = _indent(text, node.start)
        inside = text[node.start + 1 : node.end - 1].rstrip()
        line = style.newline + closing + style.unit
        made = line + named + _styled(value, style, closing + style.unit) + style.newline + closing
        return text[: node.start + 1] + inside + made + text[node.end - 1 :]
    last = node.parts[-1]
    if "\n" not in text[node.start : node.parts[0].start]:
        return _squeezed_in(text, last, named + json.dumps(value, ensure_ascii=False))
    indent = _indent(text, node.parts[0].start)
    made = style.newline + indent + named + _styled(value, style, indent)
    if last.comma is not None:
        behind = _behind_comment(text, last.comma + 1)
        return text[:behind] + made + "," + text[behind:]
    behind = _behind_comment(text, last.end)
    return text[: last.end] + "," + text[last.end : behind] + made + text[behind:]


def _squeezed_in(text: str, last: Part, made: str) -> str:
    """In a line with all the others."""
    if last.comma is None:
        return text[: last.end] + ", " + made + text[last.end :]
    return text[: last.comma + 1] + " " + made + "," + text[last.comma + 1 :]


def _behind_comment(text: str, at: int) -> int:
    """Behind the comment that belongs to what ends at ``at``, if its line has one."""
    found = _COMMENT_ON_LINE.match(text, at)
    return found.end() if found else at


def _removed(text: str, node: Node, index: int) -> str:
    """The text without one part of ``node``: with its comma, or else with the one before it."""
    part = node.parts[index]
    if len(node.parts) == 1:
        left = text[node.start + 1 : part.start] + text[_end_of(part) : node.end - 1]
        return text[: node.start + 1] + (left if left.strip() else "") + text[node.end - 1 :]
    before, after = node.parts[index - 1] if index else None, node.parts[index + 1 : index + 2]
    line = text.rfind("\n", 0, part.start)
    if text[line + 1 : part.start].strip() or line < node.start:
        if after:
            return text[: part.start] + text[after[0].start :]
        start = len(text[: part.start].rstrip(" \t"))
    else:
        start = line - 1 if text[line - 1] == "\r" else line
    if part.comma is not None or before is None or before.comma is None:
        return text[:start] + text[_end_of(part) :]
    between = text[before.comma + 1 : start]
    return text[: before.comma] + (between if between.strip() else "") + text[part.end :]


def _end_of(part: Part) -> int:
    return part.end if part.comma is None else part.comma + 1


# -- reading ------------------------------------------------------------------------------------


class _Reader:
    """Goes through a text once."""

    def __init__(self, text: str, comments: bool) -> None:
        self._text = text
        self._at = 0
        self._comments = comments
        self._space = _SPACE_OR_COMMENT if comments else _SPACE

    def value(self, depth: int) -> Node:
        """The value that begins here."""
        found = self._peek()
        if depth > _DEEPEST:
            raise self._broken("it nests too deeply")
        if found in ("{", "["):
            return self._container(found, depth)
        start = self._at
        if found == '"':
            value = self._string()
            return Node(start, self._at, value)
        scalar = _SCALAR.match(self._text, start)
        if scalar is None:
            raise self._broken(f"{self._found()} where a value should be")
        self._at = scalar.end()
        return Node(start, self._at, json.loads(scalar[0]))

    def end(self) -> None:
        """Nothing may come behind the value."""
        if self._peek():
            raise self._broken(f"{self._found()} behind the end")

    def _container(self, opening: str, depth: int) -> Node:
        start, closing = self._at, "}" if opening == "{" else "]"
        parts: list[Part] = []
        self._at += 1
        while self._peek() != closing:
            if parts and parts[-1].comma is None:
                raise self._broken(f"{self._found()} where a comma or {closing} should be")
            parts.append(self._next_part(opening == "{", depth))
        if parts and parts[-1].comma is not None and not self._comments:
            raise self._broken("a comma behind the last part", parts[-1].comma)
        self._at += 1
        values = [part.node.value for part in parts]
        keyed = dict(zip((part.key for part in parts), values, strict=True))
        return Node(start, self._at, keyed if opening == "{" else values, tuple(parts))

    def _next_part(self, keyed: bool, depth: int) -> Part:
        start, key = self._at, ""
        if keyed:
            if self._peek() != '"':
                raise self._broken(f"{self._found()} where a name in quotes should be")
            key = self._string()
            if self._peek() != ":":
                raise self._broken(f"{self._found()} where a colon should be")
            self._at += 1
        node = self.value(depth + 1)
        comma = self._at if self._peek() == "," else None
        self._at += comma is not None
        return Part(key, start, node, comma)

    def _string(self) -> str:
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise self._broken(error.msg[:1].lower() + error.msg[1:], error.pos) from error
        return str(value)

    def _peek(self) -> str:
        """The next character that counts; empty at the end."""
        found = self._space.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _found(self) -> str:
        found = self._text[self._at : self._at + 1]
        if found == "/" and not self._comments:
            return "a comment, which this program does not read,"
        return repr(found) if found else "the end"

    def _broken(self, problem: str, at: int | None = None) -> Broken:
        return Broken(problem, self._text, self._at if at is None else at)
