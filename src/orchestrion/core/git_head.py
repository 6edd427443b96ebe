"""What HEAD of a checkout is, read from git's own files.

``add`` records where a plan begins, and is called too often to start a git for it. The few
files that matter are read here: ``HEAD``, a branch's own file, ``packed-refs``. Anything
else (a repository with reftables, a broken one) is answered with None: who needs to know
it then asks git.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BRANCH = "refs/heads/"


class Head(NamedTuple):
    """Where a checkout is."""

    #: Short name of its branch; None: HEAD is detached.
    branch: str | None
    #: Its commit; None: the branch has none yet.
    commit: str | None


def head_of(git_dir: Path, common_dir: Path) -> Head | None:
    """HEAD of the checkout whose own git directory is ``git_dir``; None when its files do not tell."""
    content = _text(git_dir / "HEAD")
    if _COMMIT.fullmatch(content):
        return Head(None, content)
    ref = content.removeprefix("ref:").strip()
    # Where refs are kept in tables HEAD names no real branch.
    if not content.startswith("ref:") or not ref.startswith(_BRANCH) or ref == f"{_BRANCH}.invalid":
        return None
    return Head(ref.removeprefix(_BRANCH), _commit_of(common_dir, ref))


def _commit_of(common_dir: Path, ref: str) -> str | None:
    loose = _text(common_dir / ref)
    if _COMMIT.fullmatch(loose):
        return loose
    for line in _text(common_dir / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return None


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
