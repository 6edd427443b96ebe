"""Commits that an agent left beside its branch: on other branches, in stashes, in worktrees, or on nothing at all.

Found in the files of its repository, which is not asked. What the agent amended, reset or made
on a detached HEAD is in the logs of its refs alone, or nothing names it any more: then the commit
still lies among its objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrion.runs.git import Git
from orchestrion.runs.workspace import snapshot
from orchestrion.runs.workspace.agent_repository import AgentRepository
from orchestrion.runs.workspace.trusted import TrustedRepository

#: Refs that an agent's repository was given, or that say where its remotes are: no work of its own.
_GIVEN_REFS = ("refs/remotes/", "refs/orchestrion/")
#: Refs by whose names people know a commit.
_NAMING = ("refs/heads/", "refs/tags/")
#: So many commits that no ref has are kept, the newest.
_MOST_LEFT = 20
_UNFIT_FOR_A_REF = re.compile(r"[^A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class SideWork:
    """A look at one repository of the agent's."""

    #: Our git, which finds the agent's objects.
    git: Git
    agent: AgentRepository
    #: The user's repository of the same; what that has is not lost. None: the user has none.
    users: Git | None
    #: Makes a commit of a tree and its parents.
    make: Callable[[str, list[str]], str]

    def commits(self, handed_over: Iterable[str]) -> Iterator[tuple[str, str]]:
        """A name and the commit of each that is in none of ``handed_over``, nor in the user's repository."""
        refs = self.agent.refs()
        known = [*handed_over, *(commit for ref, commit in refs.items() if ref.startswith("refs/remotes/"))]
        kept: list[str] = []
        tags = self._new_tags(refs)
        kept += self._of_kind(("commit", "tag"), [oid for _, oid in tags])
        yield from ((ref.removeprefix("refs/"), oid) for ref, oid in tags)
        for ref, commit in sorted(refs.items()):
            if ref.startswith("refs/tags/"):
                continue
            if not ref.startswith(_GIVEN_REFS) and ref != "refs/stash" and self._is_new(commit, known):
                kept.append(commit)
                yield ref.removeprefix("refs/"), commit
        for number, commit in enumerate(self.agent.stashes(), 1):
            if self._is_new(commit, known):
                kept.append(commit)
                yield from self._of_stash(commit, number)
        for number, commit in enumerate(self.left_behind([*known, *kept]), 1):
            yield f"left/{number}", commit

    def in_project(self, handed_over: Iterable[str], refs: Mapping[str, str], own: str) -> Iterator[tuple[str, str]]:
        """The same for a linked worktree, whose ``refs`` are the project's: what its HEAD was at and its work has not.

        A branch that the agent made stays where it is; its ``own`` is about to be moved.
        """
        made = set(self.agent.logged())
        known = [
            *handed_over,
            *(oid for ref, oid in refs.items() if oid not in made and ref not in (own, "refs/stash")),
        ]
        named = {oid: ref.removeprefix("refs/") for ref, oid in refs.items() if ref.startswith(_NAMING)}
        for number, commit in enumerate(list(self.left_behind(known)), 1):
            known.append(commit)
            yield named.get(commit, f"left/{number}"), commit
        for number, commit in enumerate(self.agent.stashes(), 1):
            if self._is_new(commit, known):
                yield from self._of_stash(commit, number)

    def left_behind(self, known: list[str]) -> Iterator[str]:
        """Commits that no ref has, those that others of them contain left out."""
        heads = [worktree.head for worktree in self.agent.worktrees() if worktree.head]
        candidates = list(dict.fromkeys([*heads, *self.agent.logged(), *self._commits_of_its_own()]))
        left = self._beyond(candidates, known) if candidates else set()
        for _ in range(_MOST_LEFT):
            commit = next((one for one in candidates if one in left), None)
            if commit is None:
                return
            yield commit
            known = [*known, commit]
            left = self._beyond([one for one in candidates if one in left], known)

    def _of_stash(self, stash: str, number: int) -> Iterator[tuple[str, str]]:
        """A stash as a commit that can be merged, with its untracked files; and what was staged, if that is more."""
        parents = self.git.run("rev-parse", f"{stash}^@").stdout.split()
        if len(parents) not in (2, 3):  # somebody's own making
            yield f"stash/{number}", stash
            return
        index = {"GIT_INDEX_FILE": str(self.git.run("rev-parse", "--absolute-git-dir").stdout) + "/index.stash"}
        self.git.run("read-tree", stash, env=index)
        if len(parents) == 3:
            untracked = self.git.run("ls-tree", "-r", "-z", "--full-tree", parents[2]).stdout
            self.git.run("update-index", "-z", "--index-info", input=untracked, env=index)
        yield f"stash/{number}", self.make(self.git.run("write-tree", env=index).stdout, parents[:1])
        trees = self.git.run(
            "rev-parse", *(f"{one}^{{tree}}" for one in (parents[1], stash, parents[0]))
        ).stdout.split()
        if trees[0] not in trees[1:]:
            yield f"staged/{number}", parents[1]

    def _new_tags(self, refs: Mapping[str, str]) -> list[tuple[str, str]]:
        """Tags that the user's repository does not have, whatever they name."""
        tags = sorted((ref, oid) for ref, oid in refs.items() if ref.startswith("refs/tags/"))
        if not tags or self.users is None:
            return tags
        known = set(self.users.run("for-each-ref", "--format=%(refname)", "refs/tags").stdout.split("\n"))
        new = [(ref, oid) for ref, oid in tags if ref not in known]
        if not self.agent.has_fetched():
            return new
        # Some came from upstream, with the commits that they name.
        upstream = [f"^{oid}\n" for ref, oid in refs.items() if ref.startswith("refs/remotes/")]
        return [(ref, oid) for ref, oid in new if self._lists(f"{oid}\n", *upstream)]

    def _lists(self, *lines: str) -> bool:
        answer = self.git.run(
            "rev-list", "--max-count=1", "--ignore-missing", "--stdin", input="".join(lines), check=False
        )
        return bool(answer.stdout)

    def _commits_of_its_own(self) -> list[str]:
        """Commits in the agent's own store of objects, also those that nothing names any more."""
        names = self.agent.objects()
        for content in self.agent.packs():
            listed = self.git.run_bytes("show-index", input=content)
            names += [words[1] for line in listed.splitlines() if len(words := line.split(" ")) > 1]
        return self._of_kind(("commit",), names)

    def _of_kind(self, kinds: tuple[str, ...], names: Collection[str]) -> list[str]:
        """Those of the objects that are of one of these kinds."""
        if not names:
            return []
        asked = "".join(f"{one}\n" for one in names)
        facts = self.git.run("cat-file", "--batch-check=%(objectname) %(objecttype)", input=asked, check=False).stdout
        found = (line.partition(" ")[::2] for line in facts.splitlines())
        return [name for name, kind in found if kind in kinds]

    def _is_new(self, commit: str, known: list[str]) -> bool:
        return commit not in known and bool(self._beyond([commit], known))

    def _beyond(self, commits: list[str], known: list[str]) -> set[str]:
        """All commits that are in ``commits`` and neither in ``known`` nor in the user's repository."""
        there = self._missing_in_users(commits)
        wanted = "".join([*(f"{one}\n" for one in there), *(f"^{one}\n" for one in known)])
        answer = self.git.run("rev-list", "--ignore-missing", "--stdin", input=wanted, check=False) if there else None
        found = set(answer.stdout.split()) if answer is not None and answer.returncode == 0 else set()
        # An annotated tag is listed as the commit it names.
        return found | {one for one in there if found and one not in found and self.git.tip(one) in found}

    def _missing_in_users(self, commits: list[str]) -> list[str]:
        if self.users is None or not commits:
            return commits
        asked = "".join(f"{one}\n" for one in commits)
        listed = self.users.run("cat-file", "--batch-check=%(objectname) %(objecttype)", input=asked).stdout
        return [one for one, line in zip(commits, listed.splitlines(), strict=True) if line.endswith(" missing")]


def uncommitted_in(
    ours: TrustedRepository, folder: Path, base: str, make: Callable[[str, list[str]], str]
) -> str | None:
    """A commit of what was changed in a worktree of the agent's own, which is at ``base``; None: nothing was."""
    git = Git(folder, git_dir=ours.path, ours=True)
    index = ours.begin_index("index.worktree", None, base)
    snapshot.take(git, index)
    tree = git.run("write-tree", env=index).stdout
    return None if tree == git.run("rev-parse", f"{base}^{{tree}}").stdout else make(tree, [base])


def fit_for_a_ref(name: str) -> str:
    """``name`` as a part of the name of a ref."""
    return _UNFIT_FOR_A_REF.sub("-", name)
