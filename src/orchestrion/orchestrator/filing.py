"""Looks at the files of a project for the use cases: in its folder, and in git's commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrion.core.errors import GitProblem, InvalidInput
from orchestrion.core.project import Project
from orchestrion.memory import files
from orchestrion.memory.files import Found, Look, Owner, Place, Renewal, Reported, Verdict
from orchestrion.scheduler import overlap
from orchestrion.store import Store, Transaction
from orchestrion.store.store import Row

if TYPE_CHECKING:
    from orchestrion.runs.git import Git

#: An event names so many files.
_TOLD = 200


class Placed(NamedTuple):
    """A reported change, found in the project's folder or in a workspace."""

    #: None: nobody said what became of the file.
    op: str | None
    where: Place
    old_path: str | None


class Changed(NamedTuple):
    """What a run at work has changed, as it is now."""

    #: What its client says, just now.
    told: Sequence[Reported]
    #: What was recorded of it before.
    before: Sequence[Renewal]

    def problems(self) -> list[str]:
        """What is not as it was reported, a line each."""
        news = [*self.told, *(one.news for one in self.before if one.news)]
        return [f"{one.path} {one.problem}" for one in news if one.problem]

    def record(self, tx: Transaction, owner: Owner) -> None:
        """Keeps all of it."""
        files.renew(tx, self.before)
        report(tx, owner, self.told, "reported")
        if self.told:
            data = {"files": [one.path for one in self.told[:_TOLD]]}
            tx.event("files.reported", task=owner.task, run=owner.run, data=data)


def report(tx: Transaction, owner: Owner, changes: Sequence[Reported], source: str) -> None:
    """Keeps what was reported, and tells other runs that are at the same files."""
    files.report(tx, owner, changes, source)
    if owner.run is not None:
        overlap.note_reported(tx, owner.run, {one.path: one.op for one in changes})


class Filing:
    """The files of one project."""

    def __init__(self, project: Project) -> None:
        self.root = project.root
        self._git_root = project.git_root

    def look(self, path: str) -> Found | None:
        """What is in the project's folder."""
        return files.measure(self.root, path)

    def reported(self, changes: Sequence[Any], workspace: Path | None = None) -> list[Reported]:
        """What a client says it changed: paths, or mappings with ``path``, ``op`` and ``old_path``, measured.

        A path may also be in the run's own ``workspace``. A change of no kind is a creation,
        unless git knows the file. Raises InvalidInput for a path outside, before anything is read.
        """
        placed = self.placed(changes, workspace)
        known = self._known([one.where.path for one in placed if not one.op])
        return [
            files.reported(
                one.op or ("modified" if one.where.path in known else "created"),
                one.where.path,
                one.old_path,
                _looking(one.where.base),
            )
            for one in placed
        ]

    def placed(self, changes: Sequence[Any], workspace: Path | None = None) -> list[Placed]:
        """Where the files are that a client says it changed; nothing is read. Raises as ``reported``."""
        if len(changes) > files.MOST:
            raise InvalidInput(
                f"at most {files.MOST} files are reported at once, not {len(changes)}",
                hint="report them in several calls",
                code="too_many",
            )
        bases = [self.root, *([workspace] if workspace else [])]
        given = [_meant(one) for one in changes]
        return [
            Placed(
                one["op"],
                files.place(bases, one["path"]),
                files.place(bases, one["old_path"]).path if one["old_path"] else None,
            )
            for one in given
        ]

    def changed(self, told: Sequence[Any], before: Sequence[Row]) -> Changed:
        """What a client says it changed, with what was recorded of its run before."""
        news = self.reported(told)
        return Changed(news, files.again(before, self.look, [one.path for one in news]))

    def _known(self, paths: Sequence[str]) -> set[str]:
        """Those of the paths that the checked-out commit has."""
        if self._git_root is None or not paths:
            return set()
        from orchestrion.runs.git import Git
        from orchestrion.runs.workspace.changes import listed

        git = Git(self._git_root)
        return set(listed(git, "HEAD", paths)) if git.has_commits() else set()

    def verdicts(self, rows: Sequence[Row], store: Store) -> list[Verdict]:
        """Each record held against the plan it was merged into, else its commit, else the folder."""
        trees = _Trees(self._git_root)
        try:
            looks = trees.looks(rows)
        except GitProblem as problem:
            why = f"git cannot be asked: {problem.message}"
            unseen = [Verdict(row, "pending", why) for row in rows if row["head"]]
            return unseen + self.verdicts([row for row in rows if not row["head"]], store)
        found = []
        for row in rows:
            others = _asking(store, row)
            accounts = trees.accounting(row) if row["head"] else _no_account
            found.append(files.verdict(row, looks.get(row["id"], self.look), others, accounts))
        return found


def _meant(change: Any) -> dict[str, Any]:
    """One reported change; a plain path is one of no kind."""
    given = {"path": change} if isinstance(change, str) else change
    if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
        raise InvalidInput(
            f"{str(change)[:80]!r} is no changed file",
            hint='a path, or {"path": ..., "op": ..., "old_path": ...}',
            code="invalid_file",
        )
    for key in ("op", "old_path"):
        if not isinstance(given.get(key), str | None):
            raise InvalidInput(f"{key} of a changed file is a text", hint="leave it out", code="invalid_file")
    op = given.get("op")
    return {"path": given["path"], "op": files.op_named(op) if op else None, "old_path": given.get("old_path")}


def _looking(base: Path) -> Look:
    return lambda path: files.measure(base, path)


def _asking(store: Store, row: Row) -> Callable[[], Sequence[Row]]:
    return lambda: store.read(lambda tx: tx.all("others_at_path", id=row["id"], path=row["path"], run=row["run"]))


def _no_account(_others: Sequence[Row]) -> bool:
    return False


class _Trees:
    """What commits have at the paths of records."""

    def __init__(self, git_root: Path | None) -> None:
        self._root = git_root
        #: Record -> the commit it is held against.
        self._commit: dict[int, str] = {}
        #: Commit and plan's tip -> whether the one is in the other.
        self._merged: dict[tuple[str, str | None], bool] = {}

    @cached_property
    def _git(self) -> Git:
        from orchestrion.runs.git import Git

        if self._root is None:
            raise GitProblem("the project is no repository any more", hint="restore its .git")
        return Git(self._root)

    def looks(self, rows: Iterable[Row]) -> dict[int, Look]:
        """For each record that git made, what is where it belongs. Raises GitProblem."""
        held: dict[str, list[Row]] = {}
        tips: dict[str | None, str | None] = {None: None}
        for row in rows:
            if row["head"]:
                if row["plan_name"] not in tips:
                    tips[row["plan_name"]] = self._tip_of(row["plan_name"])
                commit = self._commit[row["id"]] = self._held_by(row["head"], tips[row["plan_name"]])
                held.setdefault(commit, []).append(row)
        return {row["id"]: look for commit, some in held.items() for look in [self._tree(commit, some)] for row in some}

    def _tip_of(self, plan: str) -> str | None:
        from orchestrion.runs.plan_tip import PlanTip

        return PlanTip(self._git, plan).read()

    def _held_by(self, head: str, tip: str | None) -> str:
        """The plan's tip if the work is merged into it, else the work's own commit."""
        if (head, tip) not in self._merged:
            there = tip is not None and self._git.tip(head) is not None
            self._merged[head, tip] = there and self._git.is_ancestor(head, str(tip))
        return tip if tip and self._merged[head, tip] else head

    def _tree(self, commit: str, rows: Iterable[Row]) -> Look:
        from orchestrion.runs.workspace.changes import tree

        if self._git.tip(commit) is None:
            return lambda _path: None
        paths = (files.original(path) for row in rows for path in (row["path"], row["old_path"]) if path)
        there = tree(self._git, commit, paths)

        def look(path: str) -> Found | None:
            one = there.get(files.original(path))
            return Found(one.sha256, one.size, one.mode) if one else None

        return look

    def accounting(self, row: Row) -> Callable[[Sequence[Row]], bool]:
        """Whether nobody but recorded runs committed to a path since a record: then a merge made its content."""
        commit, path = self._commit[row["id"]], files.original(row["path"])

        def account(others: Sequence[Row]) -> bool:
            heads = [other["head"] for other in others if other["head"] and self._git.tip(other["head"])]
            if commit == row["head"] or not heads:
                return False
            known = [f"^{head}" for head in (row["head"], *heads)]
            asked = ("--literal-pathspecs", "rev-list", "--no-merges", "--max-count=1", commit, *known, "--", path)
            return not self._git.run(*asked).stdout

        return account
