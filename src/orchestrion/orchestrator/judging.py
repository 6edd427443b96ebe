"""The one place that says whether a caller may do what it asks for, by the table in ``core.rights``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

from orchestrion.core.errors import InvalidInput, OrchestrionError
from orchestrion.core.rights import RIGHTS, Caller, not_for_runs, refuse_less
from orchestrion.core.values import name, number

if TYPE_CHECKING:
    from orchestrion.core.project import Project
    from orchestrion.store import Store, Transaction
    from orchestrion.store.store import Row

#: Parameters of use cases that say what they are about, and the letter of what they name.
_ABOUT = {"run": "R", "task": "T", "parent": "T"}
#: Its plans wait for a person's approval, whatever a project's file of it says.
_NEVER_ADDS = "planner"
#: Use cases whose names say little -> what is said of them.
_SAID = {
    "take_up": "taking a task up",
    "take_next": "taking the next task",
    "discard": "deleting a task",
    "cancel_all": "cancelling a task",
    "change": "changing a task",
    "provide_key": "making the server's key",
}
#: Use cases that are told which session they are about, or begin one.
_NAMES_ITS_SESSION = ("start_session", "resume_session", "end_session", "clean_up_sessions", "written")
#: What Python raises where a text or nothing stands in place of a number, or the other way round.
ODD = (TypeError, ValueError, AttributeError)
#: ``action``: the use case that is going on in this thread, and was judged.
_going_on = threading.local()


class Opened(Protocol):
    """What is known of who calls a use case, and of where."""

    caller: Caller
    project: Project
    store: Store


def judged(use_case: Callable[..., Any]) -> Callable[..., Any]:
    """The use case, which its caller must be allowed unless another one asks for it.

    What it cannot reckon because a row has a value of another kind than its column is refused as ``row_damaged``; a
    mistake of ours, without such a row, stays what it is.
    """

    @wraps(use_case)
    def asked(self: Opened, *args: Any, **given: Any) -> Any:
        if getattr(_going_on, "action", None):
            return use_case(self, *args, **given)
        judge(self, use_case.__name__, _about(use_case, (self, *args), given) if self.caller.run else {})
        _going_on.action = use_case.__name__
        try:
            return use_case(self, *args, **given)
        except ODD as odd:
            damaged = of_odd_row(self.store)
            if damaged is None:
                raise
            raise damaged from odd
        finally:
            _going_on.action = None

    return asked


def of_odd_row(store: Store) -> OrchestrionError | None:
    """The error that names a row with a value of another kind than its column has; None: there is none."""
    row = store.odd_row()
    if row is None:
        return None
    from orchestrion.ops import unfit  # which hardly anybody ever needs

    return unfit.refusal(row)


def fence(caller: Caller) -> Callable[[Transaction], None] | None:
    """What every transaction of a caller begins with that writes; None: the caller is in no run.

    In a use case that does more than read it raises StaleRun for a run that is over, or whose task another one has.
    """
    if caller.run is None:
        return None
    run = number(caller.run, "R")

    def refuse_stale(tx: Transaction) -> None:
        right = RIGHTS.get(getattr(_going_on, "action", None) or "")
        if right is None or right.role == "read":
            return
        # Who adds tasks takes the lock of the graph's shape first, as all do, so it takes none here.
        held = tx.one("held_task", run=run, write=right.in_run != "adds" or None)
        if held is None or held["run"] != run:
            from orchestrion.scheduler import finish  # a hook must not wait for it

            finish.held(tx, run, write=False)

    return refuse_stale


def judge(opened: Opened, action: str, about: Mapping[str, str]) -> None:
    """Raises InvalidInput (``forbidden``, ``key_needed``, ``not_for_runs``) if the caller may not do ``action``.

    ``about``: the run and the tasks that it concerns, by the names of the parameters.
    """
    caller, right = opened.caller, RIGHTS[action]
    refuse_less(caller, right.role)
    if right.role == "read":
        return
    if caller.run is not None:
        opened.store.read(lambda tx: _judge_run(tx, opened, action, about))
    if action not in _NAMES_ITS_SESSION:
        _speak(opened)


def _judge_run(tx: Transaction, opened: Opened, action: str, about: Mapping[str, str]) -> None:
    caller, right = opened.caller, RIGHTS[action]
    run, what = str(caller.run), _SAID.get(action, action.replace("_", " "))
    if right.in_run == "closed":
        raise refused(tx, run, what)
    if caller.session:
        refuse_session(tx, caller, caller.session)
    if right.in_run == "free":
        return
    row = tx.one("run", id=number(run, "R"))
    if right.in_run == "adds" and not _may_add(opened, row):
        raise refused(tx, run, f"{what} (its role has not `may_add_tasks`)")
    if right.in_run == "own":
        own = {"run": number(run, "R"), "task": row and row["task"], "parent": row and row["task"]}
        for key, one in about.items():
            if number(one, _ABOUT[key]) != own[key]:
                raise refused(tx, run, f"{what} for {one}, which is neither this run nor its task,")


def _speak(opened: Opened) -> None:
    """The caller's session, if it had ended, goes on. Raises Conflict (``session_taken_over``)."""
    caller = opened.caller
    if caller.taken_over is None and caller.session is None:
        return
    from orchestrion.memory import sessions, successors  # which few commands need

    if caller.taken_over:
        raise opened.store.read(lambda tx: successors.refusal(tx, str(caller.taken_over)))
    session = number(str(caller.session), "S")

    def is_over(tx: Transaction) -> bool:
        return sessions.has_ended(tx, session) and (caller.run is None or _is_at_work(tx, caller.run))

    if opened.store.read(is_over):
        opened.store.write(lambda tx: sessions.go_on(tx, session))


def refused(tx: Transaction, run: str, what: str) -> InvalidInput:
    """The error for what is not allowed from inside a run, which can ask a person as long as it is at work."""
    return not_for_runs(run, what, is_known=_is_at_work(tx, run))


def _is_at_work(tx: Transaction, run: str) -> bool:
    held = tx.one("held_task", run=number(run, "R"))
    return held is not None and bool(held["run"] == held["id"])


def refuse_session(tx: Transaction, caller: Caller, session: str) -> None:
    """Raises InvalidInput (``not_for_runs``) if a caller from inside a run would speak for a session not its own."""
    from orchestrion.memory import sessions  # which few commands need

    if caller.run and not sessions.is_of_run(tx, number(session, "S"), number(caller.run, "R")):
        raise refused(tx, caller.run, f"speaking for the session {session}")


def own_task(tx: Transaction, caller: Caller) -> Row | None:
    """The task of the run from inside which the caller acts; None: it acts from inside none."""
    return tx.one("task", id=tx.the("run", id=number(caller.run, "R"))["task"]) if caller.run else None


def refuse_to_touch(
    tx: Transaction,
    caller: Caller,
    plan: str,
    *,
    keys: Iterable[str] = (),
    parent: int | None = None,
    reopen: bool = False,
) -> None:
    """Raises InvalidInput (``not_for_runs``) if new tasks would be more than additions to what a run is about.

    They are in the plan of its own task, have ``keys`` that no task there has, and stand alone or below that task.
    """
    own = own_task(tx, caller)
    if own is None:
        return
    run, mine = str(caller.run), name("T", own["id"])
    if plan != own["plan_name"]:
        raise refused(tx, run, f"adding to {plan!r}, another plan than {own['plan_name']!r} of {mine},")
    wanted = sorted(keys)
    if known := tx.all("keys_of_plan", plan=own["plan"], keys=wanted) if wanted else []:
        raise refused(tx, run, f"changing tasks that are there ({', '.join(row['key'] for row in known)})")
    if reopen:
        raise refused(tx, run, "reopening a task")
    if parent and own["id"] not in {parent, *(row["id"] for row in tx.all("ancestors", id=parent))}:
        raise refused(tx, run, f"adding below {name('T', parent)}, which is not below {mine},")


def _about(use_case: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, str]:
    """What the arguments of a call say that it is about."""
    import inspect  # a hook must not wait for it

    bound = inspect.signature(use_case).bind(*args, **given).arguments
    found = {**bound, **bound.get("values", {})}
    return {key: str(found[key]) for key in _ABOUT if found.get(key) is not None}


def _may_add(opened: Opened, run: Row | None) -> bool:
    """Whether the role of a run may add tasks."""
    if run is None or not run["role"] or run["role"] == _NEVER_ADDS:
        return False
    from orchestrion.memory.roles import load_role  # reads YAML, which a hook must not wait for

    role = load_role(opened.project.root, run["role"])
    return role is not None and role.may_add_tasks
