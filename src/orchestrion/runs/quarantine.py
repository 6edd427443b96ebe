"""Objects come into the user's repository whole, or not at all.

git writes a pack while it arrives; where the disk fills meanwhile, or somebody kills that git, the part that is there
stays, and only whoever wrote it can tell whether it is still wanted. So what arrives for us lies in a folder of ours
beside the objects first, as git itself does it with what is pushed. When git has seen that all of it is there, its
files take their places, each by a rename, and only then do refs move. Until they have, a mark beside each pack says,
as git's own does, that nobody who packs anew may take it away: no ref names yet what is in it. Who holds the folder's
lock is at work in it; a folder that nobody holds is of somebody who was killed, and the next one sees to it: what was
whole takes its place to the end, everything else is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core import private
from orchestrion.core.errors import GitProblem
from orchestrion.runs import refs
from orchestrion.runs.git import Git, refusal
from orchestrion.runs.points import reach

#: How the folders are called; git knows nothing of them.
PREFIX = "orchestrion-incoming-"
_LOCK = "lock"
#: Is there when git has seen that all that arrives is there.
_WHOLE = "whole"
#: Names the packs beside which there is a mark of ours.
_KEEPS = "keeps"
_MARK = b"orchestrion: until a ref names what is in it\n"
_LOOSE = frozenset(f"{number:02x}" for number in range(256))
#: The names of files that take a place: a single object's, and those of a pack with its index, which comes last.
_OBJECT = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_PACK = re.compile(r"(pack-[0-9a-f]{40}(?:[0-9a-f]{24})?)\.(pack|rev|bitmap|mtimes|promisor|idx)")
#: So often what vanished is fetched again: somebody packs anew, or prunes, at the same moment.
_TRIES = 3
_BAD_REF = re.compile(r"bad object refs/|bad sha1 pointer|invalid sha1 pointer|missing object .* for refs/")
#: What git calls a file that it has not written to its end.
_HALF_WRITTEN = "tmp_"
#: What arrives leaves so much room to others, in bytes; what is smaller than this leaves as much as it takes.
ROOM_FOR_OTHERS = 16 * 1024 * 1024


@dataclass(frozen=True)
class Arrival:
    """What arrives in a repository, and is not there yet."""

    folder: Path
    objects: Path

    @property
    def environment(self) -> dict[str, str]:
        """With it git puts new objects into the folder."""
        return {"GIT_OBJECT_DIRECTORY": str(self.folder)}

    def accept(self) -> None:
        """All of it is there, and comes into the repository. Raises GitProblem (``disk_full``), OSError."""
        with _room_wanted(self.objects):
            reach("quarantine.arrived")
            (self.folder / _WHOLE).touch()
            reach("quarantine.whole")
            _move(self.folder, self.objects)
            reach("quarantine.moved")


@contextmanager
def arriving(git: Git) -> Iterator[Arrival]:
    """Objects may arrive in a repository of the user's; what is not accepted is gone afterwards.

    What is accepted stays whatever others do until the block ends: by then a ref must name it. Raises GitProblem
    (``disk_full``), OSError.
    """
    objects = Path(os.path.realpath(git.common_dir() / "objects"))
    clear_in(objects)
    with _room_wanted(objects), _folder_in(objects) as folder:
        yield Arrival(folder, objects)


def fetch(
    git: Git, source: Path, *refspecs: str, checked: bool = False, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """As ``Git.fetch``, into a repository of the user's: nothing stays there of what did not arrive as a whole.

    Refs of runs there whose commits are gone, which git lets nobody past, are removed first. Raises GitProblem also
    without ``check`` where what arrived is taken away each time.
    """
    for _ in range(_TRIES):
        answer = _fetch(git, source, refspecs, checked)
        if answer.returncode == 0:
            if all(_is_there(git, place) for _, place in _places(refspecs) if place):
                return answer
        elif not _BAD_REF.search(answer.stderr) or not refs.forget_gone(git):
            break
    if answer.returncode == 0:
        raise GitProblem(
            f"what arrived in {git.folder} was taken away {_TRIES} times before a ref named it",
            hint="is somebody at `git prune` or `git gc --prune=now` there all the time? When that is over, try again",
        )
    if check:
        raise refusal(answer)
    return answer


def _fetch(git: Git, source: Path, refspecs: Sequence[str], checked: bool) -> subprocess.CompletedProcess[str]:
    places = _places(refspecs)
    with arriving(git) as arrival:
        wanted = [one for one, _ in places]
        answer = git.fetch(source, *wanted, checked=checked, check=False, env=arrival.environment)
        if answer.returncode != 0:
            return answer
        arrival.accept()
        if not any(place for _, place in places):
            return answer
        # All of it is there: this time nothing arrives, and refs move.
        return git.fetch(source, *refspecs, checked=checked, check=False)


def _is_there(git: Git, ref: str) -> bool:
    """Whether a ref names something that is there."""
    return git.run("cat-file", "-e", ref, check=False).returncode == 0


def _places(refspecs: Sequence[str]) -> list[tuple[str, str]]:
    """What each refspec wants, and the ref that is to name it; empty: none."""
    return [refspec.removeprefix("+").partition(":")[::2] for refspec in refspecs]


def refuse_too_large(git: Git, source: Git, commits: Iterable[str], known: Iterable[str]) -> None:
    """Raises GitProblem (``disk_full``) when commits of ``source`` take more room than others can spare where ``git``
    has its objects: nobody can work on a full disk. ``known`` are commits of which ``git`` has everything.
    """
    objects = git.common_dir() / "objects"
    found = os.statvfs(objects)
    free = found.f_bavail * found.f_frsize
    size = _size_of(source, commits, known)
    if size + min(size, ROOM_FOR_OTHERS) > free:
        raise GitProblem(
            f"the work takes {_megabytes(size)} and {_megabytes(free)} are free on the disk of the repository",
            hint=f"free some space there: it needs {_megabytes(size + min(size, ROOM_FOR_OTHERS))}, so that others can "
            "go on; nothing of it came into the project, all is in the workspace",
            code="disk_full",
        )


def _size_of(source: Git, commits: Iterable[str], known: Iterable[str]) -> int:
    """What the objects of commits take where they are, in bytes; 0 where that cannot be told."""
    asked = "".join(f"{one}\n" for one in (*commits, *(f"^{one}" for one in known)))
    options = ("--objects", "--no-object-names", "--missing=allow-any", "--stdin")
    listed = source.run("rev-list", *options, input=asked, check=False)
    if listed.returncode != 0:
        return 0
    sizes = source.run("cat-file", "--batch-check=%(objectsize:disk)", input=f"{listed.stdout}\n", check=False).stdout
    return sum(int(line) for line in sizes.split("\n") if line.isdecimal())


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def left_in(common_dir: Path) -> dict[Path, int]:
    """The folders that somebody who was killed left in a repository and its submodules, and what each takes."""
    return {
        folder: sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
        for objects in _stores_of(common_dir)
        for folder in _folders_in(objects)
        if not _is_held(folder)
    }


def foreign_in(common_dir: Path, older_than: float) -> dict[Path, int]:
    """Half-written files of other gits, or of ours before there were such folders, that nobody has written to since
    then (in seconds since 1970), and what each takes. Whose they are nobody can tell: they are only named.
    """
    found = {}
    for objects in _stores_of(common_dir):
        for folder in (objects, objects / "pack", *(objects / name for name in sorted(_LOOSE))):
            for file in half_written(folder):
                with suppress(OSError):
                    facts = file.lstat()
                    if stat.S_ISREG(facts.st_mode) and facts.st_mtime < older_than:
                        found[file] = facts.st_size
    return found


def half_written(folder: Path) -> list[Path]:
    """The files that a git has begun there, and not ended or not ended yet."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.startswith(_HALF_WRITTEN))
    except (FileNotFoundError, NotADirectoryError):
        return []


def clear(common_dir: Path) -> list[Path]:
    """Sees to what somebody who was killed left in a repository and its submodules; the folders that are gone now."""
    return [folder for objects in _stores_of(common_dir) for folder in clear_in(objects)]


def clear_in(objects: Path) -> list[Path]:
    """The same in one place for objects. What cannot be done now is left to the next one."""
    gone = []
    for folder in _folders_in(objects):
        with suppress(OSError), _held(folder) as mine:
            if mine:
                _end(folder, objects)
                gone.append(folder)
    return gone


def _end(folder: Path, objects: Path) -> None:
    """Concludes what its owner could not."""
    try:
        if _is_plain(folder / _WHOLE):
            _move(folder, objects)
    finally:
        _unmark(folder, objects)
        _delete(folder)


def _delete(folder: Path) -> None:
    """The lock goes last: until then nobody takes the folder for one that is being made."""
    with os.scandir(folder) as entries:
        inner = [entry for entry in entries if entry.name != _LOCK]
    for entry in inner:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
    shutil.rmtree(folder)


def _move(folder: Path, objects: Path) -> None:
    """Gives files their places; those that are there already stay. It may be done again after it was cut off."""
    for name in sorted(_LOOSE.intersection(_folders_of(folder))):
        place = objects / name
        if not place.is_dir():
            # git has given it the permissions that the repository is to have.
            place.mkdir(exist_ok=True)
            place.chmod(stat.S_IMODE((folder / name).stat().st_mode))
        _move_files(folder / name, place, filter(_OBJECT.fullmatch, _files_in(folder / name)))
    if "pack" in _folders_of(folder):
        _move_packs(folder, objects / "pack")


def _folders_of(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _files_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]


def _is_plain(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False


def _move_packs(folder: Path, place: Path) -> None:
    """A pack counts when its index is there, which therefore comes last."""
    place.mkdir(exist_ok=True)
    found = [match for name in _files_in(folder / "pack") if (match := _PACK.fullmatch(name))]
    indexes = sorted(match[0] for match in found if match[2] == "idx")
    _mark(folder, place, sorted({match[1] for match in found}))
    try:
        _move_files(folder / "pack", place, sorted(match[0] for match in found if match[2] != "idx"))
        # Of one that was begun before somebody was killed, another git may have taken the pack away.
        there = [index for index in indexes if (place / index).with_suffix(".pack").exists()]
        _move_files(folder / "pack", place, there)
    except OSError:
        for stem in (index.removesuffix(".idx") for index in indexes):
            if not (place / f"{stem}.idx").exists():
                for file in place.glob(f"{stem}.*"):
                    file.unlink()
        raise


def _move_files(folder: Path, place: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (place / name).exists():
            (folder / name).rename(place / name)


def _mark(folder: Path, place: Path, packs: Sequence[str]) -> None:
    """Has those who pack anew leave the packs alone; which they are is written down first, for whoever comes next."""
    with (folder / _KEEPS).open("a", encoding="ascii") as named:
        named.writelines(f"{pack}\n" for pack in packs)
    for pack in packs:
        with suppress(FileExistsError), (place / f"{pack}.keep").open("xb") as mark:  # else it is kept by somebody else
            mark.write(_MARK)


def _unmark(folder: Path, objects: Path) -> None:
    """From now on refs name what is in the packs, or nobody wants it."""
    if not _is_plain(folder / _KEEPS):
        return
    for pack in (folder / _KEEPS).read_text(encoding="ascii", errors="replace").split():
        mark = objects / "pack" / f"{pack}.keep"
        if _PACK.fullmatch(f"{pack}.pack") and _is_plain(mark) and mark.read_bytes() == _MARK:
            mark.unlink()


@contextmanager
def _folder_in(objects: Path) -> Iterator[Path]:
    """A new folder of ours, which is gone afterwards."""
    with ExitStack() as stack:
        folder = _made_in(objects, stack)
        try:
            (folder / "info").mkdir()
            (folder / "info" / "alternates").write_bytes(os.fsencode(f"{objects}\n"))
            yield folder
        finally:
            _unmark(folder, objects)
            _delete(folder)


def _made_in(objects: Path, stack: ExitStack) -> Path:
    """A new folder that is held until the stack ends; whoever clears may have been quicker with one."""
    while True:
        folder = objects / f"{PREFIX}{os.getpid()}-{time.monotonic_ns()}"
        folder.mkdir(mode=0o700)
        try:
            if stack.enter_context(_held(folder)):
                return folder
        except FileNotFoundError:
            continue
        except OSError:
            folder.rmdir()
            raise


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours for the block; somebody else may hold it, or have removed it."""
    lock = folder / _LOCK
    with open(lock, "a", opener=private.opener) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(file.fileno()), lock.lstat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        yield mine


def _is_held(folder: Path) -> bool:
    try:
        with open(folder / _LOCK, opener=private.opener) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _folders_in(objects: Path) -> list[Path]:
    try:
        with os.scandir(objects) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def _stores_of(common_dir: Path) -> Iterator[Path]:
    """Where a repository, and each of its submodules, keeps its objects."""
    yield Path(os.path.realpath(common_dir / "objects"))
    for place, folders, files in os.walk(common_dir / "modules"):
        if "objects" in folders and "HEAD" in files:
            yield Path(os.path.realpath(os.path.join(place, "objects")))  # noqa: PTH118 - realpath takes both
            folders[:] = [name for name in folders if name == "modules"]


@contextmanager
def _room_wanted(objects: Path) -> Iterator[None]:
    """Says in our words that the disk is full."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise GitProblem(
            f"objects cannot come into {objects}: {problem.strerror}",
            hint="free some space there, and try again; nothing of them stays there",
            code="disk_full",
        ) from problem
