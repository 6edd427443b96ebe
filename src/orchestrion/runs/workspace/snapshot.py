"""The files in a folder as a tree of git, taken with a git directory of ours.

The index is brought up to what is there: changed, new and deleted files. Repositories inside
the folder are not entered: their paths are given back, for somebody to decide about them.
A file that git cannot take (its name, its permissions) is named; the others are taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrion.runs.git import Git, refusal

GITLINK = "160000"
_IGNORED = re.compile(r"^Ignoring path (.*)$", re.MULTILINE)
_UNREADABLE = re.compile(r"^warning: could not open directory '(.*?)/?': ", re.MULTILINE)
_STOPPED_AT = re.compile(r"Unable to process path (.*)\Z", re.DOTALL)
#: After so many files that git cannot take, the whole is refused.
_MOST_REFUSED = 100


@dataclass
class Taken:
    """What was taken into the index."""

    #: Folders with a repository of their own, which was not entered; each with a slash at its end.
    nested: list[str] = field(default_factory=list)
    #: Submodules of the index whose folder is there: path -> commit in the index.
    submodules: dict[str, str] = field(default_factory=dict)
    #: Files and folders that git could not take.
    refused: list[str] = field(default_factory=list)
    #: Files of the index that are not there any more.
    gone: list[str] = field(default_factory=list)


def take(git: Git, index: dict[str, str]) -> Taken:
    """Brings an index up to the files in git's working tree. ``index`` is the environment that names it."""
    answer = git.run("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard", env=index)
    listed = dict.fromkeys(path for path in answer.stdout.split("\0") if path)
    taken = Taken(nested=[path for path in listed if path.endswith("/")], refused=_UNREADABLE.findall(answer.stderr))
    files = [path for path in listed if not path.endswith("/")]
    at = _beginning(git.folder)
    folders = [path for path in files if _is_folder(at + path)]
    taken.submodules = _gitlinks(git, folders, index) if folders else {}
    put(git, index, [path for path in files if path not in taken.submodules], taken)
    return taken


def put(git: Git, index: dict[str, str], paths: Iterable[str], taken: Taken) -> None:
    """Takes files into the index as they are now, and out of it where they are gone."""
    behind_links, at = _BehindLinks(git.folder), _beginning(git.folder)
    gone, there = [], []
    for path in dict.fromkeys(paths):
        if path in behind_links or _is_folder(at + path):
            gone.append(path)
        elif _is_readable(at + path):
            there.append(path)
        else:
            taken.refused.append(path)
    if gone:
        remove(git, index, gone)
    taken.gone += [path for path in (*gone, *there) if not os.path.lexists(at + path)]
    _add(git, index, there, taken)


def put_back(git: Git, index: dict[str, str], tree: str, paths: Collection[str]) -> None:
    """Lets the index have at ``paths`` what ``tree`` has there."""
    wanted = [f"{facts}\t{path}\0" for path, facts in _entries_at(git, tree, paths).items()]
    if wanted:
        git.run("update-index", "-z", "--index-info", input="".join(wanted), env=index)


def set_mode(git: Git, index: dict[str, str], mode: str, paths: Collection[str]) -> None:
    """Lets files of the index have another mode; a path that it does not have is left alone."""
    if not paths:
        return
    changed = set(paths)
    entries = (line.partition("\t") for line in git.fields("ls-files", "-z", "--stage", env=index))
    wanted = [f"{mode} {facts.split(' ')[1]}\t{path}\0" for facts, _, path in entries if path in changed]
    git.run("update-index", "-z", "--index-info", input="".join(wanted), env=index)


def blobs_at(git: Git, tree: str, paths: Collection[str]) -> dict[str, str]:
    """Path -> id of the content that a tree has there."""
    return {path: facts.split(" ")[2] for path, facts in _entries_at(git, tree, paths).items()}


def _entries_at(git: Git, tree: str, paths: Collection[str]) -> dict[str, str]:
    """Path -> mode, kind and id, as git lists them."""
    if not paths:
        return {}
    wanted = set(paths)
    entries = (line.partition("\t") for line in git.fields("ls-tree", "-r", "-z", "--full-tree", tree))
    return {path: facts for facts, _, path in entries if path in wanted}


def _add(git: Git, index: dict[str, str], paths: list[str], taken: Taken) -> None:
    """Takes in files that are there, one by one where git refuses some of them."""
    while paths:
        answer = git.run(
            "update-index", "--add", "--remove", "--replace", "-z", "--stdin",
            input=_fields(paths), env=index, check=False,
        )  # fmt: skip
        ignored = _IGNORED.findall(answer.stderr)
        taken.refused += ignored
        if answer.returncode == 0:
            return
        problem = refusal(answer)
        stopped = _STOPPED_AT.search(answer.stderr)
        is_of_file = problem.code in ("git", "filter_failed") or (stopped and "insufficient" not in answer.stderr)
        if not is_of_file or len(taken.refused) > _MOST_REFUSED:
            raise problem
        if stopped and stopped[1] in paths:
            taken.refused.append(stopped[1])
            paths = [path for path in paths if path != stopped[1] and path not in ignored]
        elif len(paths) == 1:
            taken.refused += paths
            return
        else:  # which one it is, git does not say
            half = len(paths) // 2
            _add(git, index, paths[:half], taken)
            paths = paths[half:]


def remove(git: Git, index: dict[str, str], paths: Iterable[str]) -> None:
    """Takes paths out of the index, whatever is in the folder."""
    git.run("update-index", "--force-remove", "-z", "--stdin", input=_fields(paths), env=index)


def set_gitlink(git: Git, index: dict[str, str], path: str, commit: str) -> None:
    """Lets a submodule be at ``commit`` in the index."""
    git.run("update-index", "-z", "--index-info", input=f"{GITLINK} {commit}\t{path}\0", env=index)


class _BehindLinks:
    """Paths of which a part is a symbolic link now: for git there is nothing at such a path."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._known: dict[str, bool] = {"": False}

    def __contains__(self, path: str) -> bool:
        return self._is_linked(os.path.dirname(path))  # noqa: PTH120 - paths may be any bytes

    def _is_linked(self, folder: str) -> bool:
        if folder not in self._known:
            above = self._is_linked(os.path.dirname(folder))  # noqa: PTH120
            self._known[folder] = above or (self._top / folder).is_symlink()
        return self._known[folder]


def _gitlinks(git: Git, paths: list[str], index: dict[str, str]) -> dict[str, str]:
    literal = [f":(top,literal){path}" for path in paths]
    found = {}
    for line in git.lines("ls-files", "-z", "--stage", "--", *literal, env=index):
        facts, _, path = line.partition("\t")
        mode, commit, _ = facts.split(" ")
        if mode == GITLINK:
            found[path] = commit
    return found


def _beginning(folder: Path) -> str:
    """What comes before a path of git. A Path for each file would let Python keep room for all of their names."""
    return os.path.join(folder, "")  # noqa: PTH118


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_readable(path: str) -> bool:
    """Whether git can read what is at ``path``; what is gone needs no reading."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True
    return not stat.S_ISREG(mode) or os.access(path, os.R_OK)


def _fields(paths: Iterable[str]) -> str:
    return "".join(f"{path}\0" for path in paths)
