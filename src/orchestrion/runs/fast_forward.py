"""A checkout of the user's is moved forward to a commit, or is as it was before.

git writes files one by one; a filter that fails, a folder that may not be written or somebody who
presses Ctrl-C stops it half-way. So what it is about to replace is linked aside first, with the
index: git never writes into a file, it makes a new one. Whoever gives up puts that back; of one who was killed with
its git, the next who lands here does. What somebody else wrote in the meantime stays where it is; what cannot be told
apart is kept aside.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from orchestrion.core.errors import EnvironmentProblem, GitProblem
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import snapshot

#: What would end this process in the middle.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: Folders of files that are laid aside, followed by the commit that they are of; such a one from which something
#: must be taken by hand ends in ``.kept``.
_PREFIX, _KEPT = "landing-", ".kept"
#: So many files are named.
_NAMED = 20
#: In such a folder: what the move was, and the index before it. There before git begins.
_FACTS, _INDEX = "facts.json", "index"
#: Bytes that are compared at once.
_PIECE = 1 << 20


def fast_forward(git: Git, commit: str, mine: str, scratch: Path, lock: int) -> subprocess.CompletedProcess[str]:
    """Moves the clean checkout in git's folder from ``mine`` to ``commit``, which contains it; git's answer.

    Where git gives up, everything is put back. ``scratch`` is a folder of the caller's alone in which the files lie
    meanwhile, on the same disk if that can be; git holds the file ``lock`` open as long as it lives. A signal that
    would end this process ends git first, and is sent again when all is well. Raises EnvironmentProblem
    (``half_landed``) when something is left to be done by hand, OSError when nothing could be laid aside.
    """
    with _Deferred() as deferred:
        aside = _Aside.laid(git, commit, mine, scratch)
        try:
            child = git.start(
                "merge", "--ff-only", "--quiet", "--no-autostash", "--no-verify-signatures", "--no-overwrite-ignore",
                commit,
                keeps=[lock],
            )  # fmt: skip
            deferred.guard(child)
            _, said = child.communicate()
            told = git.explained(subprocess.CompletedProcess(child.args, child.returncode, b"", said))
            if child.returncode != 0 and git.tip("HEAD") == mine:
                aside.put_back(was_killed=child.returncode < 0)
        finally:
            aside.forget()
    return subprocess.CompletedProcess(("merge", "--ff-only", commit), child.returncode, "", told)


def put_back_interrupted(git: Git, scratch: Path) -> bool:
    """Puts back what a move of this checkout left that was killed with its git. Whether there was one.

    Nobody else may be at work in ``scratch``. Raises EnvironmentProblem (``half_landed``), OSError.
    """
    found = [place for place in _left_in(scratch) if _folder_of(place) in (None, str(git.folder.resolve()))]
    is_back = False
    for place in found:
        aside = _Aside.found(git, place)
        try:
            if aside is not None and aside.is_as_left():
                is_back = True
                aside.put_back(was_killed=False)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return is_back


def interrupted(scratch: Path) -> list[str]:
    """Checkouts in which a move was begun that did not end, and which are still where they were."""
    found = filter(None, map(_facts_of, _left_in(scratch)))
    return sorted({facts["folder"] for facts in found if _is_at(Path(facts["folder"]), facts["mine"])})


def _is_at(folder: Path, commit: str) -> bool:
    try:
        return Git(folder).tip("HEAD") == commit
    except GitProblem:
        return False  # the checkout is gone


def _folder_of(place: Path) -> str | None:
    """The checkout of a move; None: it had not begun, or an older program began it."""
    facts = _facts_of(place)
    return None if facts is None else str(facts["folder"])


def _facts_of(place: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((place / _FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def above_of(path: str) -> list[str]:
    """The folders that a path is in, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _left_in(scratch: Path) -> list[Path]:
    return [place for place in scratch.glob(f"{_PREFIX}*") if place.suffix != _KEPT]


class _Aside:
    """What a move from one commit to another replaces."""

    def __init__(self, git: Git, commit: str, mine: str, place: Path) -> None:
        self._git = git
        self._top = git.folder
        self._place = place
        self.mine = mine
        self._commit = commit
        listed = git.lines("diff-tree", "-r", "-z", "--name-status", "--no-renames", mine, commit)
        self._changed = dict(zip(listed[1::2], listed[::2], strict=True))
        self._new = [path for path, kind in self._changed.items() if kind == "A"]
        self._target = snapshot.blobs_at(git, commit, self._changed)
        self._folders = {above for path in self._new for above in above_of(path) if (self._top / above).is_dir()}
        self._index = self._top / git.run("rev-parse", "--git-path", "index").stdout
        self._orig_head = git.tip("ORIG_HEAD")
        #: Files of which nobody can tell who wrote them.
        self._unknown: list[str] = []
        self._content = b""
        self._files: dict[str, Path | None] = {}

    @classmethod
    def laid(cls, git: Git, commit: str, mine: str, scratch: Path) -> _Aside:
        """What is laid aside now, before the move."""
        one = cls(git, commit, mine, Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{mine}-", dir=scratch)))
        try:
            one._content = one._index.read_bytes()
            one._files = {path: one._laid(path, str(number)) for number, path in enumerate(one._changed)}
            one._note()
        except BaseException:
            one.forget()
            raise
        return one

    @classmethod
    def found(cls, git: Git, place: Path) -> _Aside | None:
        """What somebody laid aside who was killed; None: the move had not begun."""
        facts = _facts_of(place)
        if facts is None:
            return None
        one = cls(git, facts["commit"], facts["mine"], place)
        one._content = (place / _INDEX).read_bytes()
        one._folders, one._orig_head = set(facts["folders"]), facts["orig_head"]
        laid = {path: place / str(number) for number, path in enumerate(one._changed)}
        one._files = {path: saved if os.path.lexists(saved) else None for path, saved in laid.items()}
        return one

    def _note(self) -> None:
        """Keeps what only this process knows, for whoever comes after it."""
        (self._place / _INDEX).write_bytes(self._content)
        facts = {
            "folder": str(self._top.resolve()),
            "commit": self._commit,
            "mine": self.mine,
            "folders": sorted(self._folders),
            "orig_head": self._orig_head,
        }
        half = self._place / f"{_FACTS}.half"
        half.write_text(json.dumps(facts), encoding="utf-8")
        half.replace(self._place / _FACTS)

    def _laid(self, path: str, name: str) -> Path | None:
        """Where a file is laid aside; None: there is none."""
        source, target = self._top / path, self._place / name
        if not (source.is_symlink() or source.is_file()):
            return None
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # another disk, or somebody else's file
            shutil.copy2(source, target, follow_symlinks=False)
        return target

    def is_as_left(self) -> bool:
        """Whether nobody has staged, merged or committed anything since: else the user sees to what was left."""
        git = self._git
        return (
            git.tip("HEAD") == self.mine
            and git.unfinished() is None
            and (self._has_index_of(self.mine) or self._has_index_of(self._commit))
        )

    def _has_index_of(self, commit: str) -> bool:
        return self._git.run("diff-index", "--cached", "--quiet", commit, "--", check=False).returncode == 0

    def put_back(self, *, was_killed: bool) -> None:
        """Files, index and ORIG_HEAD are as they were. Raises EnvironmentProblem (``half_landed``)."""
        for path in self._new:
            if self._may_go(path):
                self._remove(path)
        left = [path for path, saved in self._files.items() if saved is not None and not self._is_back(path, saved)]
        lock = self._index.with_name("index.lock")
        if was_killed:  # by nobody but the one who was killed
            lock.unlink(missing_ok=True)
        if self._index.read_bytes() != self._content and self._has_index_of(self._commit):
            with lock.open("xb") as file:
                file.write(self._content)
            lock.replace(self._index)
        # git has noted already where it was about to leave; nothing was left.
        back = ("ORIG_HEAD", self._orig_head) if self._orig_head else ("-d", "ORIG_HEAD")
        self._git.run("update-ref", *back, check=False)
        if left or self._unknown:
            self._refuse(left)

    def _may_go(self, path: str) -> bool:
        """Whether what is at ``path`` was written by git; where nobody can tell it is kept aside first."""
        place = self._top / path
        if self._leads_elsewhere(path):
            return False
        if place.is_dir() and not place.is_symlink():
            return not any(place.iterdir())  # of a submodule
        seen = _facts(place)
        if seen is None:
            return True
        if not (place.is_symlink() or place.is_file()):
            return False  # a pipe, say: git writes none
        found = self._oid_of(place)
        if found is None:
            shutil.copy2(place, self._place / f"{len(self._unknown)}.now", follow_symlinks=False)
            self._unknown.append(path)
        is_gits = found in (None, self._target.get(path)) or self._is_half_of(place, self._target.get(path))
        # Looking takes as long as a filter takes: somebody may have saved it since.
        return is_gits and _facts(place) == seen

    def _is_half_of(self, place: Path, blob: str | None) -> bool:
        """Whether a file is what git had written of a blob when it was killed."""
        if blob is None or place.is_symlink() or not place.is_file():
            return False
        with self._git.start("cat-file", "blob", blob) as process, place.open("rb") as file:
            assert process.stdout is not None
            try:
                while piece := file.read(_PIECE):
                    if process.stdout.read(len(piece)) != piece:
                        return False
            finally:
                process.kill()
        return True

    def _oid_of(self, place: Path) -> str | None:
        """The name that git would give to a file; None: its filter does not work."""
        try:
            if place.is_symlink():
                return self._git.run("hash-object", "--stdin", input=os.readlink(place)).stdout  # noqa: PTH115 - as text
            return self._git.run("hash-object", "--", place.relative_to(self._top)).stdout
        except GitProblem:
            return None

    def _leads_elsewhere(self, path: str) -> bool:
        """Whether a folder that the path is in is a link: what is behind it is in no checkout."""
        return any((self._top / above).is_symlink() for above in above_of(path))

    def _is_back(self, path: str, saved: Path) -> bool:
        target = self._top / path
        if self._leads_elsewhere(path):
            return False
        try:
            if os.path.lexists(target):
                if os.path.samestat(target.lstat(), saved.lstat()) or not self._may_go(path):
                    return True
                if target.is_dir() and not target.is_symlink():
                    target.rmdir()
            target.parent.mkdir(parents=True, exist_ok=True)
            saved.replace(target)
        except OSError:
            try:
                shutil.copy2(saved, target, follow_symlinks=False)
            except OSError:
                return False
        return True

    def _remove(self, path: str) -> None:
        place = self._top / path
        with suppress(OSError):  # it was not written yet; a folder has other files
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
            for above in reversed(above_of(path)):
                if above not in self._folders:
                    (self._top / above).rmdir()

    def _refuse(self, left: list[str]) -> None:
        kept = self._place.with_name(f"{self._place.name}{_KEPT}")
        for number, path in enumerate(self._unknown):
            self._keep(self._place / f"{number}.now", kept / path)
        for path in left:
            self._keep(self._files[path], kept / path)
        what = [f"could not be put back: {', '.join(left[:_NAMED])}"] if left else []
        if self._unknown:
            what.append(f"were written by git, or by you, and are kept: {', '.join(self._unknown[:_NAMED])}")
        raise EnvironmentProblem(
            f"the plan did not land; files {'; files '.join(what)}",
            hint=f"{kept} has them under their names; what is in the way of one is yours: move it before you copy",
            code="half_landed",
            files=[*left, *self._unknown],
        )

    def _keep(self, source: Path | None, target: Path) -> None:
        if source is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def forget(self) -> None:
        """What was laid aside goes."""
        shutil.rmtree(self._place, ignore_errors=True)


def _facts(place: Path) -> tuple[int, ...] | None:
    """What changes when a file is written; None: there is none."""
    try:
        found = place.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


class _Deferred:
    """Signals that would end this process end a child, and come again when it is over. In other threads: nothing."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._came: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Deferred:
        if threading.current_thread() is threading.main_thread():
            wanted = [one for one in _ENDING if signal.getsignal(one) != signal.SIG_IGN]
            self._before = {one: signal.signal(one, self._note) for one in wanted}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        if self._came is not None and kind is None:  # else there is something to be said
            os.kill(os.getpid(), self._came)

    def guard(self, child: subprocess.Popen[bytes]) -> None:
        """From now on that child is ended; it has a session of its own."""
        self._child = child
        self._end()

    def _note(self, came: int, _frame: FrameType | None) -> None:
        self._came = came
        self._end()

    def _end(self) -> None:
        if self._came is not None and self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGTERM)
