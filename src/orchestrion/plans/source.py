"""The text of a plan file: from bytes to a plan, whatever the format.

Everything that holds for any text is refused here, before a format is even chosen: too
much of it, none of it, other encodings than UTF-8, control characters. The format follows from the
file's suffix, or, where there is none (``-``, a pipe), from what the text looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

from orchestrion.core.errors import PlanRefused
from orchestrion.plans import markdown, structured
from orchestrion.plans.document import PlanDocument
from orchestrion.plans.fields import UNPRINTABLE, refused_at

#: The largest plan file, in bytes.
MAX_BYTES = 16 * 1024 * 1024

_FORMATS: dict[str, Callable[[str], PlanDocument]] = {
    ".yaml": structured.parse_yaml,
    ".yml": structured.parse_yaml,
    ".json": structured.parse_json,
    ".md": markdown.parse_markdown,
    ".markdown": markdown.parse_markdown,
}
#: A line that a YAML plan has and a Markdown plan has no reason to have.
_YAML_LINE = re.compile(r"^[\"']?(plan|tasks)[\"']?[ \t]*:|^%YAML", re.MULTILINE)
_MARKDOWN_LINE = re.compile(r"^ {0,3}(#{1,6}[ \t]|[-*+][ \t]+\[[ xX]\])|^={3,}[ \t]*$", re.MULTILINE)
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?\n---[ \t]*\r?\n\s*#", re.DOTALL)


def parse(text: bytes | str, name: str) -> PlanDocument:
    """The plan that a file holds. ``name`` is its path, or ``-``; only the suffix counts.

    Raises PlanRefused, with line and column wherever there is one.
    """
    content = _content(text)
    return _format(content, name)(content)


def _format(content: str, name: str) -> Callable[[str], PlanDocument]:
    return _FORMATS.get(PurePath(name).suffix.lower()) or _FORMATS[_looks_like(content)]


def _looks_like(content: str) -> str:
    """The suffix that a text without one should have."""
    if content.lstrip().startswith("{"):
        return ".json"
    if _FRONT_MATTER.match(content):
        return ".md"
    if _YAML_LINE.search(content):
        return ".yaml"
    return ".md" if _MARKDOWN_LINE.search(content) else ".yaml"


def _content(text: bytes | str) -> str:
    if len(text) > MAX_BYTES:
        raise PlanRefused(
            f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB", hint="split it into several plans, or files"
        )
    content = (text if isinstance(text, str) else _decoded(text)).removeprefix("\ufeff")
    if not content.strip():
        raise PlanRefused("the file is empty", line=1, column=1, hint="a plan has a name and tasks")
    if bad := UNPRINTABLE.search(content):
        line, column = _place(content[: bad.start()])
        raise refused_at(
            line,
            column,
            f"the control character U+{ord(bad[0]):04X} stands here",
            hint="leave it out; is this a text file?",
        )
    return content


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(text[: error.start].decode("utf-8"))
        raise refused_at(
            line,
            column,
            f"the file is not UTF-8: byte {error.start} is 0x{text[error.start]:02x}",
            hint="save the file as UTF-8",
            byte=error.start,
        ) from error


def _place(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows this text."""
    breaks = list(re.finditer(r"\r\n|\n|\r", before))
    return len(breaks) + 1, len(before) - (breaks[-1].end() if breaks else 0) + 1
