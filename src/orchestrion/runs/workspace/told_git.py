"""What an agent told git and the disk does not show: it counts where the disk says nothing else.

The files in a workspace are the truth about its work. But a file may have been added though it is
ignored, untracked though it is there, made executable in the index alone, left out of the folder
by a sparse checkout, or committed through a filter that only the agent has. The agent's index and
last commit say so; both are read with a git directory of ours.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrion.runs.git import Git
from orchestrion.runs.workspace import changes, nested, snapshot
from orchestrion.runs.workspace.agent_repository import AgentRepository
from orchestrion.runs.workspace.trusted import TrustedRepository

_PLAIN, _EXECUTABLE = "100644", "100755"


class _Difference(NamedTuple):
    """How a path in the agent's index differs from the ground."""

    #: ``A``, ``M``, ``D``, ``T``, or ``U`` for a merge that is not resolved.
    kind: str
    path: str
    mode_before: str
    mode: str
    #: Its content in the index.
    oid: str


@dataclass(frozen=True)
class ToldGit:
    """The agent's index and last commit, held against the files."""

    ours: TrustedRepository
    agent: AgentRepository
    #: The environment that names our index, which is brought up to the files already.
    index: Mapping[str, str]
    #: The tree of what was there when the agent came.
    ground: str
    #: The agent's last commit.
    tip: str

    def take(self, taken: snapshot.Taken) -> list[str]:
        """Brings our index up to what was told. Returns the files of a merge that is not resolved."""
        differences = self._differences()
        self._take_added(differences, taken)
        self._take_modes(differences)
        self._leave_out_untracked(differences)
        self._put_back_sparse(taken.gone)
        return [one.path for one in differences if one.kind == "U"]

    def take_filtered(self, known: Collection[str]) -> dict[str, str]:
        """Sees to it that nothing is stored in clear, or filtered twice. ``known`` are the filters that the user has.

        What the agent committed through another filter is taken as it is in its commit: path -> name of the filter.
        What lies on the disk as it is stored, as in a repository that was locked, is unchanged.
        """
        now = self._git.run("write-tree", env=self._env).stdout
        filters = self._filters_of(self._differing(self.ground, now))
        foreign = {path for path, name in filters.items() if name not in known}
        theirs = foreign and foreign & self._differing(self.tip, now) & self._differing(self.ground, self.tip)
        committed = set(changes.listed(self._git, self.tip, theirs))
        snapshot.put_back(self._git, self._env, self.tip, committed)
        snapshot.put_back(self._git, self._env, self.ground, self._as_stored(filters.keys() - foreign))
        return {path: filters[path] for path in sorted(committed)}

    def undone(self, tree: str) -> list[str]:
        """Files that the agent's last commit changed and that are in ``tree`` as if it had not."""
        if self.tip == self.ours.note.base:
            return []
        return sorted(self._differing(self.ground, self.tip) - self._differing(self.ground, tree))

    @property
    def _git(self) -> Git:
        return self.ours.git

    @property
    def _env(self) -> dict[str, str]:
        return dict(self.index)

    @property
    def _top(self) -> Path:
        return self.ours.tree

    def _differences(self) -> list[_Difference]:
        """How the agent's index (or, if that cannot be read, its commit) differs from the ground."""
        options = ("--raw", "-z", "--no-renames", "--ignore-submodules=dirty")
        if self.agent.copy_index(self.ours.path / "index.agent"):
            answer = self._git.run("diff-index", "--cached", *options, self.ground, env=self._agents_index, check=False)
            if answer.returncode == 0:
                return _parsed(answer.stdout)
        return _parsed(self._git.run("diff-tree", "-r", *options, self.ground, self.tip).stdout)

    @property
    def _agents_index(self) -> dict[str, str]:
        return self.ours.in_other_index("index.agent")

    def _take_added(self, differences: Iterable[_Difference], taken: snapshot.Taken) -> None:
        """Ignored files that were added all the same. A repository that was added as a bare commit id is looked at
        as one that was not added.
        """
        added = [one.path for one in differences if one.kind == "A" and not one.path.endswith("/")]
        plain = [path for path in added if not os.path.lexists(self._top / path / ".git")]
        snapshot.put(self._git, self._env, plain, taken)
        for one in differences:
            if one.kind == "A" and one.mode == snapshot.GITLINK and not _has_anything(self._top / one.path):
                snapshot.set_gitlink(self._git, self._env, one.path, one.oid)

    def _take_modes(self, differences: Iterable[_Difference]) -> None:
        """``git add --chmod=+x`` says that a file can be run, and leaves it on the disk as it was."""
        wanted: dict[str, list[str]] = {_EXECUTABLE: [], _PLAIN: []}
        for one in differences:
            file = self._top / one.path
            if one.kind in "AM" and one.mode in wanted and one.mode != one.mode_before and _is_plain(file):
                is_executable = bool(file.stat().st_mode & 0o111)
                if is_executable is (one.mode_before == _EXECUTABLE):  # the disk says what it said before
                    wanted[one.mode].append(one.path)
        for mode, paths in wanted.items():
            snapshot.set_mode(self._git, self._env, mode, paths)

    def _leave_out_untracked(self, differences: Iterable[_Difference]) -> None:
        """Ignored files that were taken out of git and stay in the folder."""
        untracked = [one.path for one in differences if one.kind == "D" and os.path.lexists(self._top / one.path)]
        ignored = nested.ignored_among(self._git, untracked, self.ours.in_other_index("index.none"))
        if ignored:
            snapshot.remove(self._git, self._env, sorted(ignored))

    def _put_back_sparse(self, gone: Collection[str]) -> None:
        """Files that the agent's git does not write into the folder are not deleted."""
        if not gone or not self.agent.is_sparse():
            return
        listed = self._git.run("ls-files", "-z", "-t", env=self._agents_index, check=False).stdout.split("\0")
        hidden = {line[2:] for line in listed if line.startswith("S ")}.intersection(gone)
        snapshot.put_back(self._git, self._env, self.ground, hidden)

    def _differing(self, one: str, other: str) -> set[str]:
        return set(self._git.lines("diff-tree", "-r", "-z", "--name-only", "--no-renames", one, other))

    def _filters_of(self, paths: Collection[str]) -> dict[str, str]:
        """Path -> name of its filter, for those that have one."""
        if not paths:
            return {}
        asked = "".join(f"{path}\0" for path in sorted(paths))
        fields = iter(self._git.fields("check-attr", "-z", "--stdin", "filter", input=asked, env=self._env))
        found = zip(fields, fields, fields, strict=True)
        return {path: value for path, _, value in found if value not in ("unspecified", "unset", "set")}

    def _as_stored(self, paths: Collection[str]) -> set[str]:
        """Those whose content on the disk is just what the ground has stored."""
        before = snapshot.blobs_at(self._git, self.ground, paths)
        there = [path for path in before if _is_plain(self._top / path) and "\n" not in path]
        if not there:
            return set()
        asked = "".join(f"{path}\n" for path in there)
        now = self._git.run("hash-object", "--no-filters", "--stdin-paths", input=asked).stdout.split("\n")
        return {path for path, oid in zip(there, now, strict=True) if before[path] == oid}


def _parsed(raw: str) -> list[_Difference]:
    fields = iter(raw.split("\0"))
    found = []
    for facts in fields:
        if facts:
            before, mode, _, oid, kind = facts.removeprefix(":").split(" ")
            found.append(_Difference(kind[:1], next(fields), before, mode, oid))
    return found


def _has_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
