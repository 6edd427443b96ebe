"""Submodules: filled without a network, and what an agent does in them is not lost.

What the user's checkout has of a submodule is in a git directory of its own; a workspace gets
a copy that borrows its objects. The agent's git there is not asked: commits and files are
read with a git directory of ours, and what is new is kept in the user's git directory of
that submodule, under ``refs/orchestrion/run/R31``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrion.core.errors import GitProblem
from orchestrion.runs import quarantine
from orchestrion.runs.commits import Committer
from orchestrion.runs.git import Git
from orchestrion.runs.workspace import nested, snapshot, trusted
from orchestrion.runs.workspace.agent_repository import AgentRepository, broken, read_bytes
from orchestrion.runs.workspace.carried import NOTHING, as_config, carried_from
from orchestrion.runs.workspace.markers import files_with_new_markers
from orchestrion.runs.workspace.side_work import SideWork, fit_for_a_ref, uncommitted_in
from orchestrion.runs.workspace.trusted import TrustedRepository

#: Where a run's commits in a submodule are kept, in the user's git directory of it; and what is beside them.
KEPT_REF = "refs/orchestrion/run/{run}"
BESIDE_REF = "refs/orchestrion/kept/{run}/{name}"
_SMALL = 64 * 1024
_DEEPEST = 8


@dataclass(frozen=True)
class Submodule:
    """A submodule of a commit."""

    name: str
    #: From the top of the repository that has it.
    path: str
    #: The commit that it is to be at.
    commit: str


@dataclass(frozen=True)
class Beside:
    """A commit that an agent left beside that at which a submodule is."""

    #: Of the submodule.
    path: str
    name: str
    commit: str
    #: The ref that it has in the user's git directory of the submodule; None: there is none.
    ref: str | None


@dataclass(frozen=True)
class Change:
    """What an agent did in a submodule."""

    path: str
    #: The commit that it is at now.
    commit: str
    #: Whether the user's git directory of the submodule has that commit.
    is_kept: bool
    #: What the agent left beside that commit, there and in submodules of it.
    beside: tuple[Beside, ...] = ()
    #: Where the objects of all this are: the agent's, and ours.
    objects: tuple[Path, ...] = ()
    #: The address that the files of the tree give for it; empty: none.
    url: str = ""
    #: Files in it that git could not take.
    untaken: tuple[str, ...] = ()
    #: Repositories in it that were left out, and whether they have work of their own.
    left_out: tuple[tuple[str, bool], ...] = ()
    #: Files in it to which conflict markers were added.
    marked: tuple[str, ...] = ()
    #: Changes in submodules of it of which the user has no git directory.
    below: tuple[Change, ...] = ()

    def below_of(self, path: str) -> Change:
        """The same, seen from the repository that has the submodule ``path``, in which this one is."""
        return replace(
            self,
            path=f"{path}/{self.path}",
            beside=tuple(replace(one, path=f"{path}/{one.path}") for one in self.beside),
            untaken=tuple(f"{path}/{file}" for file in self.untaken),
            left_out=tuple((f"{path}/{place}", asks) for place, asks in self.left_out),
            marked=tuple(f"{path}/{file}" for file in self.marked),
            below=tuple(one.below_of(path) for one in self.below),
        )

    def with_below(self, below: Iterable[Change]) -> Change:
        """The same, with what was done in submodules of it, as they are seen from here."""
        found = self
        for one in below:
            found = replace(
                found,
                beside=found.beside + one.beside,
                objects=found.objects + one.objects,
                untaken=found.untaken + one.untaken,
                left_out=found.left_out + one.left_out,
                marked=found.marked + one.marked,
                below=(*found.below, *([] if one.is_kept else [one]), *one.below),
            )
        return found

    @property
    def has_more(self) -> bool:
        """Whether there is something beside the commit."""
        return bool(self.beside or self.untaken or self.left_out or self.below)


def submodules_of(git: Git, commit: str) -> list[Submodule]:
    """The submodules that a commit names, and has."""
    names = _names_in(git, "--blob", f"{commit}:.gitmodules") or {}
    if not names:
        return []
    listed = git.lines("--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", *names)
    return [Submodule(names[path], path, oid) for path, oid in _gitlinks(listed, oid_at=2)]


def named_in(tree: Path) -> dict[str, str]:
    """The submodules that the files of a working tree name: path -> name."""
    file = tree / ".gitmodules"
    if not file.is_file() or file.is_symlink():
        return {}
    names = _names_in(Git(tree), "--file", str(file)) or {}
    return {path: name for path, name in names.items() if _is_inside(name)}


def unnamed_in(git: Git, index: Mapping[str, str], paths: Iterable[str]) -> list[str]:
    """Those of the paths that are submodules in an index whose own ``.gitmodules`` does not name them any more."""
    listed = git.lines("--literal-pathspecs", "ls-files", "-z", "--stage", "--", ".gitmodules", *paths, env=index)
    is_there = any(line.endswith("\t.gitmodules") for line in listed)
    names = _names_in(git, "--blob", ":.gitmodules", env=index) if is_there else {}
    # What cannot be read takes nothing away.
    return [path for path, _ in _gitlinks(listed, oid_at=1) if names is not None and path not in names]


def _names_in(git: Git, *where: str, env: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Path -> name of the submodules that a ``.gitmodules`` names; None: it is not there, or cannot be read."""
    asked = ("config", "-z", *where, "--get-regexp", r"^submodule\..*\.path$")
    listed = git.run(*asked, env=env, check=False)
    if listed.returncode not in (0, 1):
        return None
    entries = (entry.partition("\n") for entry in listed.stdout.split("\0"))
    return {
        path: key.removeprefix("submodule.").removesuffix(".path")
        for key, _, path in entries
        if path and _is_inside(path)
    }


def _gitlinks(listed: Iterable[str], oid_at: int) -> Iterator[tuple[str, str]]:
    """Path and commit of the submodules among lines in which git lists a tree or an index."""
    for line in listed:
        facts, _, path = line.partition("\t")
        if facts.startswith(f"{snapshot.GITLINK} "):
            yield path, facts.split(" ")[oid_at]


def fill(git: Git, commit: str, checkout: Path, tree: Path, modules: Path, depth: int = 0) -> None:
    """Fills the submodules of ``commit`` in ``tree`` as far as the user's ``checkout`` has them.

    ``modules`` is where their git directories go. Raises GitProblem (``submodule_missing``) for one whose
    commit the user's checkout does not have.
    """
    if not os.path.lexists(tree / ".gitmodules") or depth > _DEEPEST:
        return
    for one in submodules_of(git, commit):
        source = git_dir_at(checkout / one.path)
        if source is None:
            continue  # the user does not have it either
        inner = Git(checkout / one.path, git_dir=source)
        if inner.tip(one.commit) is None:
            raise GitProblem(
                f"the submodule {one.path} is to be at {one.commit[:12]}, which your checkout does not have",
                hint=f"`git submodule update --init {one.path}` in {checkout}",
                code="submodule_missing",
                path=one.path,
            )
        _fill_one(inner, source, one, tree, modules / one.name)
        inside = modules / one.name / "modules"
        fill(inner, one.commit, checkout / one.path, tree / one.path, inside, depth + 1)


def _fill_one(source: Git, source_dir: Path, one: Submodule, tree: Path, git_dir: Path) -> None:
    folder = tree / one.path
    folder.mkdir(parents=True, exist_ok=True)
    git_dir.parent.mkdir(parents=True, exist_ok=True)
    Git(folder).run("init", "--quiet", "--template=", f"--separate-git-dir={git_dir}")
    own = carried_from(source, source_dir)
    origin = own.effective.get("remote.origin.url")
    settings = [*own.content, ("core.worktree", os.path.relpath(folder, git_dir))]
    if origin:
        settings += [("remote.origin.url", origin), ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")]
    with (git_dir / "config").open("ab") as config:
        config.write(as_config(settings))
    (folder / ".git").write_bytes(os.fsencode(f"gitdir: {os.path.relpath(git_dir, folder)}\n"))
    alternates = git_dir / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_bytes(os.fsencode(f"{os.path.realpath(source_dir / 'objects')}\n"))
    _copy_remote_refs(source, git_dir)
    git = Git(folder, git_dir=git_dir)
    git.run("update-ref", "--no-deref", "HEAD", one.commit)
    git.run("reset", "--quiet", "--hard", one.commit)


def _copy_remote_refs(source: Git, git_dir: Path) -> None:
    """The agent sees where the submodule's remotes are; and what is there counts as published."""
    lines = source.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes", "refs/tags").stdout
    if lines:
        (git_dir / "packed-refs").write_bytes(os.fsencode(f"# pack-refs with: sorted \n{lines}\n"))


def git_dir_at(folder: Path) -> Path | None:
    """Where the submodule in a folder of the user's keeps its repository; None: it is not filled."""
    dot = folder / ".git"
    if dot.is_dir():
        return dot
    words = (read_bytes(dot, _SMALL) or b"").decode("utf-8", "surrogateescape").strip()
    found = folder / words.removeprefix("gitdir: ")
    return Path(os.path.realpath(found)) if words.startswith("gitdir: ") and found.is_dir() else None


@dataclass(frozen=True)
class Authorship:
    """How commits that are made for an agent look."""

    committer: Committer
    subject: str
    trailers: Mapping[str, str]


@dataclass(frozen=True)
class SubmoduleWork:
    """Looks at the submodules in one working tree when the agent is gone, and keeps what is new in them."""

    #: The working tree.
    tree: Path
    #: Where the agent's git has the git directories of its submodules.
    modules: Path
    #: The user's checkout of the same repository.
    checkout: Path
    #: Where git directories of ours may be made.
    scratch: Path
    #: The name of the run.
    run: str
    authorship: Authorship
    #: Repositories that began in it are taken in up to so many bytes of files.
    nested_bytes: int
    #: Whether what is new is brought into the user's git directories of the submodules, or only looked at.
    keeps: bool = True

    def changes(self, base: Iterable[Submodule], committed: Iterable[Submodule] = ()) -> Iterator[Change]:
        """Submodules that are not as in ``base``; ``committed`` are those in the agent's own last commit.

        Files that were changed and not committed are committed. Raises GitProblem (``workspace_broken``).
        """
        commits = {one.path: one.commit for one in base}
        named = named_in(self.tree)
        own = {one.path: one for one in committed}
        for one in base:
            if one.path not in named and (change := self._left_in(one)) is not None:
                yield change
        for path, name in named.items():
            folder, before = self.tree / path, commits.get(path)
            if os.path.lexists(folder / ".git"):
                change = self._looked_at(path, name, self._repository(folder, name), before)
                if change is not None and change.commit == before and path in own:
                    # git leaves its folder where it was when the superproject moves on: what was committed holds.
                    change = replace(change, commit=own[path].commit)
                if change is not None and (change.commit != before or change.has_more):
                    yield change
            elif before is not None and folder.is_dir() and any(folder.iterdir()):
                yield Change(path, before, is_kept=False)  # files in the empty folder of one that is not filled
            elif path in own and folder.is_dir():
                yield from self._emptied(own[path], before)

    def _emptied(self, one: Submodule, before: str | None) -> Iterator[Change]:
        """One whose folder the agent emptied (``git submodule deinit``), which takes back no commit."""
        git_dir, source = self.modules / one.name, git_dir_at(self.checkout / one.path)
        if git_dir.is_symlink() or not git_dir.is_dir():
            return
        repository = AgentRepository(self.tree / one.path, git_dir=git_dir)
        objects = [trusted.objects_of(place) for place in (source, git_dir) if place is not None]
        ours = trusted.bare(self.scratch / "modules" / one.name, self.tree / one.path, NOTHING, one.commit, objects)
        is_kept = ours.git.tip(one.commit) is not None and self._keep(ours, repository, source, one.commit)
        beside = self._keep_beside(ours, repository, source, one.path, one.commit)
        if one.commit != before or beside:
            places = (git_dir / "objects", ours.path / "objects")
            yield Change(one.path, one.commit, is_kept, beside, places, self._setting(one.name, "url"))

    def _left_in(self, removed: Submodule) -> Change | None:
        """What the agent did in a submodule before it took it out."""
        git_dir = self.modules / removed.name
        source = git_dir_at(self.checkout / removed.path)
        if source is None or git_dir.is_symlink() or not git_dir.is_dir():
            return None
        repository = AgentRepository(self.tree / removed.path, git_dir=git_dir)
        scratch = self.scratch / "modules" / f"{removed.name}.removed"
        objects = [trusted.objects_of(source), git_dir / "objects"]
        ours = trusted.bare(scratch, self.tree, NOTHING, removed.commit, objects)
        beside = self._keep_beside(ours, repository, source, removed.path, removed.commit)
        return Change(removed.path, removed.commit, is_kept=True, beside=beside) if beside else None

    def _setting(self, name: str, field: str) -> str:
        asked = ("config", "--file", str(self.tree / ".gitmodules"), f"submodule.{name}.{field}")
        return Git(self.tree).run(*asked, check=False).stdout

    def _repository(self, folder: Path, name: str) -> AgentRepository:
        """The agent's repository of a submodule: in its folder, or at the place for it, and nowhere else."""
        dot = folder / ".git"
        if dot.is_dir() and not dot.is_symlink():
            return AgentRepository(folder)
        words = (read_bytes(dot, _SMALL) or b"").decode("utf-8", "surrogateescape").strip()
        place = Path(os.path.realpath(folder / words.removeprefix("gitdir: ")))
        if not words.startswith("gitdir: ") or place != Path(os.path.realpath(self.modules / name)):
            raise broken(self.tree, f"the .git file of {folder.relative_to(self.tree)} leads elsewhere")
        return AgentRepository(folder, git_dir=place)

    def _looked_at(self, path: str, name: str, repository: AgentRepository, before: str | None) -> Change | None:
        """The commit that has all that is in a submodule, which was at ``before``; made for the agent where it left
        something out.
        """
        head = repository.head()
        if head is None:
            return None
        source = git_dir_at(self.checkout / path)
        ours = self._git_dir_of_ours(path, name, repository, source, head)
        if before is not None and ours.git.tip(before) is None:
            before = None  # the agent's own doing
        index = ours.begin_index("index", repository, head)
        below = self._below(path, repository, ours, index, head, before)
        taken = snapshot.take(ours.git, index)
        scaffolds, left_out = self._take_nested(path, repository, ours, index, taken)
        commit = self._committed(ours, index, head)
        beside = self._keep_beside(ours, repository, source, path, commit)
        for one in scaffolds:
            beside += self._keep_beside(ours, self._borrowed(ours, one), source, path, commit, f"nested/{one.path}/")
        return Change(
            path,
            commit,
            self._keep(ours, repository, source, commit),
            beside,
            (repository.common_dir / "objects", ours.path / "objects"),
            self._setting(name, "url"),
            tuple(f"{path}/{file}" for file in taken.refused),
            tuple((f"{path}/{one.path}", not one.is_clone or nested.has_own_work(ours, one)) for one in left_out),
            tuple(f"{path}/{file}" for file in (files_with_new_markers(ours.git, before, commit) if before else [])),
        ).with_below(below)

    def _below(
        self,
        path: str,
        repository: AgentRepository,
        ours: TrustedRepository,
        index: dict[str, str],
        head: str,
        before: str | None,
    ) -> list[Change]:
        """What the agent did in submodules of a submodule, which its index gets; by their paths from this tree."""
        tree = self.tree / path
        inner = replace(
            self, tree=tree, modules=repository.git_dir / "modules", checkout=self.checkout / path, scratch=ours.path
        )
        ground = submodules_of(ours.git, before) if before else []
        named, found = named_in(tree), []
        for change in inner.changes(ground, submodules_of(ours.git, head)):
            if change.path in named:
                snapshot.set_gitlink(ours.git, index, change.path, change.commit)
            found.append(change.below_of(path))
        return found

    def _take_nested(
        self,
        path: str,
        repository: AgentRepository,
        ours: TrustedRepository,
        index: dict[str, str],
        taken: snapshot.Taken,
    ) -> tuple[list[nested.Nested], list[nested.Nested]]:
        """Takes in repositories that began in a submodule. Those, and what is left out."""
        tree = self.tree / path
        own = {worktree.folder for worktree in repository.worktrees()} | {tree / inside for inside in named_in(tree)}
        return nested.take_in(ours, index, taken, own, self.nested_bytes)

    def _committed(self, ours: TrustedRepository, index: dict[str, str], head: str) -> str:
        """The agent's last commit, or one behind it with what it left uncommitted."""
        tree, made = ours.git.run("write-tree", env=index).stdout, self.authorship
        if tree == ours.git.run("rev-parse", f"{head}^{{tree}}").stdout:
            return head
        return made.committer.commit(ours.git, tree, [head], made.subject, made.trailers)

    def _borrowed(self, ours: TrustedRepository, scaffold: nested.Nested) -> AgentRepository:
        """A repository that began in the submodule; its objects are found from now on."""
        repository = AgentRepository(ours.tree / scaffold.path)
        ours.borrow(repository.common_dir / "objects")
        return repository

    def _git_dir_of_ours(
        self, path: str, name: str, repository: AgentRepository, source: Path | None, head: str
    ) -> TrustedRepository:
        folder = self.tree / path
        objects = [trusted.objects_of(one) for one in (source, repository.common_dir) if one is not None]
        settings = carried_from(Git(folder, git_dir=source), source) if source else NOTHING
        return trusted.bare(self.scratch / "modules" / name, folder, settings, head, objects)

    def _keep(self, ours: TrustedRepository, repository: AgentRepository, source: Path | None, commit: str) -> bool:
        """Brings a commit into the user's git directory of the submodule; whether it is there, or at its remote."""
        if source is None:
            return _is_published(ours.git, repository, commit)
        git = Git(self.checkout, git_dir=source)
        if not self.keeps:
            return git.tip(commit) is not None or self._is_as_kept(git, ours, commit)
        if git.tip(commit) is None:
            ours.git.run("update-ref", trusted.HANDOVER_REF, commit)
            handed_over = f"+{trusted.HANDOVER_REF}:{KEPT_REF.format(run=self.run)}"
            quarantine.fetch(git, ours.path, handed_over, checked=True)
        return True

    def _keep_beside(
        self,
        ours: TrustedRepository,
        repository: AgentRepository,
        source: Path | None,
        path: str,
        commit: str,
        under: str = "",
    ) -> tuple[Beside, ...]:
        """Keeps side branches, stashes and what is uncommitted in worktrees in the user's git directory, if there is
        one, by names that begin with ``under``.
        """
        users = Git(self.checkout, git_dir=source) if source else None
        made, found = self.authorship, []

        def make(tree: str, parents: list[str]) -> str:
            return made.committer.commit(ours.git, tree, parents, made.subject, made.trailers)

        beside = list(SideWork(ours.git, repository, users, make).commits([commit]))
        for worktree in repository.worktrees():
            base = worktree.head if worktree.head and ours.git.tip(worktree.head) else commit
            if uncommitted := uncommitted_in(ours, worktree.folder, base, make):
                beside.append((f"worktrees/{worktree.folder.name}", uncommitted))
        for name, one in beside:
            ref = BESIDE_REF.format(run=self.run, name=fit_for_a_ref(f"{under}{name}")) if users else None
            if users and ref and self.keeps:
                ours.git.run("update-ref", trusted.HANDOVER_REF, one)
                quarantine.fetch(users, ours.path, f"+{trusted.HANDOVER_REF}:{ref}", checked=True)
            found.append(Beside(path, f"{under}{name}", one, ref))
        return tuple(found)

    def _is_as_kept(self, git: Git, ours: TrustedRepository, commit: str) -> bool:
        """Whether what was kept of the run before has the same files."""
        kept = git.tip(KEPT_REF.format(run=self.run))
        asked = "rev-parse", "--verify", "--quiet"
        return (
            kept is not None
            and git.run(*asked, f"{kept}^{{tree}}").stdout == ours.git.run(*asked, f"{commit}^{{tree}}").stdout
        )


def _is_published(git: Git, repository: AgentRepository, commit: str) -> bool:
    """Whether a remote of the submodule has the commit, as far as the agent's repository knows."""
    remotes = [known for ref, known in repository.refs().items() if ref.startswith("refs/remotes/")]
    wanted = "".join([f"{commit}\n", *(f"^{known}\n" for known in remotes)])
    answer = git.run("rev-list", "--max-count=1", "--ignore-missing", "--stdin", input=wanted, check=False)
    return answer.returncode == 0 and not answer.stdout


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return not path.startswith("/") and ".." not in parts and ".git" not in [part.lower() for part in parts]
