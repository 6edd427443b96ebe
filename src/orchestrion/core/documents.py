"""YAML that people write, read with the line of everything in it.

Settings and roles are small files written by hand: what counts is that a mistake in one
is found and shown with file, line and column. So keys must be text and may not occur
twice (YAML itself would quietly keep the last), and every value's line is kept for the
errors of those who look at the values. PyYAML is imported only when there is something
to parse, and only its reader in Python: the one in C is faster, but some versions of it
crash the process on a file that nests very deeply. Such a file is refused before the
library's own limits matter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrion.core.errors import EnvironmentProblem, InvalidInput

if TYPE_CHECKING:
    from yaml import MappingNode, Node, SafeLoader

#: A file that is larger is taken for a mistake.
MOST_BYTES = 1_000_000
#: Lists and mappings may be nested so deep. The library calls itself twice for each level.
MOST_DEPTH = 100


class Document(NamedTuple):
    """What a file holds; ``value`` is None if that is nothing."""

    #: Plain dicts with text as keys, lists and scalars.
    value: Any
    #: Path of keys from the top -> line, counted from 1.
    lines: dict[tuple[str, ...], int]


def read_yaml(path: Path, shown: str, code: str) -> Document | None:
    """The file's content, or None if there is no such file.

    ``shown`` is the file's name in errors and ``code`` their code: InvalidInput for
    anything that is not one YAML document in UTF-8, EnvironmentProblem if it may not be read.
    """
    content = _read(path, shown, code)
    if content is None:
        return None
    text = _decoded(content, shown, code)
    if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        return Document(None, {})
    return _parsed(text, shown, code)


def _read(path: Path, shown: str, code: str) -> bytes | None:
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):
            raise _refused(f"{shown} is not a file", "put a YAML file there, or remove it", code, shown)
        if found.st_size > MOST_BYTES:
            size = f"{found.st_size:,} bytes, more than the {MOST_BYTES:,} allowed"
            raise _refused(f"{shown} has {size}", "is it the right file?", code, shown)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise EnvironmentProblem(
            f"{shown} may not be read", hint="check the file's owner and permissions", code="permission", file=shown
        ) from error
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "its path cannot be followed"
        raise _refused(f"{shown} cannot be read: {reason}", "check the path", code, shown) from error


def _decoded(content: bytes, shown: str, code: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(f"{shown}:{line}: not UTF-8", "save the file as UTF-8", code, shown, line=line) from error


def _parsed(text: str, shown: str, code: str) -> Document:
    import yaml

    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, {})
        lines = _lines(node)
        return Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise _broken(shown, line, column, error.problem or "it cannot be understood", code) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _broken(shown, line, column, f"the character U+{error.character:04X} is not allowed", code) from error
    except (ValueError, TypeError, OverflowError, yaml.YAMLError) as error:
        # A date such as 2026-99-99 looks right to the parser and is no date.
        raise _broken(shown, None, None, str(error), code) from error


@cache
def _loader() -> type[SafeLoader]:
    """The library's loader, which refuses what nests too deeply."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Node | None, index: Any) -> Node | None:
            if parent and self.depth > MOST_DEPTH:
                problem = f"it nests too deeply, more than {MOST_DEPTH} levels"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=parent.start_mark)
            self.depth += 1
            node: Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader


def _lines(top: Node) -> dict[tuple[str, ...], int]:
    """Line of every key, by its path; refuses keys that are not text or occur twice."""
    import yaml

    lines: dict[tuple[str, ...], int] = {}
    seen: set[int] = set()
    todo: list[tuple[Node, tuple[str, ...]]] = [(top, ())]
    while todo:
        node, path = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            todo += _keys(node, path, lines)
        elif isinstance(node, yaml.SequenceNode):
            todo += [(item, (*path, str(index))) for index, item in enumerate(node.value)]
    return lines


def _keys(
    node: MappingNode, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> list[tuple[Node, tuple[str, ...]]]:
    from yaml.constructor import ConstructorError

    values = []
    for key, value in node.value:
        # This leaves out the merge key `<<` too: merges of merges can grow without bound.
        if key.tag != "tag:yaml.org,2002:str":
            name = key.value if isinstance(key.value, str) else "of this value"
            raise ConstructorError(None, None, f"the key {name} is not text; write it in quotes", key.start_mark)
        where = (*path, key.value)
        if where in lines:
            first = f"first in line {lines[where]}"
            raise ConstructorError(None, None, f"the key {key.value!r} occurs twice, {first}", key.start_mark)
        lines[where] = key.start_mark.line + 1
        values.append((value, where))
    return values


def _broken(shown: str, line: int | None, column: int | None, problem: str, code: str) -> InvalidInput:
    place = shown if line is None else f"{shown}:{line}:{column}"
    return _refused(
        f"{place}: broken YAML: {problem}", "correct the file at that place", code, shown, line=line, column=column
    )


def _refused(
    message: str, hint: str, code: str, file: str, *, line: int | None = None, column: int | None = None
) -> InvalidInput:
    return InvalidInput(message, hint=hint, code=code, file=file, line=line, column=column)
