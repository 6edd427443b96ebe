"""Plans in YAML and JSON: text to a tree of values that know their line and column.

Both formats feed one ``_Tree``, which bounds depth and copies and refuses names said twice.
YAML comes as a stream of events (from libyaml, where it is there), never as objects: no tag
can make anything, an alias costs what it copies, and no nesting reaches a stack. Plain words
are read as in YAML 1.2: ``no`` and ``on`` are text, ``2026-12-01`` is text that a date field reads.
JSON has its own small reader, for YAML's takes neither all of JSON nor only JSON.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrion.core.errors import PlanRefused
from orchestrion.plans.document import PlanDocument, build
from orchestrion.plans.fields import UNPRINTABLE, Found, refused, refused_at

if TYPE_CHECKING:
    import yaml

#: How deep lists and mappings may be nested; a level of children takes two of them.
MAX_DEPTH = 210
#: How many values aliases may copy, all together.
MAX_COPIES = 100_000
#: So many characters may a reader of YAML look at before it tells of the first of them.
_READ_AHEAD = 1024
#: A number with more digits is no number of a plan.
_LONGEST_NUMBER = 300

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT_TAG = "tag:yaml.org,2002:str"


def parse_yaml(text: str) -> PlanDocument:
    """The plan of a YAML text. Raises PlanRefused with line and column."""
    return build(read_yaml(text))


def parse_json(text: str) -> PlanDocument:
    """The plan of a JSON text. Raises PlanRefused with line and column."""
    return build(read_json(text))


# --- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    found: Found
    #: For a mapping: the name whose value comes next.
    name: Found | None
    #: Values seen in the whole file before this one.
    before: int


class _Tree:
    """Puts values, in the order of the file, into the lists and mappings that are open."""

    def __init__(self) -> None:
        self.root: Found | None = None
        self.count = 0
        self.open: list[_Open] = []

    def begin(self, found: Found) -> None:
        """A list or a mapping begins."""
        self._expect_value(found)
        if len(self.open) >= MAX_DEPTH:
            raise refused(found, f"nested more than {MAX_DEPTH} levels deep", hint="make the plan flatter")
        self.open.append(_Open(found, None, self.count))

    def end(self) -> tuple[Found, int]:
        """The innermost list or mapping ends: it, and how many values it holds."""
        done = self.open.pop()
        return self._attach(done.found), self.count - done.before + 1

    def put(self, found: Found, text: str) -> Found:
        """A scalar: a name if the mapping waits for one (then as ``text``), else a value."""
        if isinstance(found.value, str) and (bad := UNPRINTABLE.search(found.value)):
            raise refused(found, f"text with the control character U+{ord(bad[0]):04X}", hint="leave it out")
        if self.open and isinstance(self.open[-1].found.value, dict) and self.open[-1].name is None:
            self._name(found, text)
            return found
        return self._attach(found)

    def copy(self, found: Found, size: int) -> None:
        """A value that stands elsewhere already."""
        self._expect_value(found)
        self.count += size
        self._attach(found)

    def _name(self, found: Found, text: str) -> None:
        names = self.open[-1].found.value
        assert isinstance(names, dict)
        if text in names:
            raise refused(
                found,
                f"the name {text[:60]!r} is there twice, also in line {names[text].name_line}",
                hint="keep one of the two",
            )
        self.open[-1].name = found._replace(value=text)

    def _expect_value(self, found: Found) -> None:
        if self.open and isinstance(self.open[-1].found.value, dict) and self.open[-1].name is None:
            raise refused(
                found, "a list or mapping where the name of a field should be", hint="use a plain word as name"
            )

    def _attach(self, found: Found) -> Found:
        self.count += 1
        if not self.open:
            self.root = found
            return found
        around = self.open[-1]
        if isinstance(around.found.value, list):
            around.found.value.append(found)
        elif isinstance(around.found.value, dict) and around.name is not None:
            name, around.name = around.name, None
            around.found.value[str(name.value)] = Found(found.value, found.line, found.column, name.line, name.column)
        return found


# --- YAML -------------------------------------------------------------------------------------------------------------


def read_yaml(text: str, line: int = 1, column: int = 1) -> Found:
    """The tree of a YAML text that begins at ``line`` and ``column`` of its file."""
    import yaml

    try:
        root = _yaml_root(text, line, column, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise PlanRefused(f"this is not YAML: {error}", line=line, column=column) from error
    if root is None:
        raise PlanRefused("the file is empty", line=line, column=column, hint="a plan has a name and tasks")
    return root


def _yaml_root(text: str, line: int, column: int, loader: Any) -> Found | None:
    """The tree, by the events of ``loader``.

    libyaml may refuse what nests deeply in the part that it reads ahead, before its events
    come to our own limit. The reader in Python, which has none, then says where ours is.
    """
    import yaml

    reader = _YamlReader(line, column)
    try:
        for event in yaml.parse(text, Loader=loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        if loader is not yaml.BaseLoader and _may_nest_deeply(reader, error, text):
            return _yaml_root(text, line, column, yaml.BaseLoader)
        raise reader.broken(error, text) from error
    return reader.tree.root


def _may_nest_deeply(reader: _YamlReader, error: yaml.MarkedYAMLError, text: str) -> bool:
    """Whether our limit could lie in what was read ahead of the events; only brackets nest there."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return False
    end = _index(text, mark.line, mark.column)
    ahead = text[max(0, end - _READ_AHEAD) : end]
    return len(reader.tree.open) + ahead.count("[") + ahead.count("{") > MAX_DEPTH


class _YamlReader:
    """Turns YAML's events into a tree; refuses what YAML has beyond plain data."""

    def __init__(self, line: int, column: int) -> None:
        self.tree = _Tree()
        self.first = (line, column)
        self.documents = 0
        #: name -> what it stands for and how many values that is; None while it is still open
        self.anchors: dict[str, tuple[Found, int] | None] = {}
        self.anchor_of_open: list[str | None] = []
        self.copies = 0
        self.steps: dict[str, Callable[[Any], None]] = {
            "DocumentStartEvent": self._document,
            "ScalarEvent": self._scalar,
            "SequenceStartEvent": self._begin,
            "MappingStartEvent": self._begin,
            "SequenceEndEvent": self._end,
            "MappingEndEvent": self._end,
            "AliasEvent": self._alias,
        }

    def take(self, event: yaml.Event) -> None:
        """The next event of the stream."""
        step = self.steps.get(type(event).__name__)
        if step:
            step(event)

    def broken(self, error: yaml.MarkedYAMLError, text: str) -> PlanRefused:
        """YAML's own complaint, in our words and with our places."""
        mark = error.problem_mark or error.context_mark
        line, column = self._place(mark) if mark else self.first
        at_tab = mark is not None and text.startswith("\t", _index(text, mark.line, mark.column))
        hint = "YAML is indented by spaces, never by tabs" if at_tab else "put texts with : # { } [ ] into quotes"
        what = ": ".join(part for part in (error.context, error.problem) if part)
        return refused_at(line, column, f"this is not YAML: {what}", hint=hint)

    def _place(self, mark: Any) -> tuple[int, int]:
        line, column = self.first
        return line + mark.line, mark.column + (column if mark.line == 0 else 1)

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            line, column = self._place(event.start_mark)
            raise refused_at(
                line, column, "a second document begins here", hint="one file is one plan; split it at '---'"
            )

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line, column = self._place(event.start_mark)
        quoted = not event.implicit[0]
        self._refuse_tag(event.tag, line, column, _TEXT_TAG)
        value = event.value if quoted or event.tag else _plain_scalar(event.value, line, column)
        found = self.tree.put(Found(value, line, column), event.value)
        if event.anchor:
            self.anchors[event.anchor] = (found, 1)

    def _begin(self, event: Any) -> None:
        line, column = self._place(event.start_mark)
        self._refuse_tag(event.tag, line, column)
        is_list = type(event).__name__ == "SequenceStartEvent"
        self.tree.begin(Found([] if is_list else {}, line, column))
        self.anchor_of_open.append(event.anchor)
        if event.anchor:
            self.anchors[event.anchor] = None

    def _end(self, event: object) -> None:
        done = self.tree.end()
        if anchor := self.anchor_of_open.pop():
            self.anchors[anchor] = done

    def _alias(self, event: yaml.AliasEvent) -> None:
        line, column = self._place(event.start_mark)
        name = str(event.anchor)
        if name not in self.anchors:
            raise refused_at(
                line, column, f"*{name} names nothing", hint=f"mark a value with &{name} before it is used"
            )
        meant = self.anchors[name]
        if meant is None:
            raise refused_at(line, column, f"*{name} stands inside of &{name} itself", hint="write the value out")
        found, size = meant
        self.copies += size
        if self.copies > MAX_COPIES:
            raise refused_at(
                line, column, f"aliases copy more than {MAX_COPIES} values", hint="write them out, or use defaults"
            )
        self.tree.copy(found._replace(line=line, column=column), size)

    def _refuse_tag(self, tag: str | None, line: int, column: int, *allowed: str) -> None:
        if tag and tag != "!" and tag not in allowed:
            raise refused_at(line, column, f"the YAML tag {tag[:80]!r} is not used in plans", hint="leave the tag out")


def _plain_scalar(text: str, line: int, column: int) -> str | int | float | bool | None:
    """What a word without quotes is in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    return _number(text, line, column) if _INT.match(text) or _FLOAT.match(text) else text


def _number(text: str, line: int, column: int) -> int | float:
    if len(text) <= _LONGEST_NUMBER:
        value = int(text) if _INT.match(text) else float(text)
        if abs(value) != float("inf"):
            return value
    raise refused_at(line, column, f"the number {text[:30]}... is too large", hint="put it into quotes if it is text")


def _index(text: str, line: int, column: int) -> int:
    """Where the character at a place is, both counted from 0."""
    start = 0
    for _ in range(line):
        start = text.find("\n", start) + 1
    return start + column


# --- JSON -------------------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_JSON_WORD = re.compile(r"true|false|null")
_JSON_WORDS = {"true": True, "false": False, "null": None}


def read_json(text: str) -> Found:
    """The tree of a JSON text, read strictly."""
    return _JsonReader(text).read()


class _JsonReader:
    """Reads JSON (RFC 8259) with places and without recursion."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.tree = _Tree()
        self.line_starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def read(self) -> Found:
        """The one value of the text."""
        if not self._peek():
            raise self._broken("a value")
        self._value()
        while self.tree.open:
            self._member()
        if self._peek() or self.tree.root is None:
            raise self._broken("the end of the text")
        return self.tree.root

    def _member(self) -> None:
        """The next item of the innermost list or mapping, or its end."""
        inside = self.tree.open[-1].found.value
        is_list = isinstance(inside, list)
        closing = "]" if is_list else "}"
        if self._peek() == closing:
            self.at += 1
            self.tree.end()
            return
        if inside:
            self._skip(",", f"',' or '{closing}'")
        if not is_list:
            self._name()
        self._value()

    def _name(self) -> None:
        if self._peek() != '"':
            raise self._broken("a name in double quotes")
        found = self._string()
        self.tree.put(found, str(found.value))
        self._skip(":", "':'")

    def _value(self) -> None:
        sign = self._peek()
        if sign in ("{", "["):
            found = Found([] if sign == "[" else {}, *self._place(self.at))
            self.at += 1
            self.tree.begin(found)
        elif sign == '"':
            found = self._string()
            self.tree.put(found, str(found.value))
        else:
            self._bare()

    def _bare(self) -> None:
        """A number, true, false or null."""
        place = self._place(self.at)
        if word := _JSON_WORD.match(self.text, self.at):
            self.tree.put(Found(_JSON_WORDS[word[0]], *place), word[0])
        elif word := _JSON_NUMBER.match(self.text, self.at):
            self.tree.put(Found(_number(word[0], *place), *place), word[0])
        else:
            raise self._broken("a value")
        self.at = word.end()

    def _string(self) -> Found:
        place = self._place(self.at)
        try:
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            line, column = self._place(error.pos)
            raise refused_at(line, column, f"this is not JSON: {error.msg}", hint=_JSON_HINT) from error
        return Found(value, *place)

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        if space := _SPACE.match(self.text, self.at):
            self.at = space.end()
        return self.text[self.at : self.at + 1]

    def _skip(self, sign: str, expected: str) -> None:
        if self._peek() != sign:
            raise self._broken(expected)
        self.at += 1

    def _place(self, at: int) -> tuple[int, int]:
        line = bisect_right(self.line_starts, at)
        return line, at - self.line_starts[line - 1] + 1

    def _broken(self, expected: str) -> PlanRefused:
        sign = self._peek()
        line, column = self._place(self.at)
        found = repr(sign) if sign else "the end of the file"
        return refused_at(line, column, f"this is not JSON: expected {expected}, found {found}", hint=_JSON_HINT)


_JSON_HINT = 'JSON has double quotes, no comments and no comma after the last item: {"plan": "x", "tasks": []}'
