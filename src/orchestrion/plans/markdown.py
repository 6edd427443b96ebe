r"""Plans in Markdown: the to-do list that people and agents write anyway.

The first heading is the plan, further headings are parents (nested by their level), list
items are tasks, nested items their children, ``- [x]`` is completed. Attributes stand in a
trailing ``{key: a, after: [b]}``: a YAML flow mapping at the end of the line, or alone on
the line below. Paragraphs and code blocks, indented under an item or following a heading, are
its description. A heading that has neither tasks below it nor attributes is only text.
``\{`` is a brace that belongs to the title.

Parsing goes line by line and builds the tree of values that YAML and JSON build too; what
the values mean is ``document.py``'s. ``render`` writes a plan so that parsing gives it back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrion.core.errors import PlanRefused
from orchestrion.core.model import iso
from orchestrion.core.states import EdgeKind
from orchestrion.plans import fields
from orchestrion.plans.document import PlanDocument, PlannedTask, build, slug
from orchestrion.plans.fields import FIELDS, Found, PlannedGate, PlannedWait, refused, refused_at, refused_name
from orchestrion.plans.structured import read_yaml

_HEADING = re.compile(r"(#{1,6})(?:[ \t]+(.*))?\Z")
_UNDERLINE = re.compile(r"(=+|-{2,})[ \t]*\Z")
_RULE = re.compile(r"([-*_])(?:[ \t]*\1){2,}[ \t]*\Z")
_ITEM = re.compile(r"([-*+]|[0-9]{1,9}[.)])(?:([ \t]+)(.*))?\Z")
_BOX = re.compile(r"\[([ xX])\](?:[ \t]+|\Z)")
_FENCE = re.compile(r"(`{3,})[^`]*\Z|(~{3,})")
_OPENING = re.compile(r"(?<!\S)\{")
_PLAN_FIELDS = ("plan", "title", "description", "defaults")
#: After so many braces that never close, a line is taken to have no attributes.
_MOST_OPENINGS = 32


def parse_markdown(text: str) -> PlanDocument:
    """The plan of a Markdown text. Raises PlanRefused with line and column."""
    reader = _Reader()
    for number, line in enumerate(reader.front_matter(re.split(r"\r\n|\n|\r", text)), reader.first_line):
        reader.take(number, line)
    return build(reader.finish())


@dataclass(slots=True)
class _Block:
    """A heading or an item, and what is known of it so far."""

    #: Its fields, as a YAML plan would have them.
    entries: dict[str, Found]
    line: int
    column: int
    #: Depth of a heading; 0: an item.
    level: int = 0
    #: For an item: the columns (from 0) of its marker and of its text.
    marker: int = -2
    content: int = 0
    above: _Block | None = None
    has_attributes: bool = False
    #: Whether it is a task: an item is, a heading becomes one by its attributes or by a task below it.
    attached: bool = False
    children: list[Found] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    text_line: int = 0

    def holds(self, indent: int) -> bool:
        """Whether something that far to the right belongs to it."""
        return indent >= self.marker + 2

    def attach(self) -> None:
        """Makes it a task, and every heading above it a parent."""
        block = self
        while block.above and not block.attached:
            block.attached = True
            block.above.children.append(Found(block.entries, block.line, block.column))
            block = block.above


_NOWHERE = _Block({}, 0, 0)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, without its indentation."""

    number: int
    raw: str
    #: Columns of indentation (a tab goes to the next multiple of four).
    indent: int
    #: The text, and the characters before it.
    text: str
    before: int


class _Reader:
    """Reads line after line; knows the headings and items that are open."""

    def __init__(self) -> None:
        self.plan = _Block({}, 1, 1, level=0)
        self.named = False
        self.first_line = 1
        self.headings: list[_Block] = [self.plan]
        self.items: list[_Block] = []
        self.blocks: list[_Block] = [self.plan]
        #: The block that the last line belonged to, and whether that line was text of it.
        self.last = self.plan
        self.last_was_text = False
        #: What ends the code block or comment that is open, and where it began.
        self.fence: tuple[str, _Line] | None = None
        self.comment: _Line | None = None

    def front_matter(self, lines: list[str]) -> list[str]:
        """Takes plan fields between two ``---`` at the very top; gives the lines after them."""
        if lines[0].rstrip() != "---":
            return lines
        end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
        if end is None:
            raise refused_at(1, 1, "'---' opens front matter that never ends", hint="end it by another line '---'")
        if any(line.strip() for line in lines[1:end]):
            found = read_yaml("\n".join(lines[1:end]), line=2)
            self.plan.entries.update(fields.mapping("front matter", found, _PLAN_FIELDS))
        self.first_line = end + 2
        return lines[end + 1 :]

    def take(self, number: int, raw: str) -> None:
        """The next line of the file."""
        line = _measured(number, raw)
        if self.fence or self.comment:
            self._inside(line)
        elif not line.text:
            self._text(line)
            self.last_was_text = False
        elif line.text.startswith("<!--"):
            self.comment = None if "-->" in line.text else line
        elif not (self._heading(line) or self._rule(line) or self._item(line) or self._attributes_below(line)):
            self._paragraph(line)

    def finish(self) -> Found:
        """The whole plan as a tree."""
        if self.fence:
            line = self.fence[1]
            raise refused_at(line.number, line.before + 1, "a code block begins here and never ends", hint="close it")
        if self.comment:
            line = self.comment
            raise refused_at(line.number, line.before + 1, "a comment begins here and never ends", hint="close it: -->")
        for block in self.blocks:
            _close(block)
        if not self.named and "plan" not in self.plan.entries:
            raise PlanRefused("no heading names the plan", line=1, column=1, hint="begin with '# Name of the plan'")
        entries = dict(self.plan.entries)
        entries["tasks"] = entries.pop("children", Found([], self.plan.line, self.plan.column))
        return Found(entries, self.plan.line, self.plan.column)

    # --- kinds of lines -----------------------------------------------------------------------------------------------

    def _inside(self, line: _Line) -> None:
        """A line of a code block, which is text, or of a comment, which is nothing."""
        if self.comment:
            self.comment = None if "-->" in line.text else self.comment
        elif self.fence:
            mark = self.fence[0]
            self._add(self.last, line)
            bare = line.text.rstrip()
            if bare.startswith(mark) and not bare.strip(mark[0]):
                self.fence, self.last_was_text = None, False

    def _heading(self, line: _Line) -> bool:
        if line.indent > 3 or (self.items and self.items[-1].holds(line.indent)):
            return False
        if match := _HEADING.match(line.text):
            self._open_heading(line, len(match[1]), _unclosed(match[2] or ""), line.before + max(match.start(2), 0))
            return True
        if (match := _UNDERLINE.match(line.text)) and self.last_was_text and not self.last.marker >= 0:
            title = self.last.text.pop()
            above = _measured(line.number - 1, title)
            self._open_heading(above, 1 if match[1][0] == "=" else 2, above.text.strip(), above.before)
            return True
        return False

    def _rule(self, line: _Line) -> bool:
        """``---`` or ``* * *``: ends the list that is open."""
        if line.indent > 3 or not _RULE.match(line.text) or (self.items and self.items[-1].holds(line.indent)):
            return False
        self.items.clear()
        self.last, self.last_was_text = self.headings[-1], False
        return True

    def _item(self, line: _Line) -> bool:
        match = _ITEM.match(line.text)
        if not match or (not self.items and line.indent > 3):
            return False
        if not self.named and "plan" not in self.plan.entries:
            raise refused_at(
                line.number,
                line.before + 1,
                "a task stands before the plan has a name",
                hint="begin with '# Name of the plan'",
            )
        self._leave(line.indent)
        above = self.items[-1] if self.items else self.headings[-1]
        gap = len(match[2] or " ")
        content = line.indent + len(match[1]) + (gap if gap <= 4 else 1)
        block = _Block({}, line.number, line.before + 1, marker=line.indent, content=content, above=above)
        self._fill_item(block, (match[3] or ""), line.before + max(match.start(3), 0))
        self._open(block)
        self.items.append(block)
        block.attach()
        return True

    def _attributes_below(self, line: _Line) -> bool:
        """A line that is nothing but attributes, right below an item without any."""
        block = self.last
        text = line.text.rstrip()
        fits = block.marker >= 0 and not block.has_attributes and block.line == line.number - 1 and not block.text
        if not fits or not block.holds(line.indent) or not text.startswith("{") or _attributes_at(text) != 0:
            return False
        _merge(block, read_yaml(text, line.number, line.before + 1), FIELDS)
        return True

    def _paragraph(self, line: _Line) -> None:
        if match := _FENCE.match(line.text):
            self.fence = (match[1] or match[2], line)
        self._text(line)

    # --- opening and adding -------------------------------------------------------------------------------------------

    def _open_heading(self, line: _Line, level: int, text: str, before: int) -> None:
        if not self.named:
            self._name_plan(line, text, before)
            return
        while len(self.headings) > 1 and self.headings[-1].level >= level:
            self.headings.pop()
        block = _Block({}, line.number, line.before + 1, level=level, above=self.headings[-1])
        _fill(block, text, line.number, before, FIELDS)
        self.items.clear()
        self._open(block)
        self.headings.append(block)
        if block.has_attributes:
            block.attach()

    def _name_plan(self, line: _Line, text: str, before: int) -> None:
        self.named = True
        plan = self.plan
        plan.line, plan.column = line.number, line.before + 1
        _fill(plan, text, line.number, before, _PLAN_FIELDS)
        if "plan" not in plan.entries and "title" in plan.entries:
            title = plan.entries["title"]
            plan.entries["plan"] = title._replace(value=slug(str(title.value)))
        # Not the plan: what stands before and after its heading are two paragraphs.
        self.last, self.last_was_text = _NOWHERE, False

    def _fill_item(self, block: _Block, text: str, before: int) -> None:
        if _FENCE.match(text):
            raise refused_at(
                block.line, before + 1, "a code block stands where a title should", hint="begin with a title"
            )
        if box := _BOX.match(text):
            block.entries["completed"] = Found(box[1] != " ", block.line, before + 1, block.line, before + 1)
            text, before = text[box.end() :], before + box.end()
        _fill(block, text, block.line, before, FIELDS)

    def _open(self, block: _Block) -> None:
        self.blocks.append(block)
        self.last, self.last_was_text = block, False

    def _leave(self, indent: int) -> None:
        """Items that something so far to the left does not belong to are over."""
        while self.items and not self.items[-1].holds(indent):
            self.items.pop()

    def _text(self, line: _Line) -> None:
        """A line of text, for the innermost block that it is indented under."""
        if line.text:
            self._leave(line.indent)
        self._add(self.items[-1] if self.items else self.headings[-1], line)

    def _add(self, block: _Block, line: _Line) -> None:
        if block is not self.last and block.text:
            if not line.text:
                return
            _end_paragraph(block.text)
        block.text_line = block.text_line or (line.number if line.text else 0)
        block.text.append(_dedented(line.raw, block.content))
        self.last, self.last_was_text = block, True


# --- attributes -------------------------------------------------------------------------------------------------------


def _fill(block: _Block, text: str, line: int, before: int, allowed: Mapping[str, object] | tuple[str, ...]) -> None:
    """Title and attributes of a heading or item from its text, which stands after ``before`` characters."""
    start = _attributes_at(text := text.rstrip())
    title = text if start is None else text[:start].rstrip()
    _refuse_misplaced(title, line, before, allowed)
    if title:
        found = Found(title.replace("\\{", "{").replace("\\}", "}"), line, before + 1, line, before + 1)
        if "title" in block.entries:
            raise refused(found, "title is said twice: front matter has one too", hint="keep one of them")
        block.entries["title"] = found
    if start is not None:
        _merge(block, read_yaml(text[start:], line, before + start + 1), allowed)


def _merge(block: _Block, found: Found, allowed: Mapping[str, object] | tuple[str, ...]) -> None:
    try:
        attributes = fields.mapping("a task" if allowed is FIELDS else "a plan", found, list(allowed))
    except PlanRefused as error:
        error.hint += r"; or write \{ if the braces belong to the title"
        raise
    for name, value in attributes.items():
        if name in block.entries:
            raise refused_name(
                value, f"{name} is said twice", hint=f"keep one {name}: outside of the braces, or inside"
            )
    block.entries.update(attributes)
    block.has_attributes = True


def _attributes_at(text: str) -> int | None:
    """Where the mapping begins that ends the line; braces in quotes and earlier pairs of braces do not count."""
    if not text.endswith("}"):
        return None
    at = 0
    for _ in range(_MOST_OPENINGS):
        opening = _OPENING.search(text, at)
        if not opening:
            return None
        end = _pair_end(text, opening.start())
        if end == len(text):
            return opening.start()
        at = end or opening.end()
    return None


def _pair_end(text: str, start: int) -> int | None:
    """Where the braces that open at ``start`` have closed; None if they do not."""
    depth, at, previous = 0, start, ""
    while at < len(text):
        sign = text[at]
        if sign in "\"'" and previous in "{[,:?":
            at = _quotes_end(text, at)
        depth += (sign == "{") - (sign == "}")
        at += 1
        if depth == 0:
            return at
        previous = previous if sign.isspace() else sign
    return None


def _quotes_end(text: str, at: int) -> int:
    """The place of the quotes that close those at ``at``; the end of the text if none do."""
    quote = text[at]
    at += 1
    while at < len(text) and (text[at] != quote or text[at : at + 2] == "''"):
        # Skips what is escaped: \" in double quotes, '' in single ones.
        at += 2 if text[at] == ("\\" if quote == '"' else quote) else 1
    return at


def _refuse_misplaced(title: str, line: int, before: int, allowed: Mapping[str, object] | tuple[str, ...]) -> None:
    """Attributes that would silently become part of a title."""
    for opening in _OPENING.finditer(title):
        name = re.match(r"\{[ \t]*([a-z_]+)[ \t]*:(?:[ \t]|\Z)", title[opening.start() : opening.start() + 60])
        if name and name[1] in allowed:
            raise refused_at(
                line,
                before + opening.start() + 1,
                "attributes begin here, but do not close at the end of the line",
                hint=r"put them last, in one line, with balanced braces and quotes; \{ is a brace of the title",
            )


def _close(block: _Block) -> None:
    """Puts what was collected below a heading or item into its fields."""
    text = "\n".join(block.text)
    if text.strip() and (block.attached or block.above is None):
        if "description" in block.entries:
            raise refused(
                block.entries["description"],
                f"description is said twice: the text in line {block.text_line} is one too",
                hint="keep one of them",
            )
        block.entries["description"] = Found(text, block.text_line, block.content + 1)
    if block.children:
        block.entries["children"] = Found(block.children, block.line, block.column)


# --- space ------------------------------------------------------------------------------------------------------------


def _measured(number: int, raw: str) -> _Line:
    text = raw.lstrip(" \t")
    before = len(raw) - len(text)
    return _Line(number, raw, _width(raw[:before]), text if text.strip() else "", before)


def _width(space: str) -> int:
    """Columns that leading space takes."""
    columns = 0
    for sign in space:
        columns = columns + 1 if sign == " " else columns // 4 * 4 + 4
    return columns


def _end_paragraph(text: list[str]) -> None:
    """Leaves one blank line at the end."""
    while text and not text[-1].strip():
        text.pop()
    text.append("")


def _dedented(raw: str, columns: int) -> str:
    """The line without its first columns, as far as they are space."""
    width = 0
    for at, sign in enumerate(raw):
        if sign not in " \t" or width >= columns:
            return raw[at:]
        width = width + 1 if sign == " " else width // 4 * 4 + 4
    return ""


def _unclosed(heading: str) -> str:
    """The text of a heading without the ``#`` signs that may close it."""
    text = heading.rstrip()
    bare = text.rstrip("#")
    return bare.rstrip() if bare != text and bare[-1:] in ("", " ", "\t") else text


# --- writing ----------------------------------------------------------------------------------------------------------

_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*\Z")
#: Line breaks of YAML that JSON leaves as they are.
_BREAKS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\u2028\u2029\ufeff"}
#: attribute of PlannedTask -> its field; the first one that leads there.
_NAMES: dict[str, str] = {}
for _name, _known in FIELDS.items():
    _NAMES.setdefault(_known.into, _name)
_BESIDE_THE_BRACES = ("title", "description", "completed")


def render(document: PlanDocument) -> str:
    """The plan as Markdown; parsing that gives an equal document."""
    lines = _rendered_plan(document)
    stack = [(task, 0) for task in reversed(document.tasks)]
    while stack:
        task, depth = stack.pop()
        lines += [("  " * depth + line) if line else "" for line in _rendered_task(task, document.defaults)]
        stack.extend((child, depth + 1) for child in reversed(task.children))
    return "\n".join(lines) + "\n"


def _rendered_plan(document: PlanDocument) -> list[str]:
    attributes: dict[str, object] = {} if slug(document.title) == document.name else {"plan": document.name}
    if document.defaults:
        attributes["defaults"] = {_NAMES[into]: _written(into, value) for into, value in document.defaults.items()}
    return [*_rendered("# ", "", document.title, document.description, attributes), ""]


def _rendered_task(task: PlannedTask, defaults: Mapping[str, object]) -> list[str]:
    attributes: dict[str, object] = {"key": task.key}
    for into, name in _NAMES.items():
        value = getattr(task, into)
        if into not in _BESIDE_THE_BRACES and value != defaults.get(into, FIELDS[name].empty):
            attributes[name] = _written(into, value)
    return _rendered(f"- [{'x' if task.completed else ' '}] ", "  ", task.title, task.description, attributes)


def _rendered(marker: str, indent: str, title: str, description: str, attributes: dict[str, object]) -> list[str]:
    """A heading or item with its text; what would be read back differently goes into the braces."""
    # A paragraph below a heading has a blank line before it.
    gap = [""] if marker.startswith("#") else []
    below = [*gap, *(indent + line if line else "" for line in description.split("\n"))] if description else []
    if _OPENING.search(title) or _read_back(marker, title, []) != (title, ""):
        attributes = {"title": title, **attributes}
        title = ""
    if _read_back(marker, "x", below) != ("x", description):
        attributes = {**attributes, "description": description}
        below = []
    words = [title, _flow(attributes)] if title and attributes else [title or _flow(attributes)]
    return [marker + " ".join(words), *below]


def _read_back(marker: str, title: str, below: list[str]) -> tuple[str, str] | None:
    """Title and description that a reader finds in these lines; None if it finds anything else there."""
    is_plan = marker.startswith("#")
    lines = [f"{marker}{title} {{{'plan' if is_plan else 'key'}: k}}", *below, "- after {key: after}"]
    try:
        plan = parse_markdown("\n".join(lines if is_plan else ["# p", *lines]))
    except PlanRefused:
        return None
    if [task.key for task, _ in plan.walk()] != (["after"] if is_plan else ["k", "after"]):
        return None
    found = plan if is_plan else plan.tasks[0]
    return None if any(task.description for task in plan.tasks[-1:]) else (found.title, found.description)


def _written(into: str, value: object) -> object:
    """A value of a task as the file has it."""
    if value in (None, "", (), {}):
        return None
    if into == "due" and isinstance(value, int):
        return iso(value)
    if into == "after":
        return (
            [_written_wait(wait) for wait in value if isinstance(wait, PlannedWait)] if isinstance(value, tuple) else []
        )
    if into == "gates":
        return (
            [_written_gate(gate) for gate in value if isinstance(gate, PlannedGate)] if isinstance(value, tuple) else []
        )
    return value


def _written_wait(wait: PlannedWait) -> object:
    if wait.kind is EdgeKind.BLOCKS and wait.waived is None:
        return wait.task
    entry: dict[str, object] = {"task": wait.task, "kind": str(wait.kind)}
    return entry if wait.waived is None else {**entry, "waive": wait.waived}


def _written_gate(gate: PlannedGate) -> object:
    if gate.kind is EdgeKind.TIME:
        return {"until": iso(gate.opens_at)}
    if gate.kind is EdgeKind.APPROVAL:
        return {"approval": gate.name} if gate.name else "approval"
    return {"external": gate.name}


def _flow(value: object) -> str:
    """Plain data as a YAML flow value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow_name(str(name))}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and _PLAIN_WORD.match(value) and value.lower() not in ("null", "true", "false"):
        return value
    return json.dumps(value, ensure_ascii=False).translate(_BREAKS)


def _flow_name(name: str) -> str:
    """The name of a field; YAML wants a question mark before a very long one."""
    return ("? " if len(name) > 200 else "") + _flow(name)
