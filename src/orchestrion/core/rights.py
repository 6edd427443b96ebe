"""Who may do what: one table for every door.

A *caller* has a role, and perhaps acts from inside a run. Each use case needs a role, and says
what it is to a run: free, free where the run itself is concerned, free for runs that may add
tasks, or closed. From inside a run of another
store, or of a name without a store, one only reads. Doors say who calls; they decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from orchestrion.core.errors import InvalidInput

#: Names the run in the environment of its processes, as ``<store-uuid>/R31``.
RUN_VARIABLE = "ORCHESTRION_RUN"
#: Names the session in the environment of a shell, by its handle.
SESSION_VARIABLE = "ORCHESTRION_SESSION"
#: What of resuming a session only those need to know who type commands.
IN_A_SHELL = f" (type the `export {SESSION_VARIABLE}=...` it prints)"

Role = Literal["read", "operate", "admin"]
#: From least to most; each may do what those before it may.
ROLES: tuple[Role, ...] = ("read", "operate", "admin")
#: So begin the actors that are runs.
RUN = "run:"
#: The actor of requests on the loopback interface with the key of this machine.
LOCAL = "web:local"
#: The actor of those without it.
KEYLESS = "web:keyless"
#: The actor of requests that nobody needs to be known for: whether the server lives, and the login.
NOBODY = "web:nobody"
#: What a person without the key is to do.
HOW_TO_ACT = (
    "browsers: open the address that `orchestrion serve` printed, or `orchestrion open`; "
    "programs: send `Authorization: Bearer KEY`, the file `key` in the store's folder"
)

#: What a use case is to a run: free; free about itself; free if its role adds tasks, and it only adds; closed.
InRun = Literal["free", "own", "adds", "closed"]


class Right(NamedTuple):
    """What a use case needs."""

    role: Role
    in_run: InRun


class Voice(NamedTuple):
    """For which session a caller speaks."""

    #: As ``S3``; None: for none.
    session: str | None = None
    #: The session that the caller names and somebody else resumed since, as ``S3``.
    taken_over: str | None = None


class Caller(NamedTuple):
    """Who calls, as the door knows it."""

    #: As the journal names it: ``user:ada``, ``run:R31``, ``token:ci``.
    actor: str
    #: The session that the call belongs to, as ``S3``.
    session: str | None = None
    #: Follows the call into the journal and the logs.
    correlation: str | None = None
    #: The run from inside which the call comes, as ``R31``.
    run: str | None = None
    role: Role = "admin"
    #: Whether shell commands of tasks are taken, besides those that the settings name.
    may_run_commands: bool = True
    #: The run of another store from inside which the call comes; its role is ``read``.
    elsewhere: str | None = None
    #: The session that the call names and somebody else resumed since, as ``S3``: the call belongs to none.
    taken_over: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether the caller showed who it is; over HTTP, by the key, a token or a session."""
        return self.actor not in (KEYLESS, NOBODY)

    def has(self, role: Role) -> bool:
        """Whether the caller may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def may(self, action: str) -> bool:
        """Whether a use case is offered to the caller; inside a run it may depend on what it is about."""
        right = RIGHTS[action]
        return self.has(right.role) and not (self.run and right.in_run == "closed")


#: Needed role and what it is to a run -> use cases.
_TABLE: dict[tuple[Role, InRun], str] = {
    ("read", "free"): """
        adr alerts all_runs artifact ask board brief_of brief_of_task budgets began checks_of completed_above debug
        decision decisions diff doctor ended_elsewhere events family files_of finished_plans gate graph health
        health_of held_by_clients last_event last_handoff limits_in_force limits_that_return list_handoffs list_runs
        list_sessions list_tasks load log log_lines log_page log_tail maintenance_history measures messages_to
        metric_events overlaps overview permissions prime ready recover recover_stream refuse_idle role_name roles
        run run_detail run_diff schema search service_levels session_detail session_warning settings_in_force show
        slots standing_handoffs stats status task task_files timeline to_record touched_files trend unlanded_plans
        versioned why work_not_here
    """,
    ("operate", "free"): "change_decision start_session verify",
    ("operate", "own"): """
        decide done fail handoff heartbeat release report report_changed report_files resume_session synthesize take_up
        written_by_run
    """,
    ("operate", "adds"): "add apply",
    ("operate", "closed"): """
        add_dependency add_gate allow approve archive begin_request cancel cancel_all change claim clean_up_run
        clean_up_sessions discard drop_artifacts end_session export_decisions finish_request give_up_request
        kill maintain message move open_gate refuse reject remove_dependency reopen retry run_role start_run
        take_next update waive_dependency written
    """,
    ("admin", "closed"): """
        clean_up_locks cleanup_stale_locks correct create_token delete demo follow_link forget_address forget_alerts
        forget_requests holder_of init is_key land log_in log_out look_for_alerts make_link migrate note_address
        page_address pause provide_key rebuild recheck reconcile restart_server resume revoke_token send_traces serve
        set_slots set_up set_up_client take_over tokens visitor_of work work_on
    """,
}

#: Use case -> what it needs.
RIGHTS: dict[str, Right] = {name: Right(*key) for key, names in _TABLE.items() for name in names.split()}


def refuse_less(caller: Caller, role: Role) -> None:
    """Raises InvalidInput (``forbidden``, ``key_needed``) for a caller whose role is less than ``role``."""
    if caller.has(role):
        return
    if caller.elsewhere:
        raise foreign_run(caller.elsewhere)
    if caller.actor == KEYLESS:
        raise key_needed("without the key of this server one may read, and do nothing")
    raise InvalidInput(
        f"{caller.actor} has the role {caller.role}, and this needs {role}",
        hint=f"use a token of the role {role}; roles are {', '.join(ROLES)}",
        code="forbidden",
    )


def key_needed(said: str) -> InvalidInput:
    """The error for who asks on the loopback interface without the key."""
    return InvalidInput(said, hint=HOW_TO_ACT, code="key_needed")


def foreign_run(run: str, code: str = "not_for_runs") -> InvalidInput:
    """The error for whoever is inside a run that this store has not: the number would mean somebody else's here."""
    return InvalidInput(
        f"{RUN_VARIABLE} names {run}, which is no run of this project's store: here it only reads",
        hint=f"go to its project with -C DIR, where {RUN_VARIABLE} is as its worker set it: STORE/R31",
        code=code,
        run=run,
    )


def is_run(actor: str | None) -> bool:
    """Whether an actor of the journal is a run."""
    return (actor or "").startswith(RUN)


def not_for_runs(run: str, what: str, *, is_known: bool = True, **details: Any) -> InvalidInput:
    """The error for what an agent may not do from inside its run; ``is_known``: the store knows it, so it can ask."""
    asks = f"; `orchestrion done {run} --next blocked --summary QUESTION` asks one" if is_known else ""
    return InvalidInput(
        f"{what} is not allowed from inside {run}",
        hint=f"a person may{asks}",
        code="not_for_runs",
        run=run,
        **details,
    )


def run_of(environ: Mapping[str, str]) -> str | None:
    """The run from inside which an environment is, of whichever store, or of none that can be told.

    Whoever set the variable meant to be inside; empty, it is not set.
    """
    mark = environ.get(RUN_VARIABLE, "")
    return (mark.rpartition("/")[2].strip() or mark.strip() or repr(mark))[:80] if mark else None


def refuse_runs(environ: Mapping[str, str], action: str) -> None:
    """Raises InvalidInput (``not_for_runs``) inside a run of any store, for what begins before a store is opened."""
    run = run_of(environ)
    if run and RIGHTS[action].in_run == "closed":
        raise not_for_runs(run, action.replace("_", " "), is_known=False)
