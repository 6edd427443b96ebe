"""A checkout of the user's is moved forward to a commit, or is as it was before.

git writes files one by one; a filter that fails, a folder that may not be written or somebody who
presses Ctrl-C stops it half-way. So what it is about to replace is linked aside first, with the
index: git never writes into a file, it makes a new one. Whoever gives up puts that back. What
somebody else wrote in the meantime stays where it is; what cannot be told apart is kept aside.
"""

from __future__ import annotations

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


def fast_forward(git: Git, commit: str, mine: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Moves the clean checkout in git's folder from ``mine`` to ``commit``, which contains it; git's answer.

    Where git gives up, everything is put back. ``scratch`` is a folder of the caller's alone in which the files lie
    meanwhile, on the same disk if that can be. A signal that would end this process ends git first, and is sent
    again when all is well. Raises EnvironmentProblem (``half_landed``) when something is left to be done by hand,
    OSError when nothing could be laid aside.
    """
    for stale in _left_in(scratch):  # of somebody who was killed; the checkout is clean again
        shutil.rmtree(stale, ignore_errors=True)
    with _Deferred() as deferred:
        aside = _Aside(git, commit, mine, scratch)
        try:
            child = git.start(
                "merge", "--ff-only", "--quiet", "--no-autostash", "--no-verify-signatures", "--no-overwrite-ignore",
                commit,
            )  # fmt: skip
            deferred.guard(child)
            _, said = child.communicate()
            if child.returncode != 0 and git.tip("HEAD") == mine:
                aside.put_back(was_killed=child.returncode < 0)
        finally:
            aside.forget()
    told = said.decode("utf-8", "surrogateescape")
    return subprocess.CompletedProcess(("merge", "--ff-only", commit), child.returncode, "", told)


def is_interrupted(scratch: Path, head: str) -> bool:
    """Whether a move from ``head``, where the checkout still is, was ended with git and nobody could put it back."""
    return any(place.name.startswith(f"{_PREFIX}{head}-") for place in _left_in(scratch))


def above_of(path: str) -> list[str]:
    """The folders that a path is in, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _left_in(scratch: Path) -> list[Path]:
    return [place for place in scratch.glob(f"{_PREFIX}*") if place.suffix != _KEPT]


class _Aside:
    """What a move from one commit to another replaces."""

    def __init__(self, git: Git, commit: str, mine: str, scratch: Path) -> None:
        self._git = git
        self._top = git.folder
        listed = git.lines("diff-tree", "-r", "-z", "--name-status", "--no-renames", mine, commit)
        changed = dict(zip(listed[1::2], listed[::2], strict=True))
        self._new = [path for path, kind in changed.items() if kind == "A"]
        self._target = snapshot.blobs_at(git, commit, changed)
        self._folders = {above for path in self._new for above in above_of(path) if (self._top / above).is_dir()}
        self._index = self._top / git.run("rev-parse", "--git-path", "index").stdout
        self._orig_head = git.tip("ORIG_HEAD")
        #: Files of which nobody can tell who wrote them.
        self._unknown: list[str] = []
        self._place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{mine}-", dir=scratch))
        try:
            self._content = self._index.read_bytes()
            self._files = {path: self._laid(path, str(number)) for number, path in enumerate(changed)}
        except BaseException:
            self.forget()
            raise

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

    def put_back(self, *, was_killed: bool) -> None:
        """Files, index and ORIG_HEAD are as they were. Raises EnvironmentProblem (``half_landed``)."""
        for path in self._new:
            if self._may_go(path):
                self._remove(path)
        left = [path for path, saved in self._files.items() if saved is not None and not self._is_back(path, saved)]
        lock = self._index.with_name("index.lock")
        if was_killed:  # by nobody but the one who was killed
            lock.unlink(missing_ok=True)
        if self._index.read_bytes() != self._content:
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
        if place.is_dir() and not place.is_symlink():
            return not any(place.iterdir())  # of a submodule
        seen = _facts(place)
        if seen is None:
            return True
        found = self._oid_of(place)
        if found is None:
            shutil.copy2(place, self._place / f"{len(self._unknown)}.now", follow_symlinks=False)
            self._unknown.append(path)
        # Looking takes as long as a filter takes: somebody may have saved it since.
        return found in (None, self._target.get(path)) and _facts(place) == seen

    def _oid_of(self, place: Path) -> str | None:
        """The name that git would give to a file; None: its filter does not work."""
        try:
            if place.is_symlink():
                return self._git.run("hash-object", "--stdin", input=os.readlink(place)).stdout  # noqa: PTH115 - as text
            return self._git.run("hash-object", "--", place.relative_to(self._top)).stdout
        except GitProblem:
            return None

    def _is_back(self, path: str, saved: Path) -> bool:
        target = self._top / path
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
