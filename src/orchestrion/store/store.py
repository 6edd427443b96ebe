"""What a store is: one database, opened once per process, written in whole transactions.

    store = open_store("orchestrion.db", project="my-app")
    task = store.write(lambda tx: create(tx, NewTask(title="Write it")))

A *transaction* knows statements by name and collects events; both reach the disk together
or not at all. Work handed to ``write`` may be called again when the database asks for it
(a deadlock on PostgreSQL), so it must have no effect but on the transaction.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from orchestrion.core.errors import Conflict, EnvironmentProblem, InvalidInput, NotFound, OrchestrionError, StoreProblem
from orchestrion.core.masking import Masker
from orchestrion.store.statements import Statements

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrion.store.migrate import Upgrade
    from orchestrion.store.misfits import Misfit, Proof

Result = TypeVar("Result")
Row = Mapping[str, Any]

#: How often a transaction is begun again before the database's refusal is passed on.
TRIES = 8
#: After a refusal it waits a random share of this, longer each time, so that rivals do not meet again; in seconds.
PAUSE_S = 0.02
#: The statements' names for what agents, checks and people say on the way; what a task is, and its results, are
#: somebody's work and stay as they are.
_SAID = frozenset({"answer", "detail", "error", "feedback", "output", "reason", "remarks", "said", "summary", "text"})


class ProjectKey(NamedTuple):
    """How a project is found in a store."""

    #: Its name: the one that was set, else that of its folder, which only a new project takes.
    name: str
    #: The id in its git directory (outside git: in its ``.orchestrion/``); None: it has none.
    uid: str | None = None
    #: Whether the name was set: then the name decides, so that clones share a project.
    is_set: bool = True
    #: Whether the store is this project's own file.
    own_store: bool = False
    #: Whether a project that is not there may be begun, and one that is there get another name.
    begins: bool = True
    #: Its number, for one who found it before: it is the same whatever it is called by now.
    number: int | None = None


class Origin(NamedTuple):
    """Who caused a change, as the journal records it."""

    #: A person, a program or a run: ``user:ada``, ``worker:host/123``, ``run:R31``.
    actor: str = ""
    #: The session it belongs to, if any.
    session: str | None = None
    #: Follows one request through every door and process.
    correlation: str | None = None

    @property
    def holder(self) -> str:
        """Who has what it takes up: a client by its conversation, which follows the ``/``, by whatever door it came."""
        return self.actor if self.session is None or "/" in self.actor else f"{self.actor}/{self.session}"

    def as_dict(self) -> dict[str, str | None]:
        """Its fields by name, as statements take them."""
        return {"actor": self.actor, "session": self.session, "correlation": self.correlation}


class Again(Exception):
    """The database asks for the whole transaction once more; ``problem`` says what it was if that does not help."""

    def __init__(self, problem: EnvironmentProblem | None = None) -> None:
        super().__init__()
        self.problem = problem


class _Curtain(Exception):
    """Ends a rehearsal."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


class Answer(Protocol):
    """What the database will have said to a statement, by the time somebody reads it."""

    def rows(self) -> list[Row]:
        """The rows it gave."""
        ...

    def count(self) -> int:
        """How many rows it changed."""
        ...


class Transaction(ABC):
    """One unit of work on a store. Ends with the ``write`` or ``read`` that began it.

    ``ask``, ``put`` and ``must`` do not wait for an answer: on PostgreSQL such statements
    travel together with the next one whose answer is wanted.
    """

    def __init__(self, statements: Statements, constants: Mapping[str, Any], origin: Origin, masker: Masker) -> None:
        self._statements = statements
        self._constants = constants
        self._masker = masker
        self._events: list[dict[str, Any]] = []
        self._promised: list[tuple[Answer, Callable[[], OrchestrionError]]] = []
        self._signature = {**constants, **origin.as_dict()}
        #: Who causes the changes of this transaction.
        self.origin = origin

    @property
    def project(self) -> int:
        """Number of the project this store was opened for."""
        return int(self._constants["project"])

    @property
    def clone(self) -> str | None:
        """Id of the clone of the project from which the store was opened; None: it has none."""
        clone: str | None = self._constants["clone"]
        return clone

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgres``."""
        return self._statements.dialect

    def knows(self, name: str) -> bool:
        """Whether this database has the statement ``name``: some do at once what others do step by step."""
        return self._statements.knows(name)

    def one(self, name: str, /, **given: Any) -> Row | None:
        """First row of the statement ``name``, or None."""
        rows = self._query(self._statements.text(name, given), self._bound(given))
        return rows[0] if rows else None

    def the(self, name: str, /, **given: Any) -> Row:
        """The row that the statement ``name`` always has. Raises StoreProblem if somebody else took it away."""
        row = self.one(name, **given)
        if row is None:
            raise _lacking(f"{name} of {given}" if given else name)
        return row

    def all(self, name: str, /, **given: Any) -> list[Row]:
        """All rows of the statement ``name``."""
        return self._query(self._statements.text(name, given), self._bound(given))

    def run(self, name: str, /, **given: Any) -> int:
        """Executes the statement ``name``; number of rows it changed."""
        return self._execute(self._statements.text(name, given), self._bound(given))

    def ask(self, name: str, /, **given: Any) -> Answer:
        """Executes the statement ``name``; its answer is read later, or never."""
        return self._ask(self._statements.text(name, given), self._bound(given))

    def put(self, name: str, /, **given: Any) -> None:
        """Executes the statement ``name``, however many rows it changes."""
        self.ask(name, **given)

    def must(self, name: str, refusal: Callable[[], OrchestrionError], /, **given: Any) -> None:
        """Executes the statement ``name``; if it changes no row, the transaction ends with ``refusal()``."""
        self._promised.append((self.ask(name, **given), refusal))

    def each(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Executes the statement ``name`` once for each of ``rows``; all rows have the same keys.

        They are taken one by one: of a large change nobody holds all rows at once.
        """
        coming = iter(rows)
        if (first := next(coming, None)) is not None:
            text = self._statements.text(name, first)
            self._execute_each(text, map(self._bound, chain((first,), coming)))

    def event(
        self,
        kind: str,
        *,
        task: int | None = None,
        run: int | None = None,
        found: str | None = None,
        to: str | None = None,
        session: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds one line to the journal, of the origin's session if no other is named; written with the commit."""
        self._events.append(
            {
                **self._signature,
                **({"session": session} if session else {}),
                "kind": kind,
                "task": task,
                "run": run,
                "from_state": found,
                "to_state": to,
                "data": self._masker.in_data(data) if data else None,
            }
        )

    def _bound(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a statement gets: the constants, and what it was given; secrets in what somebody said are replaced."""
        bound = {**self._constants, **given}
        if not _SAID.isdisjoint(given):
            for word in _SAID & given.keys():
                if isinstance(text := given[word], str):
                    bound[word] = self._masker(text)
        return bound

    def said(self, text: str) -> str:
        """What somebody said, without secrets, for what goes by another name than what is said."""
        return self._masker(text)

    def finish(self) -> None:
        """Writes the collected events and sees to promises; the store calls it before it commits."""
        if self._events:
            self._execute_each(self._statements.text("add_event", {}), self._events)
        self._events = []
        for answer, refusal in self._promised:
            if not answer.count():
                raise refusal()
        self._promised = []

    @abstractmethod
    def _ask(self, text: str, given: dict[str, Any]) -> Answer: ...

    @abstractmethod
    def _query(self, text: str, given: dict[str, Any]) -> list[Row]: ...

    @abstractmethod
    def _execute(self, text: str, given: dict[str, Any]) -> int: ...

    @abstractmethod
    def _execute_each(self, text: str, rows: Iterable[dict[str, Any]]) -> None: ...


class Store(ABC):
    """One database, seen from one project. Every thread has its own connection."""

    #: ``sqlite`` or ``postgres``.
    dialect: str

    def __init__(self, url: str, statements: Statements, *, now: int | None = None) -> None:
        self.url = url
        #: Where it lies; None: on a server.
        self.file: Path | None = None
        #: Fixed clock in milliseconds, for tests; None: the database's clock.
        self.now = now
        self.origin = Origin()
        #: What every transaction that writes begins with; it raises where nothing may be written.
        self.fence: Callable[[Transaction], None] | None = None
        #: Takes secrets out of what is said; knows their shapes, and inside a run the values of its variables.
        self.masker = Masker()
        #: Identifies this database among all.
        self.uuid = ""
        #: The project it was opened for.
        self.project_name = ""
        #: Its number, which stays when it is called otherwise.
        self.project_number = 0
        #: Id of the clone of the project from which it was opened; None: it has none.
        self.clone: str | None = None
        #: What opening did to a store of an older schema; None: it was up to date, or new.
        self.upgrade: Upgrade | None = None
        #: Whether the store was copied with its project, and is the copy's own since now.
        self.is_copy = False
        #: What the project was called until it was opened; None: as it is now.
        self.former_name: str | None = None
        #: Whether the project had no row before.
        self.is_new_project = False
        self._statements = statements
        #: Whether it was opened; from then on no other database is taken for it.
        self._is_known = False
        self._local = threading.local()

    def write(self, work: Callable[[Transaction], Result], *, origin: Origin | None = None) -> Result:
        """Does ``work`` in one transaction and commits it with its events.

        Raises what ``work`` and the fence raise, after undoing everything, and StoreProblem when the
        database cannot do it (locked, read-only, full, gone).
        """
        fence = self.fence

        def fenced(tx: Transaction) -> Result:
            assert fence is not None
            fence(tx)
            return work(tx)

        act = work if fence is None else fenced
        return repeated(lambda: self._write_once(act, origin or self.origin))

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Does ``work``, which only reads, on one consistent view of the database; perhaps more than once.

        Raises what ``work`` raises, and StoreProblem when the database cannot do it.
        """
        return repeated(lambda: self._read_once(work))

    def rehearse(self, work: Callable[[Transaction], Result]) -> Result:
        """Does ``work`` as ``write`` would, then undoes all of it. Returns and raises what ``write`` would."""

        def play(tx: Transaction) -> Result:
            result = work(tx)
            tx.finish()
            raise _Curtain(result)

        try:
            self.write(play)
        except _Curtain as curtain:
            return curtain.result  # type: ignore[no-any-return]
        raise AssertionError("unreachable")

    @abstractmethod
    def _write_once(self, work: Callable[[Transaction], Result], origin: Origin) -> Result: ...

    @abstractmethod
    def _read_once(self, work: Callable[[Transaction], Result]) -> Result: ...

    @abstractmethod
    def wait_for_change(self, seconds: float) -> bool:
        """Waits until somebody else committed something, ``seconds`` at most; whether somebody did."""

    def keep_little(self) -> None:  # noqa: B027 - of a server's database nothing is kept here
        """Few statements will come, and long pauses: what is kept to answer them sooner is not worth its memory."""

    @abstractmethod
    def tidy_up(self) -> None:
        """Lets the database renew what it knows of its tables, and give space back that nobody uses, if it is much."""

    @abstractmethod
    def second_look(self) -> Proof:
        """Reads every row, by another way than the database's own check; takes as long as reading everything does."""

    def odd_row(self) -> Misfit | None:
        """A row with a value of another kind than its column has, for one who could not reckon with what was read.

        Only SQLite has tables that can be made to take one; None: there is none. Reads every row at worst.
        """
        return None

    @property
    @abstractmethod
    def how_to_copy(self) -> str:
        """What a person does to keep the store as it is, in a sentence without its end."""

    @property
    @abstractmethod
    def how_to_reindex(self) -> str:
        """The command that makes all indexes anew from the rows."""

    @abstractmethod
    def close(self) -> None:
        """Gives back the calling thread's connection."""

    def _constants(self) -> dict[str, Any]:
        return {"project": self.project_number, "clone": self.clone, "now": self.now}

    def choose_project(self, wanted: ProjectKey) -> None:
        """Makes the project that ``wanted`` means the one this store works on; it is created on first use.

        Raises NotFound (``no_project``) where none may be begun, Conflict (``project_name_taken``).
        """
        self.clone = wanted.uid
        row = self.read(lambda tx: _as_wanted(tx, wanted))
        if row is None:
            known = self.read(lambda tx: tx.all("projects"))
            names = {one["uid"]: one["name"] for one in known}
            row = self.write(lambda tx: _as_wanted(tx, wanted) or _brought_in(tx, wanted))
            self.is_copy = wanted.own_store and wanted.uid not in names and set(names) not in (set(), {None})
            former = names.get(row["uid"], row["name"])
            self.former_name = former if former != row["name"] else None
            self.is_new_project = row["id"] not in {one["id"] for one in known}
        self.project_number, self.project_name = row["id"], row["name"]
        self.uuid = self.read(lambda tx: tx.the("meta", key="uuid"))["value"]


def repeated(act: Callable[[], Result]) -> Result:
    """What ``act`` returns, begun again when the database asks for it."""
    for left in reversed(range(TRIES)):
        try:
            return act()
        except Again as again:
            if not left:
                raise again.problem or StoreProblem(
                    f"the store is so busy that this was begun {TRIES} times in vain",
                    hint="nothing was written; try again",
                    code="store_busy",
                ) from again
        time.sleep(PAUSE_S * (TRIES - left) * random.random())
    raise AssertionError("unreachable")


def _as_wanted(tx: Transaction, wanted: ProjectKey) -> Row | None:
    """The project, if its row is as it should be already: of a number or name that was set, else of the id."""
    if wanted.number is not None:
        return tx.one("project_by_number", number=wanted.number)
    if wanted.is_set:
        named = tx.one("project_by_name", name=wanted.name)
        is_anothers = named is not None and wanted.own_store and named["uid"] not in (None, wanted.uid)
        if named is not None and not is_anothers:
            return named
        # Nobody else has a store of its own: there a name that does not fit leads nobody astray.
        return tx.one("project_by_uid", uid=wanted.uid) if wanted.own_store and not wanted.begins else None
    if wanted.uid:
        return tx.one("project_by_uid", uid=wanted.uid)
    return tx.one("project_by_name", name=wanted.name)


def _brought_in(tx: Transaction, wanted: ProjectKey) -> Row:
    """A project that is known otherwise (by its id before it got a name, by its folder's name before there were
    ids) takes what ``wanted`` says; else it is new."""
    known = {row["name"]: row for row in tx.all("projects")}
    mine = next((row for row in known.values() if wanted.uid and row["uid"] == wanted.uid), None)
    if not wanted.begins:
        raise _no_project(wanted, mine, known)
    if mine is None and (wanted.own_store or not wanted.is_set):
        mine = _without_id(known, wanted)
    name = wanted.name if wanted.is_set else mine["name"] if mine else _free_name(wanted, known)
    if mine is not None:
        if name != mine["name"] and name in known:
            raise Conflict(
                f"the project {mine['name']!r} cannot be called {name!r}: another project of this database is",
                hint=f"set project.name to {mine['name']}, or to a name that is free; "
                "`orchestrion config show` says where it is set",
                code="project_name_taken",
            )
        if mine["uid"] not in (None, wanted.uid):
            # A file that was copied: nobody may take its runs for those of the other.
            tx.run("store_is_another", uuid=_new_uuid())
            tx.run("plans_of_copy", found=mine["uid"], to=wanted.uid)
            tx.run("tasks_of_copy", found=mine["uid"], to=wanted.uid)
        tx.run("project_is_known_as", id=mine["id"], name=name, uid=wanted.uid)
        return tx.the("project_by_name", name=name)
    return tx.one("add_project", name=name, uid=wanted.uid) or tx.the("project_by_name", name=name)


def _no_project(wanted: ProjectKey, mine: Row | None, known: Mapping[str, Row]) -> NotFound:
    """The refusal to begin a project, or to rename one, because a name is set otherwise than before."""
    called = f"; there this clone's is called {mine['name']!r}" if mine else ""
    names = ", ".join(sorted(known)[:20]) or "none"
    return NotFound(
        f"the database has no project {wanted.name!r}{called}",
        hint=f"set project.name to the right one of {names} (`orchestrion config show` says where it is set); "
        "`orchestrion init` begins one of that name, or gives this clone's that name",
        code="no_project",
    )


def _without_id(known: Mapping[str, Row], wanted: ProjectKey) -> Row | None:
    """The project of before there were ids. A store that is this project's own and has one project has this one."""
    same = known.get(wanted.name)
    if same is not None and same["uid"] is None:
        return same
    return next(iter(known.values())) if wanted.own_store and len(known) == 1 else None


def _new_uuid() -> str:
    import uuid  # needed once

    return str(uuid.uuid4())


def _free_name(wanted: ProjectKey, known: Mapping[str, Row]) -> str:
    """Folders of one name may be two projects in one database."""
    if wanted.name not in known:
        return wanted.name
    return f"{wanted.name}-{wanted.uid[:8]}" if wanted.uid else wanted.name


def refuse_nested(active: bool) -> None:
    """Refuses a transaction within a transaction of the same thread: it would wait for itself, or see halves."""
    if active:
        raise RuntimeError("a read or write inside another one; use the transaction that is there")


def unstorable(error: Exception) -> InvalidInput:
    """The error for a value that no database holds: broken UTF-8, a NUL, a number beyond 64 bits."""
    return InvalidInput(
        f"a value cannot be stored: {str(error).splitlines()[0][:200]}",
        hint="leave out what is not text, and keep numbers below 2^63",
        code="invalid_value",
    )


def number_given(said: str) -> EnvironmentProblem:
    """The error for a new row whose number another has."""
    return EnvironmentProblem(
        f"the next number was given before ({said}): somebody set back the counter",
        hint="`orchestrion cleanup` lets numbers go on behind the last one, and `orchestrion health` names it",
        code="row_damaged",
    )


def missing_store(url: str) -> NotFound:
    """The error for a database that is not there."""
    return NotFound(f"there is no store at {url}", hint="run `orchestrion init` in your project first", code="no_store")


def vanished_store(what: str) -> StoreProblem:
    """The error for a database, or a part of it, that was there when it was opened."""
    return StoreProblem(
        f"{what} is gone since the store was opened; nothing was written and nothing made in its place",
        hint="put it back, and the work goes on; if it is lost, restore a copy there and start the programs anew",
        code="store_missing",
    )


def _lacking(what: str) -> StoreProblem:
    """The error for a row that is made with the store, or was seen just now."""
    return StoreProblem(
        f"the store lacks a row that it always has: {what}",
        hint="something else than this program took it away: stop the programs, copy the store, "
        "and put a whole copy of before in its place",
        code="store_corrupt",
    )


def replaced_store(url: str) -> StoreProblem:
    """The error for another database, or something else, in the place of the one that was opened."""
    return StoreProblem(
        f"{url} is not the store any more that was opened: something else was put in its place, which is left alone",
        hint="put the store back, and the work goes on; or start the programs anew to work on what is there now",
        code="store_replaced",
    )
