"""Which files were changed, and whether that still holds.

A supervised run's files are recorded from git (``scheduler/files.py``); other clients say
what they changed, and it is measured at once. Later each record can be held against what
is there: a file that was created or modified must have the content that was recorded, a
deleted one must be gone, a moved one must be gone from its old place and be in the new.
Content that differs is a failure unless another record explains it: work goes on. A record
of which a part holds (the content, but not the mode; the new place, but not the old) is partial.

Nothing here knows git: who asks says what is at a path, as a ``Look``.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from orchestrion.core.errors import InvalidInput
from orchestrion.core.values import check_choice, iso, name
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: What can become of a file.
OPS = ("created", "modified", "deleted", "moved", "copied")
#: Other words for it.
_SPELLINGS = {"create": "created", "modify": "modified", "delete": "deleted", "move": "moved", "copy": "copied"}
SOURCES = ("git", "reported", "hook")
#: What can come of holding a record against what is there, the worst first.
STATUSES = ("failed", "partial", "pending", "verified")
#: So many files are reported at once, and shown.
MOST = 1000
#: So many records of a task or session are held against what is there.
MOST_VERIFIED = 100_000
_LONGEST_PATH = 4096
#: How often a path may have been written in percent signs, one upon the other.
_ENCODED = 3
_ELSEWHERE = re.compile(r"[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]*://")


class Found(NamedTuple):
    """What is at a path."""

    #: SHA-256 of the content in hex, of a link its target; None for a submodule.
    sha256: str | None
    #: In bytes; None as above.
    size: int | None
    #: As git writes it: 100644, 100755, 120000.
    mode: str | None


#: Says what is at a path; None: no file. Raises OSError when that cannot be read.
Look = Callable[[str], Found | None]


class Place(NamedTuple):
    """Where a file is."""

    #: The project's folder, or a run's workspace.
    base: Path
    #: From there.
    path: str


class Owner(NamedTuple):
    """Whose change it was: numbers."""

    task: int | None = None
    run: int | None = None
    session: int | None = None


class Reported(NamedTuple):
    """A change that somebody says was made, with what is there now."""

    path: str
    op: str
    old_path: str | None
    found: Found | None
    #: ``verified``, or how far it cannot be true: ``partial``, ``failed``.
    status: str
    #: Why it cannot be true; None: it is.
    problem: str | None


class Renewal(NamedTuple):
    """A record that was measured once more."""

    row: Row
    #: What is to be recorded instead; None: nothing.
    news: Reported | None


class Verdict(NamedTuple):
    """What came of holding a record against what is there."""

    row: Row
    #: One of STATUSES; ``pending``: it could not be looked at.
    status: str
    detail: str | None


# -- where files are ----------------------------------------------------------------------------


def place(bases: Sequence[Path], path: str) -> Place:
    """Where a path leads that somebody gave: below one of ``bases``, links followed. Raises InvalidInput else."""
    _check_path(path)
    for base in bases:
        root = Path(os.path.realpath(base))
        where = _resolved(root, path)
        if where is not None and where != root and where.is_relative_to(root) and _is_plain((base, root), path):
            return Place(root, where.relative_to(root).as_posix())
    raise InvalidInput(
        f"{path[:200]!r} is outside the project",
        hint="name files below the project's folder; links must not lead out of it",
        code="outside_project",
    )


def _check_path(path: str) -> None:
    broken = "\0" in path or any("\ud800" <= sign <= "\udfff" for sign in path)
    if broken or not path.strip() or len(path) > _LONGEST_PATH:
        raise InvalidInput(f"{path[:80]!r} is not a path", hint="name a file of the project", code="invalid_path")


def _is_plain(bases: Sequence[Path], path: str) -> bool:
    """Whether a path leads to the same folder for programs, too, that decode it or know other separators than we do."""
    read = path
    for _ in range(_ENCODED):
        read = unquote(read)
    read = unicodedata.normalize("NFKC", read).replace("\\", "/")
    if "\0" in read or _ELSEWHERE.match(read):
        return False
    if read == path:
        return True
    where = Path(os.path.normpath(bases[0] / read))
    return any(where.is_relative_to(os.path.normpath(base)) for base in bases)


def _resolved(root: Path, path: str) -> Path | None:
    """The file itself, be it a link; None when it, or what it links to, lies elsewhere or cannot be followed."""
    whole = root / path
    try:
        target = whole.resolve()
        if not target.is_relative_to(root):
            return None
        return target if whole.name == ".." else whole.parent.resolve() / whole.name
    except (OSError, RuntimeError):
        # Too long a name, or links that lead in a circle.
        return None


def measure(root: Path, path: str) -> Found | None:
    """What is at a path of a folder; None when it is no file, or its folder leads out. Raises OSError."""
    file = Path(os.path.realpath(root)) / original(path)
    try:
        if not file.parent.resolve().is_relative_to(os.path.realpath(root)):
            return None
        mode = file.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        return None
    if stat.S_ISLNK(mode):
        target = os.fsencode(file.readlink())
        return Found(hashlib.sha256(target).hexdigest(), len(target), "120000")
    return _measured(file) if stat.S_ISREG(mode) else None


def _measured(file: Path) -> Found:
    # Somebody may put a pipe or a link there at this moment; nothing may hold us up or lead us out.
    number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as stream:
        facts = os.fstat(number)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Found(digest, facts.st_size, "100755" if facts.st_mode & stat.S_IXUSR else "100644")


def original(path: str) -> str:
    """A recorded path as the file system has it: bytes that are no text were written out."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), path)


# -- recording ----------------------------------------------------------------------------------


def op_named(word: str) -> str:
    """The change that a word means. Raises InvalidInput, which names the right ones."""
    op = _SPELLINGS.get(word, word)
    check_choice("op", op, OPS)
    return op


def reported(op: str, path: str, old_path: str | None, look: Look) -> Reported:
    """A report with what is there, and why it cannot be true."""
    if op in ("moved", "copied") and not old_path:
        raise InvalidInput(f"{path[:200]!r} was {op} from where?", hint="give old_path too", code="old_path_missing")
    claim = {"op": op, "path": path, "old_path": old_path, "sha256": None, "mode": None}
    return Reported(path, op, old_path, *_held_against(claim, look))


def report(tx: Transaction, owner: Owner, changes: Iterable[Reported], source: str) -> None:
    """Records what somebody says was changed; what was recorded of the same path before is taken into account."""
    check_choice("source", source, SOURCES)
    for one in changes:
        known = tx.one("file_of_run", path=one.path, **_key(owner))
        op, old_path = _joined(known, one)
        if known:
            tx.put("forget_file", id=known["id"])
        found = one.found if op != "deleted" else None
        tx.put(
            "add_file",
            task=owner.task,
            run=owner.run,
            session=owner.session,
            op=op,
            path=one.path,
            old_path=old_path,
            sha256=found.sha256 if found else None,
            size=found.size if found else None,
            mode=found.mode if found else None,
            source=source,
            status=one.status,
            detail=one.problem,
        )


def _key(owner: Owner) -> dict[str, int | None]:
    if owner.run is not None:
        return {"run": owner.run}
    return {"task": owner.task} if owner.task is not None else {"session": owner.session}


def _joined(known: Row | None, now: Reported) -> tuple[str, str | None]:
    """What became of a file by two changes in a row."""
    before = known["op"] if known else None
    if before in ("created", "moved", "copied") and now.op == "modified":
        return str(before), known["old_path"] if known else None
    if before == "deleted" and now.op == "created":
        return "modified", None
    return now.op, now.old_path


def again(rows: Iterable[Row], look: Look, told: Iterable[str]) -> list[Renewal]:
    """Measures once more what was recorded of a run at work, other than the paths just ``told``.

    What a hook saw is an observation: a file that came and went is forgotten, one that went is
    deleted. What the client said is a claim, and stays.
    """
    just_told = set(told)
    return [_renewal(row, look) for row in rows if row["path"] not in just_told and row["source"] != "git"]


def _renewal(row: Row, look: Look) -> Renewal:
    op = row["op"]
    if row["source"] == "hook" and op not in ("moved", "copied"):
        gone = _is_gone(row["path"], look)
        if gone and op == "created":
            return Renewal(row, None)
        op = "deleted" if gone else "modified" if op == "deleted" else op
    return Renewal(row, reported(op, row["path"], row["old_path"], look))


def _is_gone(path: str, look: Look) -> bool:
    try:
        return look(path) is None
    except OSError:
        return False


def renew(tx: Transaction, renewals: Iterable[Renewal]) -> None:
    """Records what was measured once more."""
    for row, news in renewals:
        tx.put("forget_file", id=row["id"])
        if news:
            report(tx, Owner(row["task"], row["run"], row["session"]), [news], row["source"])


# -- holding records against what is there -------------------------------------------------------


def of_task(tx: Transaction, task: Row) -> list[Row]:
    """What is recorded of a task's files: by the run whose work is its result, else by all its attempts."""
    rows = tx.all("list_files", task=task["id"], limit=MOST_VERIFIED)
    return _newest(_of_result(rows, task["work_run"]))


def _of_result(rows: list[Row], work_run: int | None) -> list[Row]:
    chosen = [row for row in rows if row["run"] in (None, work_run)]
    return chosen if work_run and chosen else rows


def of_session(tx: Transaction, session: int) -> list[Row]:
    """What is recorded of a session's files."""
    return _newest(tx.all("list_files", session=session, limit=MOST_VERIFIED))


def of_stream(tx: Transaction, tag: str) -> list[Row]:
    """What is recorded of the files of a work stream's tasks."""
    by_task: dict[int, list[Row]] = {}
    for row in tx.all("list_files", tag=tag, limit=MOST_VERIFIED):
        by_task.setdefault(row["task"], []).append(row)
    return _newest(row for rows in by_task.values() for row in _of_result(rows, rows[0]["work_run"]))


def _newest(rows: Iterable[Row]) -> list[Row]:
    return sorted({row["path"]: row for row in rows}.values(), key=lambda row: str(row["path"]))


def verdict(
    row: Row, look: Look, others: Callable[[], Sequence[Row]], accounts: Callable[[Sequence[Row]], bool]
) -> Verdict:
    """Whether a record holds. ``others`` are records of the same path by others, asked for only when it does not;
    ``accounts`` says whether they account for content that none of them has, as a merge of several has.
    """
    found, status, problem = _held_against(row, look)
    if problem is None:
        return Verdict(row, status, None)
    rivals = others()
    for other in rivals:
        if (row["head"] or other["id"] > row["id"]) and _explains(other, row["path"], found):
            return Verdict(row, "verified", f"changed since by {_named(other)}")
    if rivals and found is not None and accounts(rivals):
        return Verdict(row, "verified", f"joined with the change of {_named(rivals[0])}")
    return Verdict(row, status, problem)


def _held_against(row: Mapping[str, object] | Row, look: Look) -> tuple[Found | None, str, str | None]:
    """What is at a record's path, how far it holds, and what is wrong with it."""
    try:
        found = look(str(row["path"]))
        old = look(str(row["old_path"])) if row["op"] == "moved" else None
    except OSError as problem:
        return None, "failed", f"cannot be read: {problem.strerror or problem}"
    if row["op"] == "deleted":
        return (found, "failed", "should be gone, but is there") if found else (None, "verified", None)
    return found, *_difference(row, found, old)


def _difference(row: Mapping[str, object] | Row, found: Found | None, old: Found | None) -> tuple[str, str | None]:
    if found is None:
        return "failed", "no file is there"
    if row["sha256"] and row["sha256"] != found.sha256:
        return "failed", f"content differs: recorded sha256 {str(row['sha256'])[:12]}, found {str(found.sha256)[:12]}"
    if old is not None:
        return "partial", f"is still at its old place {row['old_path']}"
    if row["mode"] and row["mode"] != found.mode:
        return "partial", f"mode differs: recorded {row['mode']}, found {found.mode}"
    return "verified", None


def _explains(other: Row, path: str, found: Found | None) -> bool:
    """Whether another record says of the path what is found there."""
    gone = other["op"] == "deleted" or (other["op"] == "moved" and other["old_path"] == path)
    if gone or found is None:
        return gone and found is None
    return bool(other["path"] == path and other["sha256"] == found.sha256 and other["mode"] == found.mode)


def _named(row: Row) -> str:
    task = name("T", row["task"]) if row["task"] else ""
    run = name("R", row["run"]) if row["run"] else ""
    return f"{task} ({run})" if task and run else task or run or "another session"


def keep(tx: Transaction, verdicts: Iterable[Verdict]) -> None:
    """Records what came of it."""
    tx.each("file_is_checked", [{"id": one.row["id"], "status": one.status, "detail": one.detail} for one in verdicts])


def rolled_up(statuses: Iterable[str]) -> str:
    """One word for all: ``failed`` if one is, ``verified`` if all are, ``pending`` if all are; ``partial`` else."""
    found = set(statuses)
    if "failed" in found:
        return "failed"
    if found <= {"pending"}:
        return "pending"
    return "verified" if found == {"verified"} else "partial"


def as_json(row: Row, status: str | None = None, detail: str | None = None) -> dict[str, object]:
    """A record as every door shows it; ``status`` and ``detail`` are newer than the row's own."""
    return {
        "path": row["path"],
        "op": row["op"],
        "old_path": row["old_path"],
        "status": status or row["status"],
        "detail": detail if status else row["detail"],
        "sha256": row["sha256"],
        "size": row["size"],
        "mode": row["mode"],
        "head": row["head"],
        "source": row["source"],
        "task": name("T", row["task"]) if row["task"] else None,
        "run": name("R", row["run"]) if row["run"] else None,
        "session": name("S", row["session"]) if row["session"] else None,
        "seen_at": iso(row["seen_at"]),
        "checked_at": iso(row["checked_at"]),
    }
