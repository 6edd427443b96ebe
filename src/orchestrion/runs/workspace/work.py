"""What belongs to the work of a run: all that its agent made, whatever state it left git in.

When the agent is gone, everything in the workspace that differs from what was there when it came
(the *ground*: the base, and what the set-up made) becomes one commit behind the agent's own
commits. The agent's repository is read as data, and changed only where a pipe lies. What cannot go
into that commit is kept by other means and told: work on a side branch, in a stash, in a worktree
inside the worktree, in a submodule; and what only a person can decide sends it to review.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrion.core.errors import GitProblem
from orchestrion.runs.git import refusal
from orchestrion.runs.workspace import markers, nested, pipes, snapshot, submodules, trusted
from orchestrion.runs.workspace.agent_repository import AgentRepository, broken, read_bytes
from orchestrion.runs.workspace.nested import Nested
from orchestrion.runs.workspace.places import Workspace
from orchestrion.runs.workspace.project_repository import ProjectRepository
from orchestrion.runs.workspace.remarks import Remark
from orchestrion.runs.workspace.side_work import SideWork, fit_for_a_ref, uncommitted_in
from orchestrion.runs.workspace.submodules import Authorship, SubmoduleWork
from orchestrion.runs.workspace.told_git import ToldGit
from orchestrion.runs.workspace.trusted import TrustedRepository

#: Repositories in a workspace whose files are more than this are left out and told, in bytes.
NESTED_BYTES = 50_000_000
#: What a run leaves that was ended is saved within this time, in seconds, or stays where it is.
SALVAGE_S = 10.0
#: A remark names so many paths.
_NAMED = 50


@dataclass(frozen=True)
class Work:
    """The work of a run, as it is handed over."""

    #: The commit that has it.
    head: str
    #: What a person should know.
    remarks: tuple[Remark, ...] = ()
    #: Ref in our git directory -> commit, for what is kept beside ``head``.
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def asks(self) -> Remark | None:
        """Why it cannot be accepted without a person; None: it can."""
        return next((remark for remark in self.remarks if remark.asks), None)

    @property
    def is_unfinished(self) -> bool:
        """Whether the agent left a merge open: it could conclude that itself."""
        return any(remark.code == "open_merge" for remark in self.remarks)


class LeftUncommitted(GitProblem):
    """git could not take every file that the agent made; ``work`` has the others."""

    code = "left_uncommitted"

    def __init__(self, work: Work, files: list[str]) -> None:
        super().__init__(
            f"git cannot take {', '.join(files[:20])}",
            hint="the rest is committed; look into the workspace, which is kept",
            files=files,
        )
        self.work = work


def collect(
    project: ProjectRepository,
    workspace: Workspace,
    authorship: Authorship,
    *,
    nested_bytes: int = NESTED_BYTES,
    keeps: bool = True,
) -> Work:
    """Makes one commit of all that an agent left. To be called when the agent is gone.

    Without ``keeps`` nothing is brought into the user's submodules: it is only looked at.

    Raises LeftUncommitted, GitProblem (``workspace_broken`` for a repository that is not believed).
    """
    collection = _Collection(project, workspace, authorship, nested_bytes, keeps)
    try:
        return collection.work()
    except OSError as problem:
        if problem.errno not in (errno.EACCES, errno.EPERM):
            raise
        raise broken(workspace.path, f"{problem.filename} cannot be read: {problem.strerror}") from problem
    except GitProblem as problem:
        # What git cannot make sense of is the agent's: nothing else here was written by anybody but us. A git that
        # could not start, or was killed, has said nothing about that.
        if problem.code == "git_timeout":
            raise broken(workspace.path, problem.message) from problem
        if problem.code != "git" or problem.details.get("exit_code", 0) <= 0:
            raise
        raise broken(workspace.path, problem.message) from problem


def salvage(project: ProjectRepository, workspace: Workspace, authorship: Authorship) -> Work:
    """As ``collect``, for work that will not be accepted: the files of a workspace are saved even if its repository
    is not believed. Raises GitProblem, OSError.
    """
    try:
        return collect(project, workspace, authorship)
    except LeftUncommitted as problem:
        told = Remark(problem.code, problem.message)
        return replace(problem.work, remarks=(*problem.work.remarks, told))
    except GitProblem as problem:
        if problem.code != "workspace_broken":
            raise
        try:
            collection = _Collection(project, workspace, authorship, NESTED_BYTES, keeps=True)
        except GitProblem:
            # Ours is not as we made it either. What was there before the agent came is not known any more.
            trusted.refuse_if_gone(workspace.path)
            ours = trusted.make(project.common_dir, workspace, project.handed_on)
            ours.remember(finished=True)
            collection = _Collection(project, workspace, authorship, NESTED_BYTES, keeps=True)
        return collection.files_alone(problem)


def repository_of(project: ProjectRepository, workspace: Workspace) -> TrustedRepository:
    """Our git directory of a workspace; made now for one of version 0.1.0, which had none. Raises GitProblem."""
    trusted.refuse_if_gone(workspace.path)
    ours = trusted.found(project.common_dir, workspace.path, project.handed_on)
    if ours is not None:
        return ours
    ours = trusted.make(project.common_dir, workspace, project.handed_on)
    linked_to = trusted.linked_git_dir(workspace.path, project.common_dir)
    ours.git.run("read-tree", workspace.base)
    note = former_note(project, workspace.path) or {"included": []}
    # Files that were copied into it are not the agent's work.
    snapshot.put(ours.git, ours.in_other_index("index"), note["included"], snapshot.Taken())
    ours.remember(
        finished=True,
        ground=ours.git.run("write-tree").stdout,
        alternates=os.fsdecode(trusted.as_alternates([trusted.objects_of(project.common_dir)])),
        linked_to=str(linked_to or ""),
    )
    return ours


def former_note(project: ProjectRepository, path: Path) -> dict[str, Any] | None:
    """What version 0.1.0 wrote down of a workspace, in the agent's repository; None: it is none of its."""
    git_dir = trusted.linked_git_dir(path, project.common_dir) or path / ".git"
    try:
        note = json.loads(read_bytes(git_dir / "orchestrion.json", 16 * 1024 * 1024) or b"null")
    except ValueError:
        return None
    wanted = {"base": str, "branch": str, "finished": bool, "included": list}
    is_one = isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in wanted.items())
    return note if is_one else None


class _Collection:
    """One look at a workspace."""

    def __init__(
        self, project: ProjectRepository, workspace: Workspace, authorship: Authorship, nested_bytes: int, keeps: bool
    ) -> None:
        self._project = project
        self._workspace = workspace
        self._authorship = authorship
        self._nested_bytes = nested_bytes
        self._keeps = keeps
        self._ours = repository_of(project, workspace)
        self._git = self._ours.git
        self._index = self._ours.sound_index(workspace.base)
        self._agent = trusted.agent_repository(self._ours)
        self._remarks: list[Remark] = []
        self._kept: dict[str, str] = {}
        #: Files that the agent hides from git by itself.
        self._hidden: list[str] = []
        #: Where the submodules were that the base names.
        self._base_submodules: dict[str, str] = {}

    def work(self) -> Work:
        """The steps, and what they add up to."""
        pipes.take_away(self._workspace.path)
        self._agent.verify(self._ours.note.alternates.encode("utf-8", "surrogateescape"))
        self._ours.take_shallow(self._agent.shallow())
        tip = self._tip()
        added = self._added_excludes()
        shown = self._untracked() if added else []
        self._ours.exclude(self._project.handed_on.excludes + added)
        self._hidden = sorted(set(shown) - set(self._untracked())) if added else []
        taken = snapshot.take(self._git, self._index)
        told = ToldGit(self._ours, self._agent, self._index, self._ours.note.ground or self._workspace.base, tip)
        unmerged = told.take(taken)
        left_out = self._take_nested(taken)
        self._take_submodules(tip, taken)
        self._tell_filtered(told.take_filtered(self._project.handed_on.filters))
        tree = self._without_ground(self._git.run("write-tree").stdout)
        self._ours.seal_index()
        head = self._commit(tree, tip)
        is_empty = tree == self._tree_of(self._workspace.base)
        self._tell_undone(told.undone(tree), tip)
        self._tell_open_merge(unmerged)
        self._tell_markers(head)
        self._keep_side_work(head, tip)
        self._keep_hidden()
        self._tell_left_out(left_out, is_empty)
        if is_empty and (self._kept or any(remark.code == "submodule_side_work" for remark in self._remarks)):
            self._ask_about_side_work()
        work = Work(head, tuple(self._remarks), self._kept)
        if taken.refused:
            raise LeftUncommitted(work, taken.refused)
        return work

    def files_alone(self, problem: GitProblem) -> Work:
        """The files of a workspace whose repository is not believed, as one commit on its base."""
        pipes.take_away(self._workspace.path)
        self._ours.borrow_only(trusted.lent_by(self._project.common_dir, self._project.handed_on))
        self._index = self._ours.begin_index("index", None, self._workspace.base)
        taken = snapshot.take(self._git, self._index)
        scaffolds, _ = nested.take_in(self._ours, self._index, taken, (), self._nested_bytes)
        for inner in scaffolds:
            self._keep_history(inner)
        tree = self._without_ground(self._git.run("write-tree").stdout)
        head = self._commit(tree, self._workspace.base)
        return Work(
            head, (Remark(problem.code, f"{problem.message}; its files (but for those in submodules) were saved"),)
        )

    def _refuse_cut_history(self, head: str) -> None:
        """History that the agent's repository has cut off must be whole in the project all the same.

        Raises GitProblem (``workspace_broken``) for the work; what is beside it is left out.
        """
        cut = set(self._agent.shallow().split()) - set(self._project.shallow().split())
        self._ours.take_shallow(self._project.shallow())
        if not cut:
            return
        if not self._is_whole(head):
            said = "its work builds on history that is cut off, as `git fetch --depth` does it: what is before that is "
            raise broken(self._workspace.path, f"{said}in no repository here")
        for ref in [ref for ref, commit in self._kept.items() if not self._is_whole(commit)]:
            del self._kept[ref]
            self._git.run("update-ref", "-d", ref)
            said = f"{ref.removeprefix(f'{trusted.KEPT_REFS}/')} builds on history that is cut off: it is not kept"
            self._remarks.append(Remark("side_work_left_out", said))

    def _is_whole(self, commit: str) -> bool:
        listed = self._git.run("rev-list", "--quiet", commit, f"^{self._workspace.base}", check=False)
        return listed.returncode == 0

    # -- the tree -----------------------------------------------------------------------------

    def _tip(self) -> str:
        """The agent's own last commit, or the base."""
        tip = self._agent.head()
        if tip is None:
            return self._workspace.base
        if self._git.tip(tip) is None:
            raise broken(self._workspace.path, f"its HEAD, {tip[:12]}, is no commit that can be read")
        return tip

    def _added_excludes(self) -> bytes:
        """What the agent or its tools added to the list of what git ignores beside ``.gitignore``."""
        ours = set(self._ours.note.excludes.encode("utf-8", "surrogateescape").splitlines())
        added = [line for line in self._agent.excludes().splitlines() if line not in ours]
        return b"".join(line + b"\n" for line in added if line.strip() and not line.startswith(b"#"))

    def _untracked(self) -> list[str]:
        return self._git.lines("ls-files", "-z", "--others", "--exclude-standard", env=self._index)

    def _take_nested(self, taken: snapshot.Taken) -> list[Nested]:
        """Takes in the files of repositories that began here. Returns those that are left out."""
        own = {worktree.folder for worktree in self._agent.worktrees()}
        own |= {self._workspace.path / path for path in submodules.named_in(self._workspace.path)}
        own |= {self._workspace.path / path.rstrip("/") for path in self._ours.note.ground_nested}
        scaffolds, left_out = nested.take_in(self._ours, self._index, taken, own, self._nested_bytes)
        for inner in scaffolds:
            self._keep_history(inner)
        return left_out

    def _keep_history(self, inner: Nested) -> None:
        """Commits of a scaffold are not in the run's own; they are kept beside it."""
        repository = AgentRepository(self._workspace.path / inner.path)
        self._ours.borrow(repository.common_dir / "objects")
        for ref, commit in repository.refs().items():
            if self._git.tip(commit):
                self._keep(f"nested/{inner.path}/{ref.removeprefix('refs/')}", commit)

    def _take_submodules(self, tip: str, taken: snapshot.Taken) -> None:
        base = self._workspace.base
        before = submodules.submodules_of(self._git, base)
        self._base_submodules = {one.path: one.commit for one in before}
        if not before and not _is_there(self._workspace.path / ".gitmodules"):
            return
        looked_at = SubmoduleWork(
            self._workspace.path,
            self._agent.git_dir / "modules",
            self._project.users_checkout,
            self._ours.path,
            self._workspace.run,
            self._authorship,
            self._nested_bytes,
            self._keeps,
        )
        named = submodules.named_in(self._workspace.path)
        self._take_out(submodules.unnamed_in(self._git, self._index, self._base_submodules), taken)
        committed = submodules.submodules_of(self._git, tip)
        for change in looked_at.changes(before, committed):
            if change.path in named:
                snapshot.set_gitlink(self._git, self._index, change.path, change.commit)
            taken.refused += change.untaken
            self._tell_submodule(change)

    def _take_out(self, gone: list[str], taken: snapshot.Taken) -> None:
        """Submodules that are none any more: git leaves their folders where they are not empty. Files that are there
        now were hidden behind them.
        """
        if not gone:
            return
        snapshot.remove(self._git, self._index, gone)
        asked = ("--literal-pathspecs", "ls-files", "-z", "--others", "--exclude-standard", "--", *gone)
        files = [path for path in self._git.lines(*asked, env=self._index) if not path.endswith("/")]
        snapshot.put(self._git, self._index, files, taken)

    def _without_ground(self, end: str) -> str:
        """The base with what the agent changed: path by path, what differs between the ground and the end."""
        ground = self._ours.note.ground
        base = self._workspace.base
        if ground is None:
            return end
        index = self._ours.begin_index("index.work", None, base)
        fields = iter(self._git.fields("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", ground, end))
        lines = []
        for facts in fields:
            if facts:
                _, mode, _, oid, _ = facts.split(" ")
                lines.append(f"{mode} {oid}\t{next(fields)}\0")
        if lines:
            lines.sort(key=lambda line: not line.startswith("000000"))  # what is gone makes room first
            self._git.run("update-index", "-z", "--index-info", input="".join(lines), env=index)
        return self._git.run("write-tree", env=index).stdout

    def _commit(self, tree: str, tip: str) -> str:
        parents = self._parents(tip)
        merged = [one for one in self._agent.merged_with() if self._git.tip(one)]
        if tree == self._tree_of(parents[0]) and parents[1:] == merged == []:
            return parents[0]
        made = self._authorship
        return made.committer.commit(self._git, tree, [*parents, *merged], made.subject, made.trailers)

    def _parents(self, tip: str) -> list[str]:
        """The commits to build on: they contain the base, or merging would bring back what the agent took out of it.

        History that has nothing in common with the base cannot be merged: it is kept.
        """
        base = self._workspace.base
        if self._git.is_ancestor(base, tip):
            return [tip]
        if self._git.is_ancestor(tip, base):
            return [base]
        if self._git.run("merge-base", base, tip, check=False).returncode == 0:
            return [base, tip]
        ref = self._keep("history", tip)
        self._remarks.append(
            Remark("history_replaced", "the agent began a history of its own; its files were taken", refs=(ref,))
        )
        return [base]

    def _tree_of(self, commit: str) -> str:
        return self._git.run("rev-parse", f"{commit}^{{tree}}").stdout

    # -- what is to be told -------------------------------------------------------------------

    def _tell_filtered(self, taken: dict[str, str]) -> None:
        if taken:
            names = ", ".join(sorted(set(taken.values())))
            said = f"files go through the filter {names}, which is not set up in your repository: taken as committed"
            self._remarks.append(Remark("filter_unknown", said, tuple(taken)[:_NAMED], asks=True))

    def _tell_undone(self, undone: list[str], tip: str) -> None:
        """Files that were committed without ever having been in the folder, or that were taken out of it since."""
        if undone:
            ref = self._keep("committed", tip)
            said = (
                f"the agent committed changes that its folder does not have: {', '.join(undone[:5])}; not in its work"
            )
            self._remarks.append(Remark("commit_undone", said, tuple(undone[:_NAMED]), (ref,)))

    def _tell_open_merge(self, unmerged: list[str]) -> None:
        begun = self._agent.unfinished() or ("merge" if unmerged else None)
        if begun is None:
            return
        files = f" in {', '.join(unmerged[:5])}" if unmerged else ""
        self._remarks.append(
            Remark("open_merge", f"the agent left a {begun} open{files}", tuple(unmerged[:_NAMED]), asks=True)
        )

    def _tell_markers(self, head: str) -> None:
        found = markers.files_with_new_markers(self._git, self._workspace.base, head)
        if found and not any(remark.code == "open_merge" for remark in self._remarks):
            said = f"conflict markers stand in {', '.join(found[:5])}"
            self._remarks.append(Remark("conflict_markers", said, tuple(found[:_NAMED]), asks=True))

    def _tell_left_out(self, left_out: list[Nested], is_empty: bool) -> None:
        for inner in left_out:
            asks = is_empty or not inner.is_clone or nested.has_own_work(self._ours, inner)
            kind = "a clone of another repository" if inner.is_clone else "a repository of its own, and large"
            kind = "a repository whose git directory is elsewhere" if inner.is_linked else kind
            said = f"{inner.path} is {kind}: nothing of it was taken"
            self._remarks.append(Remark("nested_left_out", said, (inner.path,), asks=asks))

    def _tell_submodule(self, change: submodules.Change) -> None:
        path = change.path
        for place in dict.fromkeys(one.path for one in change.beside):
            self._tell_beside(place, change, [one for one in change.beside if one.path == place])
        if change.is_kept and change.commit != self._base_submodules.get(path):
            said = f"the submodule {path} is at {change.commit[:12]}; push it before others need it"
            self._remarks.append(Remark("submodule_moved", said, (path,)))
        for inside, asks in change.left_out:
            said = f"{inside} is a repository of its own in the submodule {path}: nothing of it was taken"
            self._remarks.append(Remark("nested_left_out", said, (inside,), asks=asks))
        if change.marked:
            said = f"conflict markers stand in {', '.join(change.marked[:5])}, in a submodule"
            self._remarks.append(Remark("conflict_markers", said, change.marked[:_NAMED], asks=True))
        for one in (*([] if change.is_kept else [change]), *change.below):
            self._ask_about_submodule(one, change.path)

    def _tell_beside(self, path: str, change: submodules.Change, beside: list[submodules.Beside]) -> None:
        """Work beside the commit of a submodule is kept there, or here where the user has no repository of it."""
        is_there = all(one.ref for one in beside)
        if not is_there:
            for place in change.objects:
                self._ours.borrow(place)
        refs = tuple(one.ref or self._keep(f"beside/{path}/{one.name}", one.commit) for one in beside)
        where = "there" if is_there else "here"
        said = f"the agent left work beside its commit in the submodule {path}; it is kept {where}"
        self._remarks.append(Remark("submodule_side_work", said, (path,), refs))

    def _ask_about_submodule(self, change: submodules.Change, outermost: str) -> None:
        """Commits of a submodule that the user has nowhere are kept in the project: there they can be pushed from."""
        for place in change.objects:
            self._ours.borrow(place)
        if not change.objects or self._git.tip(change.commit) is None:
            said = f"work in the submodule {change.path} exists in the workspace alone, which is kept"
            self._remarks.append(Remark("submodule_changed", said, (change.path,), asks=True))
            return
        # One inside another has a name that is no folder of the other's.
        where = f"submodules/{outermost}" if outermost == change.path else f"inner/{change.path.replace('/', '-')}"
        ref = self._keep(where, change.commit)
        said = f"the submodule {change.path} is at a commit that its remote ({change.url}) lacks; it is kept here"
        push = f"git push -- {shlex.quote(change.url)} {ref}:refs/heads/orchestrion-{self._workspace.run}"
        # An address that the agent chose may be a trap: a person looks at it first.
        commands = (push,) if change.url in self._known_addresses() else ()
        self._remarks.append(Remark("submodule_changed", said, (change.path,), (ref,), asks=True, commands=commands))

    def _known_addresses(self) -> set[str]:
        """Where the user fetches from already."""
        effective = self._project.handed_on.effective
        return {value for key, value in effective.items() if re.fullmatch(r"(remote|submodule)\..*\.url", key)}

    def _keep_side_work(self, head: str, tip: str) -> None:
        """Commits of the agent that are in none of those, and what is uncommitted in worktrees of its own.

        Raises GitProblem (``workspace_broken``) where the work is not whole.
        """
        for name, commit in self._side_commits([head, tip]):
            self._keep(name, commit)
        for worktree in self._agent.worktrees():
            base = worktree.head if worktree.head and self._git.tip(worktree.head) else self._workspace.base
            uncommitted = uncommitted_in(self._ours, worktree.folder, base, self._make)
            if uncommitted is not None:
                self._keep(f"worktrees/{worktree.folder.name}", uncommitted)
        self._refuse_cut_history(head)
        told = {ref for remark in self._remarks for ref in remark.refs}
        refs = tuple(ref for ref in sorted(map(self._published, self._kept)) if ref not in told)
        if refs:
            said = "the agent left work beside its branch, or behind it (amended, reset, on no branch); it is kept"
            self._remarks.append(Remark("side_work_kept", said, refs=refs))

    def _keep_hidden(self) -> None:
        """Files that only the agent's own list of ignored patterns hides are no work, and not lost."""
        if not self._hidden:
            return
        files = [path for path in self._hidden if not path.endswith("/")]
        refs: tuple[str, ...] = ()
        if files and nested.size_of(self._workspace.path, files) <= self._nested_bytes:
            index = self._ours.begin_index("index.hidden", None, self._workspace.base)
            snapshot.put(self._git, index, files, snapshot.Taken())
            tree, made = self._git.run("write-tree", env=index).stdout, self._authorship
            base = self._workspace.base
            commit = made.committer.commit(self._git, tree, [base], made.subject, made.trailers)
            refs = (self._keep("hidden", commit),)
        said = f"the agent's own .git/info/exclude hides {', '.join(self._hidden[:5])}: no part of the work"
        self._remarks.append(Remark("hidden_left_out", said, tuple(self._hidden[:_NAMED]), refs))

    def _side_commits(self, handed_over: list[str]) -> Iterator[tuple[str, str]]:
        if self._workspace.isolation == "clone":
            return SideWork(self._git, self._agent, self._project.git, self._make).commits(handed_over)
        listed = self._project.git.run("for-each-ref", "--format=%(refname) %(objectname)").stdout.splitlines()
        refs = dict(line.split(" ") for line in listed)
        own = f"refs/heads/{self._workspace.branch}"
        return SideWork(self._git, self._agent, None, self._make).in_project(handed_over, refs, own)

    def _make(self, tree: str, parents: list[str]) -> str:
        made = self._authorship
        return made.committer.commit(self._git, tree, parents, made.subject, made.trailers)

    def _keep(self, name: str, commit: str) -> str:
        """Gives a commit a ref of its own in our git directory. Returns the ref that it will have in the project."""
        ref = f"{trusted.KEPT_REFS}/{fit_for_a_ref(name)}"
        answer = self._git.run("update-ref", ref, commit, check=False)
        if answer.returncode != 0:
            raise refusal(answer)
        self._kept[ref] = commit
        return self._published(ref)

    def _published(self, ref: str) -> str:
        return f"{trusted.KEPT_REFS}/{self._workspace.run}{ref.removeprefix(trusted.KEPT_REFS)}"

    def _ask_about_side_work(self) -> None:
        self._remarks.append(
            Remark(
                "work_elsewhere", "the run's own branch has nothing new; what the agent made is elsewhere", asks=True
            )
        )


def record_ground(project: ProjectRepository, workspace: Workspace) -> None:
    """After the set-up: what is there now is not the work. New files are hidden from the agent's git.

    Raises GitProblem.
    """
    ours = repository_of(project, workspace)
    taken = snapshot.take(ours.git, ours.sound_index(workspace.base))
    ours.seal_index()
    ground = ours.git.run("write-tree").stdout
    base = workspace.base
    added = ours.git.lines("diff-tree", "-r", "-z", "--name-only", "--diff-filter=A", "--no-renames", base, ground)
    there = set(ours.git.lines("ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree", base))
    places = dict.fromkeys(_first_new(path, there) for path in [*added, *taken.nested])
    excludes = project.handed_on.excludes + b"".join(_pattern(place) for place in places)
    if workspace.isolation == "clone":
        (workspace.path / ".git" / "info" / "exclude").write_bytes(excludes)
    ours.remember(ground=ground, ground_nested=taken.nested, excludes=excludes.decode("utf-8", "surrogateescape"))


def _first_new(path: str, folders: Collection[str]) -> str:
    """The outermost folder of ``path`` that is not among ``folders``, with a slash; else the path itself."""
    parts = path.rstrip("/").split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if folder not in folders:
            return f"{folder}/"
    return path


def _pattern(path: str) -> bytes:
    """A line of an exclude file that means just this path; empty for one that no line can hold."""
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)
    return b"" if "\n" in path else f"/{escaped}\n".encode("utf-8", "surrogateescape")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
