"""Use cases that remember: decisions, files, and what the next one should know."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrion.core.errors import Conflict, InvalidInput, NotFound, StaleRun, StoreProblem
from orchestrion.core.model import check_choice, check_word, name, number
from orchestrion.memory import decisions, files, prime, recovery, search, sessions, successors
from orchestrion.memory.files import MOST, Owner
from orchestrion.memory.prime import Wanted
from orchestrion.orchestrator import filing
from orchestrion.orchestrator.filing import Filing
from orchestrion.orchestrator.finding import bounded, searched
from orchestrion.orchestrator.judging import refuse_session
from orchestrion.orchestrator.sessions import SessionCases
from orchestrion.scheduler import finish
from orchestrion.scheduler.unknown import unknown_task
from orchestrion.store import Transaction
from orchestrion.store.store import Row

#: In these states a task's files are evidence, to be held against what is there.
_OVER = ("review", "completed", "cancelled")
_SEARCHED_BEFORE = "the store may only be read here: what changed since the last search that could write is not found"
#: What can be found by words -> its letter.
KINDS = {"decision": "D", "task": "T", "artifact": "A", "handoff": "H"}


class MemoryCases(SessionCases):
    """What outlives a session."""

    def resume_session(self, session: str, external: str | None = None) -> dict[str, Any]:
        """The session goes on with the caller, whose client has the name ``external``: its detail, the ``handle`` by
        which only the caller speaks for it, ``context`` to recover by, and a ``warning`` if another client may be at
        work in it. Raises NotFound, InvalidInput (``not_for_runs``).
        """
        one = number(session, "S")

        def go_on(tx: Transaction) -> tuple[str, str]:
            refuse_session(tx, self.caller, session)
            return successors.resume(tx, one, external)

        handle, warning = self.store.write(go_on)
        found = self.on_behalf_of(self.caller.actor, name("S", one)).recover(session)
        return {**self.session_detail(session), "handle": handle, "warning": warning, "context": found}

    # -- decisions ----------------------------------------------------------------------------

    def decide(self, title: str, **values: Any) -> dict[str, Any]:
        """Records a decision; ``values`` as for ``to_record``. Raises what that does."""
        return self.store.write(self.to_record(title, **values))

    def to_record(
        self,
        title: str,
        *,
        supersedes: str | None = None,
        refines: str | None = None,
        reverses: str | None = None,
        files: Sequence[str] | str | None = (),
        task: str | None = None,
        run: str | None = None,
        session: str | None = None,
        **values: Any,
    ) -> Callable[[Transaction], dict[str, Any]]:
        """What records a decision, in whose transaction it may be. ``values`` are further fields of
        ``memory.decisions.NewDecision``. Inside a run it is the run's, if no task is named.

        Raises InvalidInput; what it returns raises NotFound and Conflict (the decision it changes was
        superseded before).
        """
        run = self._own_run(task, run)
        changes = _one_change({"supersedes": supersedes, "refines": refines, "reverses": reverses})
        paths = [self._file_of_project(path) for path in _listed("files", files)]
        given = {key: value for key, value in values.items() if value is not None}
        for field in decisions.LISTS:
            if field in given:
                given[field] = tuple(_listed(field, given[field]))
        _check_texts(title, given)

        def record(tx: Transaction) -> dict[str, Any]:
            owner = self._owner(tx, task, run, session)
            sessions.touch(tx, owner.session)
            _is_alive(tx, owner.run if run else None)
            new = decisions.NewDecision(title=title, files=paths, changes=changes, **{**given, **_numbers(owner)})
            return decisions.detail(tx, decisions.record(tx, new))

        return record

    def change_decision(self, decision: str, status: str) -> dict[str, Any]:
        """A decision is proposed, accepted, implemented or rejected now. Raises NotFound, IllegalMove."""
        one = number(decision, "D")

        def change(tx: Transaction) -> dict[str, Any]:
            decisions.change(tx, one, status)
            return decisions.detail(tx, one)

        return self.store.write(change)

    def decision(self, decision: str) -> dict[str, Any]:
        """A decision, the chain it goes back to, and what changed it. Raises NotFound."""
        return self.store.read(lambda tx: decisions.detail(tx, number(decision, "D")))

    def decisions(
        self,
        search: str | None = None,
        *,
        category: str | None = None,
        impact: str | None = None,
        file: str | None = None,
        status: str | None = None,
        task: str | None = None,
        session: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Decisions, newest first, that have all that is asked for: ``decisions``, ``total``, ``next_cursor``.

        ``search`` finds those with all its words, and one by its id (D4).
        Raises InvalidInput, NotFound for an unknown task or session.
        """
        if status:
            check_choice("status", status, decisions.STATUSES)
        if impact:
            check_choice("impact", impact, decisions.IMPACTS)
        wanted = {
            "category": category or None,
            "impact": impact or None,
            "statuses": [status] if status else None,
            "file": self._file_of_project(file) if file else None,
            "tasks": [number(task, "T")] if task else None,
            "session": number(session, "S") if session else None,
        }
        bound, before, text = bounded(limit), number(cursor, "D") if cursor else None, searched(search)

        def read(tx: Transaction) -> tuple[list[Row], int]:
            if task:
                _task(tx, number(task, "T"))
            if session:
                sessions.of(tx, number(session, "S"))
            return decisions.listing(tx, limit=bound + 1, before=before, offset=offset, text=text, **wanted)

        rows, total = self.store.read(read)
        return {
            "decisions": [decisions.as_json(row) for row in rows[:bound]],
            "total": total,
            "next_cursor": name("D", rows[bound - 1]["number"]) if len(rows) > bound else None,
        }

    def adr(self, decision: str) -> str:
        """A decision as a Markdown record. Raises NotFound."""
        return decisions.as_adr(self.decision(decision))

    def export_decisions(self, folder: Path | str) -> dict[str, Any]:
        """Writes every decision as a file of its own into a folder; below the project it is made if it is missing.

        Raises InvalidInput if there is something else in its place, NotFound.
        """
        target = _folder(Path(folder), self.project.root)
        rows = self.store.read(lambda tx: [decisions.detail(tx, n) for n in _all_numbers(tx)])
        for found in reversed(rows):
            _write(target, decisions.slug(int(found["id"][1:]), found["title"]), decisions.as_adr(found))
        written = [decisions.slug(int(found["id"][1:]), found["title"]) for found in reversed(rows)]
        return {"folder": str(target), "written": written}

    # -- files --------------------------------------------------------------------------------

    def report_files(
        self,
        paths_with_op: Sequence[Any],
        *,
        task: str | None = None,
        run: str | None = None,
        session: str | None = None,
        source: str = "reported",
    ) -> dict[str, Any]:
        """Records what a client changed: paths, or mappings with ``path``, ``op``, ``old_path``; measured at once.

        Inside a run they are the run's, if no task is named. What was recorded of a run that is over, or of a
        task that is, is evidence and stays. Raises InvalidInput for a path outside the project or if nobody is
        named whose files they are, NotFound, StaleRun, Conflict.
        """
        check_choice("source", source, ("reported", "hook"))
        run = self._own_run(task, run)
        owner = self.store.read(lambda tx: self._reporter(tx, task, run, session))
        found = Filing(self.project).reported(_listed("files", paths_with_op), self._workspace_of(owner.run))

        def report(tx: Transaction) -> list[Row]:
            # The session's row first, as hooks do: who reports for the same one at once waits here.
            sessions.touch(tx, owner.session)
            self._reporter(tx, task, run, session, write=True)
            filing.report(tx, owner, found, source)
            paths = {one.path for one in found}
            return [row for row in self._rows(tx, owner) if row["path"] in paths]

        rows = self.store.write(report)
        return {"files": [files.as_json(row) for row in rows], "status": files.rolled_up(r["status"] for r in rows)}

    def task_files(self, task: str) -> dict[str, Any]:
        """What is recorded of a task's files, as it was verified last: ``files``, ``total``, ``status``."""
        rows = self.store.read(lambda tx: files.of_task(tx, _task(tx, number(task, "T"))))
        return _shown({"task": task.upper()}, [files.as_json(row) for row in rows])

    def verify(
        self,
        task: str | None = None,
        session: str | None = None,
        *,
        run: str | None = None,
        tag: str | None = None,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Holds each recorded file against git or the folder: ``status``, ``total`` and ``files``, the worst first.

        Whose files: those of a task, of the task of a run, of a session or of a work stream.
        Raises NotFound, and InvalidInput unless one of them is named.
        """
        if sum(one is not None for one in (task, session, run, tag)) != 1:
            raise InvalidInput("verify what?", hint="name a task, a run, a session or a tag", code="owner_missing")
        if tag is not None:
            self._check_stream(tag)
            return _shown({"tag": tag}, self._verified(lambda tx: files.of_stream(tx, tag)), offset)
        if session is not None:
            two = number(session, "S")
            verified = self._verified(lambda tx: files.of_session(tx, _session(tx, two)))
            return _shown({"session": name("S", two)}, verified, offset)
        one = self.run(run).row["task"] if run is not None else number(task or "", "T")
        return _shown({"task": name("T", one)}, self._verified(lambda tx: files.of_task(tx, _task(tx, one))), offset)

    def _verified(self, recorded: Callable[[Transaction], list[Row]]) -> list[dict[str, Any]]:
        """Records with what came of holding them against what is there; those that failed first."""
        found = Filing(self.project).verdicts(self.store.read(recorded), self.store)
        kept = {row["id"]: row for row in self._keep_verdicts(found, recorded)}
        shown = [
            files.as_json(kept[one.row["id"]])
            if one.row["id"] in kept
            else files.as_json(one.row, one.status, one.detail)
            for one in found
        ]
        return sorted(shown, key=lambda one: (files.STATUSES.index(str(one["status"])), str(one["path"])))

    def _keep_verdicts(self, found: Sequence[files.Verdict], recorded: Callable[[Transaction], list[Row]]) -> list[Row]:
        """The records as they are then, but for what was not seen; none where nothing can be written."""
        seen = [one for one in found if one.status != "pending"]
        if not seen:
            return []
        ids = {one.row["id"] for one in seen}

        def keep(tx: Transaction) -> list[Row]:
            files.keep(tx, seen)
            return [row for row in recorded(tx) if row["id"] in ids]

        try:
            return self.store.write(keep)
        except (StoreProblem, StaleRun) as problem:
            if problem.code not in ("store_read_only", "disk_full", "stale_run"):
                raise
        return []

    # -- what the next one should know -----------------------------------------------------------

    def prime(
        self,
        *,
        session: str | None = None,
        tag: str | None = None,
        role: str | None = None,
        budget_tokens: int = prime.TOKENS,
    ) -> str:
        """What is going on, for a fresh session, in so many tokens (bytes / 4). Raises NotFound, InvalidInput."""
        check_word("tag", tag or "")
        wanted_role = self.role_name(role) if role else None

        def compose(tx: Transaction) -> str:
            return prime.compose(tx, self._wanted(tx, session, tag, wanted_role or None), budget_tokens)

        return self.store.read(compose)

    def recover(self, name: str) -> dict[str, Any]:
        """All that is needed to go on with a task (T12), the task of a run (R31) or a session (S3); also as ``text``.

        Raises NotFound, InvalidInput.
        """
        if name[:1].upper() == "S":
            one = number(name, "S")
            checked = _checked(self.verify(session=name))
            return self.store.read(lambda tx: recovery.of_session(tx, sessions.of(tx, one), checked))
        checked = _checked(found := self.verify(run=name) if name[:1].upper() == "R" else self.verify(name))
        task = number(found["task"], "T")
        return self.store.read(lambda tx: recovery.of_task(tx, _task(tx, task), checked))

    def recover_stream(self, tag: str) -> dict[str, Any]:
        """The same for a work stream: all tasks that have a tag. Raises NotFound if none has it, InvalidInput."""
        checked = _checked(self.verify(tag=tag))
        return self.store.read(lambda tx: recovery.of_stream(tx, tag, checked))

    def _check_stream(self, tag: str) -> None:
        check_word("tag", tag, empty=False)
        if not self.store.read(lambda tx: tx.all("states_of_tag", tag=tag)):
            known = [row["tag"] for row in self.store.read(lambda tx: tx.all("tags_known", limit=10))]
            raise NotFound(
                f"no task has the tag {tag!r}",
                hint=f"tags there are: {', '.join(known)}" if known else f'`orchestrion add "TITLE" --tag {tag}`',
                code="no_stream",
            )

    def search(self, text: str, *, kinds: Sequence[str] = (), limit: int = 20) -> dict[str, Any]:
        """Decisions, tasks, artifacts and handoffs in which all the words occur, the best first: ``results``."""
        for kind in kinds:
            check_choice("kind", kind, tuple(KINDS))
        searched(text)
        letters = [KINDS[kind] for kind in kinds] or list(KINDS.values())
        is_complete = self._catch_up()

        def read(tx: Transaction) -> list[dict[str, Any]]:
            found = search.find(tx, text, kinds=letters, limit=bounded(limit))
            return [search.shown(tx, kind, thing, text) for kind, thing in found]

        return {"results": self.store.read(read), "note": "" if is_complete else _SEARCHED_BEFORE}

    def _catch_up(self) -> bool:
        """Whether all that happened can be found; not so where the store may only be read. Raises StoreProblem."""
        try:
            self._read_on()
        except StoreProblem as problem:
            if problem.code != "store_read_only":
                raise
            return False
        return True

    def _read_on(self) -> None:
        since: int | None = None
        while True:
            since = self.store.write(lambda tx, line=since: search.catch_up(tx, line))  # type: ignore[misc]
            if since is None:
                return

    def show(self, thing: str) -> dict[str, Any]:
        """Everything about a task, run or artifact, and about a decision (D4) or a session (S3)."""
        letter = thing[:1].upper()
        if letter == "D":
            return self.decision(thing)
        if letter == "S":
            return self.session_detail(thing)
        return super().show(thing)

    # -- who and where ------------------------------------------------------------------------

    def _own_run(self, task: str | None, run: str | None) -> str | None:
        """The run that is named, else that from inside which the call comes, unless a task is named."""
        return run if run or task else self.caller.run

    def _owner(self, tx: Transaction, task: str | None, run: str | None, session: str | None) -> Owner:
        """Whose it is: a run's task, a task's run and the caller's session are known without being named."""
        held = _run(tx, number(run, "R")) if run else None
        if held and task and number(task, "T") != held["task"]:
            raise InvalidInput(
                f"{run} is an attempt at {name('T', held['task'])}, not at {task}", hint="name one", code="run_of_other"
            )
        row = _task(tx, held["task"] if held else number(task or "", "T")) if held or task else None
        by = held["id"] if held else row["run"] if row else None
        known = _session(tx, number(session, "S")) if session else sessions.current(tx)
        if session:
            refuse_session(tx, self.caller, session)
        return Owner(row["id"] if row else None, by, known)

    def _reporter(
        self, tx: Transaction, task: str | None, run: str | None, session: str | None, *, write: bool = False
    ) -> Owner:
        """Whose files somebody reports, who must be at it still. With ``write`` others wait until these are written."""
        owner = self._owner(tx, task, run, session)
        if owner == Owner():
            raise InvalidInput(
                "whose files are they?", hint="name the run, the task or the session", code="owner_missing"
            )
        if owner.run is not None:
            finish.held(tx, owner.run, write=write)
        elif owner.task is not None:
            _refuse_over(tx.the("task_for_update" if write else "task", id=owner.task))
        if write and run:
            _is_alive(tx, owner.run)
        return owner

    def _rows(self, tx: Transaction, owner: Owner) -> list[Row]:
        if owner.run is not None:
            return tx.all("list_files", run=owner.run, limit=files.MOST_VERIFIED)
        if owner.task is not None:
            return tx.all("list_files", task=owner.task, limit=files.MOST_VERIFIED)
        return tx.all("list_files", session=owner.session, limit=files.MOST_VERIFIED)

    def _workspace_of(self, run: int | None) -> Path | None:
        if run is None:
            return None
        workspace = self.store.read(lambda tx: tx.the("run", id=run))["workspace"]
        return Path(workspace) if workspace else None

    def _file_of_project(self, path: str) -> str:
        return files.place([self.project.root], path).path

    def _wanted(self, tx: Transaction, session: str | None, tag: str | None, role: str | None) -> Wanted:
        known = _session(tx, number(session, "S")) if session else sessions.current(tx)
        return Wanted(self.store.project_name, known, tag or None, role, may_claim=self.caller.may("claim"))


def _task(tx: Transaction, task: int) -> Row:
    row = tx.one("task", id=task)
    if row is None:
        raise unknown_task(task)
    return row


def _refuse_over(task: Row) -> None:
    if task["state"] in _OVER:
        raise Conflict(
            f"{name('T', task['id'])} is {task['state']}: what is recorded of its files stays as it is",
            hint="report them for your session",
            code="task_is_over",
            state=task["state"],
        )


def _is_alive(tx: Transaction, run: int | None) -> None:
    """A client that names its run is at work on it; a supervisor renews the lease of its own."""
    if run is not None and not tx.the("run", id=run)["supervised"]:
        tx.put("renew_lease", run=run)


def _session(tx: Transaction, session: int) -> int:
    return int(sessions.of(tx, session)["id"])


def _run(tx: Transaction, run: int) -> Row:
    row = tx.one("run", id=run)
    if row is None:
        raise NotFound(f"there is no run {name('R', run)}", hint="`orchestrion runs` shows the runs", code="no_run")
    return row


def _one_change(given: Mapping[str, str | None]) -> tuple[str, int] | None:
    named = {relation: other for relation, other in given.items() if other}
    if len(named) > 1:
        raise InvalidInput(
            f"a decision changes one other, not {len(named)}",
            hint="record one decision for each",
            code="several_changes",
        )
    return next(((relation, number(other, "D")) for relation, other in named.items()), None)


def _listed(field: str, values: Any) -> list[Any]:
    """A list; one text is a list of one, nothing is an empty one. Raises InvalidInput for anything else."""
    if values is None:
        return []
    if isinstance(values, str | Mapping):
        return [values]
    if not isinstance(values, Sequence):
        raise InvalidInput(f"{field} must be a list", hint="give a list of texts", code=f"invalid_{field}")
    return list(values)


def _check_texts(title: Any, given: Mapping[str, Any]) -> None:
    for field in ("status", "category", "impact", *decisions.TEXTS):
        if not isinstance(given.get(field, ""), str):
            raise InvalidInput(f"{field} must be a text", hint="put it into quotes", code=f"invalid_{field}")
    if not isinstance(title, str):
        raise InvalidInput("a decision needs a title", hint="say in a few words what was decided", code="invalid_title")


def _numbers(owner: Owner) -> dict[str, int | None]:
    return {"task": owner.task, "run": owner.run, "session": owner.session}


def _checked(found: Mapping[str, Any]) -> recovery.Checked:
    return {"files": found["files"], "total": found["total"], "status": found["status"]}


def _shown(whose: Mapping[str, str], found: Sequence[Mapping[str, Any]], offset: int = 0) -> dict[str, Any]:
    """Files with what comes of them together; a bounded number of them."""
    status = files.rolled_up(one["status"] for one in found)
    return {**whose, "status": status, "total": len(found), "files": list(found[offset : offset + MOST])}


def _all_numbers(tx: Transaction) -> list[int]:
    last = tx.all("list_decisions", limit=1)
    return list(range(last[0]["number"], 0, -1)) if last else []


def _folder(folder: Path, root: Path) -> Path:
    """The folder to write to; made if it is below the project, or if only its last part is missing."""
    try:
        folder.mkdir(exist_ok=True, parents=folder.resolve().is_relative_to(root.resolve()))
        return folder.resolve(strict=True)
    except (FileExistsError, NotADirectoryError) as problem:
        raise InvalidInput(f"{str(folder)!r} is not a folder", hint="name another", code="not_a_folder") from problem
    except FileNotFoundError as problem:
        raise NotFound(
            f"there is no folder {str(folder.parent)!r}", hint="make it first", code="no_such_folder"
        ) from problem
    except ValueError as problem:
        raise InvalidInput(f"{str(folder)!r} is not a path", hint="name a folder", code="invalid_path") from problem


def _write(folder: Path, called: str, text: str) -> None:
    """Puts a whole file in place at once; a link that is there is replaced, not followed."""
    if (folder / called).is_dir() and not (folder / called).is_symlink():
        raise Conflict(f"{called} is a folder", hint="move it away", code="not_a_file")
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".adr-", suffix=".md")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(draft).replace(folder / called)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
