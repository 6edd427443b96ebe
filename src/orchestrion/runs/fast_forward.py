"""A checkout of the user's is moved forward to a commit, or is as it was before.

git writes files one by one; a filter that fails, a folder that may not be written or somebody who
presses Ctrl-C stops it half-way. So what it is about to replace is linked aside first, with the
index: git never writes into a file, it makes a new one. Whoever gives up puts that back, and needs
neither git nor a filter for it.
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

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.runs.git import Git

#: What would end this process in the middle.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: So many files are named.
_NAMED = 20


def fast_forward(git: Git, commit: str, mine: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Moves the clean checkout in git's folder from ``mine`` to ``commit``, which contains it; git's answer.

    Where git gives up, everything is put back. ``scratch`` is a folder in which the files lie meanwhile, on the
    same disk if that can be. A signal that would end this process ends git first, and is sent again when all is
    well. Raises EnvironmentProblem (``half_landed``) when something could not be put back, OSError when nothing
    could be laid aside.
    """
    aside = _Aside(git, commit, mine, scratch)
    try:
        with _Deferred() as deferred:
            child = git.start(
                "merge", "--ff-only", "--quiet", "--no-autostash", "--no-verify-signatures", "--no-overwrite-ignore",
                commit,
            )  # fmt: skip
            deferred.guard(child)
            _, said = child.communicate()
            if child.returncode != 0 and git.tip("HEAD") == mine:
                aside.put_back(was_killed=child.returncode < 0)
    except BaseException:
        aside.forget()
        raise
    aside.forget()
    return subprocess.CompletedProcess(child.args, child.returncode, "", said.decode("utf-8", "surrogateescape"))


class _Aside:
    """What a move from one commit to another replaces."""

    def __init__(self, git: Git, commit: str, mine: str, scratch: Path) -> None:
        self._git = git
        self._top = git.folder
        listed = git.lines("diff-tree", "-r", "-z", "--name-status", "--no-renames", mine, commit)
        changed = dict(zip(listed[1::2], listed[::2], strict=True))
        self._new = [path for path, kind in changed.items() if kind == "A"]
        self._index = self._top / git.run("rev-parse", "--git-path", "index").stdout
        self._orig_head = git.tip("ORIG_HEAD")
        self._place = Path(tempfile.mkdtemp(prefix="landing-", dir=scratch))
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
        if left:
            kept = self._place.with_name(f"{self._place.name}.kept")
            self._place.rename(kept)
            raise EnvironmentProblem(
                f"the plan did not land, and these files could not be put back: {', '.join(left[:_NAMED])}",
                hint=f"`git -C {self._top} checkout HEAD -- FILE` does it when they may be written; {kept} has them as "
                "they were",
                code="half_landed",
                files=left,
            )

    def _is_back(self, path: str, saved: Path) -> bool:
        target = self._top / path
        try:
            if os.path.lexists(target) and os.path.samestat(target.lstat(), saved.lstat()):
                return True
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                target.rmdir()
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
            for above in place.relative_to(self._top).parents:
                (self._top / above).rmdir()

    def forget(self) -> None:
        """What was laid aside goes."""
        shutil.rmtree(self._place, ignore_errors=True)


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
        if self._came is not None:
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
