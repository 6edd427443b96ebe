"""The user's repository, as the runs of a project see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from orchestrion.core.errors import InvalidInput
from orchestrion.runs.git import Git
from orchestrion.runs.workspace.carried import Carried, carried_from


@dataclass(frozen=True)
class ProjectRepository:
    """Where the user's repository is, and what it hands on to workspaces."""

    #: The main working tree.
    root: Path
    #: The git directory that all its worktrees share.
    common_dir: Path
    #: Further paths in the git directory that every workspace gets, from the settings.
    carry: tuple[str, ...] = ()
    #: The checkout whose settings, submodules and untracked files count; None, or gone: the main one.
    checkout: Path | None = None

    @cached_property
    def git(self) -> Git:
        """The user's repository, asked with the user's settings."""
        return Git(self.root)

    @cached_property
    def handed_on(self) -> Carried:
        """What a workspace gets from it, as it is set now. Raises InvalidInput for a ``carry`` that leads elsewhere."""
        for path in self.carry:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise InvalidInput(
                    f"workspace.carry names {path!r}, which is not in the git directory",
                    hint="name paths relative to it, such as git-crypt",
                    code="invalid_carry",
                )
        git = Git(self.users_checkout)
        is_linked = not (self.users_checkout / ".git").is_dir()
        git_dir = Path(git.run("rev-parse", "--absolute-git-dir").stdout) if is_linked else None
        return carried_from(git, self.common_dir, self.carry, git_dir)

    def shallow(self) -> bytes:
        """The commits whose parents it does not have, one a line: it was cloned without all of the history."""
        try:
            return (self.common_dir / "shallow").read_bytes()
        except FileNotFoundError:
            return b""

    def as_seen_from(self, checkout: str | None) -> ProjectRepository:
        """The same repository, for work that began in this checkout."""
        return replace(self, checkout=Path(checkout)) if checkout else self

    @property
    def users_checkout(self) -> Path:
        """The checkout in which the work began: it may have settings, filters and submodules of its own."""
        return self.checkout if self.checkout and self.checkout.is_dir() else self.root

    @classmethod
    def of_run(cls, root: str, git_dir: str | None, carry: Iterable[str], checkout: str | None) -> ProjectRepository:
        """The repository of a run, by what its order says."""
        if git_dir is None:  # the order is one of version 0.1.0
            return cls.at(Path(root))
        return cls(Path(root), Path(git_dir), tuple(carry)).as_seen_from(checkout)

    @classmethod
    def at(cls, root: Path) -> ProjectRepository:
        """The repository whose working tree is ``root``."""
        return cls(root, Git(root).common_dir())
