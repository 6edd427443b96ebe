"""What a run changed, read while git writes it: nobody holds a large diff whole.

``RunDiff.whole`` passes on what git writes, for `git apply` and for people with a pager. ``RunDiff.page``
is for everybody who has no room for that: whole files from a place on, of each so many bytes, all together
so many. What does not fit is counted and said; git is ended as soon as the page is full.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from orchestrion.runs.git import DETECTED, Git, refusal

#: Whatever the user set for their own reading.
_PLAIN = (
    "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/",
    "--unified=3", *DETECTED, "--submodule=short", "--ignore-submodules=none",
)  # fmt: skip
#: git's output is read in pieces of so many bytes.
_PIECE = 65_536
#: A file's first line. Within a hunk no line begins so: each has a sign in front.
_HEAD = b"diff --git "


@dataclass(frozen=True)
class Bounds:
    """How much of a diff is asked for."""

    #: So many files are passed over first.
    skip: int = 0
    #: So many files at most.
    files: int = 200
    #: So many bytes of one file, and of all together, at most.
    file_bytes: int = 100_000
    max_bytes: int = 1_000_000


@dataclass
class FilePatch:
    """One file of a diff."""

    #: Its head and its hunks in git's format, up to the end of the last line that fits.
    text: bytearray = field(default_factory=bytearray)
    #: Lines that were added and removed, those that are not shown too.
    added: int = 0
    removed: int = 0
    #: Lines that did not fit.
    hidden: int = 0
    _in_hunk: bool = False

    def add(self, piece: bytes, room: int, *, begins: bool) -> None:
        """Takes in a line, or with ``begins`` false more of a long one; no more than ``room`` bytes are kept."""
        if begins and piece.startswith((_HEAD, b"@@ ")):
            self._in_hunk = not piece.startswith(_HEAD)
        if begins and self._in_hunk:
            self.added += piece.startswith(b"+")
            self.removed += piece.startswith(b"-")
        if not self.hidden and len(self.text) + len(piece) <= room:
            self.text += piece
        elif begins or not self.hidden:
            # Of a line that is too long its beginning is there already.
            del self.text[self.text.rfind(b"\n") + 1 :]
            self.hidden += 1


@dataclass(frozen=True)
class RunDiff:
    """The difference between two commits of a run."""

    git: Git
    base: str
    head: str

    def whole(self, *, binary: bool = False) -> Iterator[bytes]:
        """All of it as git writes it, in pieces; with ``binary`` also what `git apply` needs for binary files."""
        with self.asked(*(["--binary"] if binary else [])) as output:
            while piece := output.read1(_PIECE):  # type: ignore[attr-defined]
                yield piece

    def page(self, bounds: Bounds) -> Page:
        """As much of it as the bounds allow. Raises GitProblem."""
        return Page(self, bounds, self._count(), bounds.skip)

    def text(self, bounds: Bounds, rest: str) -> Generator[bytes]:
        """A page as text. Lines that begin with ``#`` say what is left out; ``rest`` says how all of it is seen.

        ``{next}`` in ``rest`` becomes the number of files to pass over next time.
        """
        page = self.page(bounds)
        for file in page:
            yield bytes(file.text)
            if file.hidden:
                yield b"# lines of this file left out: %d\n" % file.hidden
        if page.next is not None:
            left = f"# files left out: {page.total - page.next} of {page.total}; {rest.format(next=page.next)}\n"
            yield left.encode()

    def _count(self) -> int:
        with self.asked("--name-only", "-z") as output:
            return sum(piece.count(b"\0") for piece in iter(lambda: output.read(_PIECE), b""))

    @contextmanager
    def asked(self, *options: str) -> Iterator[IO[bytes]]:
        """What git writes; whoever has read enough leaves, and it is ended. Raises GitProblem when it refuses."""
        words = ("diff", *_PLAIN, *options, self.base, self.head)
        with self.git.start(*words) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield process.stdout
                enough = bool(process.stdout.read(1))
            except BaseException:
                process.kill()
                raise
            if enough:
                process.kill()
            said = process.stderr.read().decode("utf-8", "replace")
            if process.wait() > 0 or (process.returncode < 0 and not enough):
                raise refusal(subprocess.CompletedProcess(words, process.returncode, "", said))


@dataclass
class Page:
    """Some files of a diff, one after the other; afterwards it says where the next page begins."""

    diff: RunDiff
    bounds: Bounds
    #: How many files the whole diff has.
    total: int
    #: How many files are behind this page or on it, when it has been read.
    seen: int

    def __iter__(self) -> Iterator[FilePatch]:
        room, last = self.bounds.max_bytes, self.bounds.skip + self.bounds.files
        with self.diff.asked() as output:
            for number, file in enumerate(files(output, self.bounds)):
                if number < self.bounds.skip:
                    continue
                if number > self.bounds.skip and (number >= last or len(file.text) > room):
                    return
                room -= len(file.text)
                self.seen = number + 1
                yield file
        self.seen = self.total

    @property
    def next(self) -> int | None:
        """How many files to pass over for the next page; None when this is the last."""
        return self.seen if self.seen < self.total else None


def files(output: IO[bytes], bounds: Bounds) -> Iterator[FilePatch]:
    """The files of a diff; of those that are passed over nothing is kept."""
    file, head, number = FilePatch(), b"", -1
    room = min(bounds.file_bytes, bounds.max_bytes)
    for piece, begins in _lines(output):
        # A file that became a link, or a link a file, comes in two parts under the same head.
        if begins and piece.startswith(_HEAD) and piece != head:
            if head:
                yield file
            file, head, number = FilePatch(), piece, number + 1
        file.add(piece, room if number >= bounds.skip else 0, begins=begins)
    if head:
        yield file


def _lines(output: IO[bytes]) -> Iterable[tuple[bytes, bool]]:
    """Lines with their ends, long ones in pieces; and whether a piece begins a line."""
    begins = True
    while piece := output.readline(_PIECE):
        yield piece, begins
        begins = piece.endswith(b"\n")
