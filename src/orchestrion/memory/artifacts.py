"""Results that are kept whole: hashed, versioned, never cut, read in pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.model import check_word, iso, name
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: Characters of one page.
PAGE = 16_000
#: Largest artifact, in characters.
LIMIT = 64_000_000
TYPES = ("code", "documentation", "analysis", "design", "test", "config", "data", "general")


@dataclass(frozen=True)
class Text:
    """A result that is about to be kept."""

    content: str
    name: str = "detail"
    kind: str = "general"


@dataclass(frozen=True)
class Page:
    """A piece of an artifact."""

    row: Row
    text: str
    offset: int
    #: Where the next page begins; None: this is the last.
    next_offset: int | None

    def as_json(self) -> dict[str, object]:
        """The page with the artifact's facts."""
        return {
            **facts(self.row),
            "text": self.text,
            "offset": self.offset,
            "next_offset": self.next_offset,
            "total_chars": len(self.row["content"]),
        }


def keep(
    tx: Transaction, task: int, run: int | None, content: str, *, called: str = "detail", kind: str = "general"
) -> int:
    """Stores a text as the next version of the task's artifact of that name. Returns its number."""
    check_word("artifact", called, empty=False)
    if kind not in TYPES:
        raise InvalidInput(
            f"{kind!r} is not a type of artifact", hint=f"one of: {', '.join(TYPES)}", code="invalid_type"
        )
    if len(content) > LIMIT:
        raise InvalidInput(
            f"an artifact has at most {LIMIT} characters, not {len(content)}", hint="keep it as a file", code="too_long"
        )
    raw = _encoded(content)
    row = tx.the(
        "add_artifact",
        task=task,
        run=run,
        name=called,
        type=kind,
        content=content,
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
    )
    tx.event("artifact.kept", task=task, run=run, data={"artifact": name("A", row["id"]), "version": row["version"]})
    return int(row["id"])


def read(tx: Transaction, artifact: int, offset: int = 0, limit: int = PAGE) -> Page:
    """A page of an artifact. Raises NotFound, InvalidInput for an offset that is none."""
    row = tx.one("artifact", id=artifact)
    if row is None:
        raise NotFound(
            f"there is no artifact {name('A', artifact)}",
            hint="`orchestrion show TASK` lists a task's artifacts",
            code="no_artifact",
        )
    if offset < 0 or limit < 1:
        raise InvalidInput("a page begins at 0 or later and has a size", hint="begin at 0", code="invalid_offset")
    end = offset + limit
    text = row["content"][offset:end]
    return Page(row, text, offset, end if end < len(row["content"]) else None)


def facts(row: Row) -> dict[str, object]:
    """What is known of an artifact besides its content."""
    return {
        "id": name("A", row["id"]),
        "task": name("T", row["task"]),
        "run": name("R", row["run"]) if row["run"] else None,
        "name": row["name"],
        "version": row["version"],
        "type": row["type"],
        "size": row["size"],
        "sha256": row["sha256"],
        "created_at": iso(row["created_at"]),
    }


def _encoded(content: str) -> bytes:
    try:
        if "\0" in content:
            raise ValueError("NUL")
        return content.encode("utf-8")
    except ValueError as error:
        raise InvalidInput(
            "an artifact is text; this has NUL characters or broken UTF-8",
            hint="keep binary results as files",
            code="invalid_text",
        ) from error
