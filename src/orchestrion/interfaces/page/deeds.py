"""What a person can do on the page: one table, from which forms, buttons and routes follow.

Each deed is a use case with words around it. A deed with fields is asked about first, in a
dialog, which has a key: sent again after its answer was lost, it is done once. An action answers
with a note that says what happened; the view it was done in asks for itself again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orchestrion.core.errors import InvalidInput, NotFound, OrchestrionError
from orchestrion.core.values import is_blank
from orchestrion.interfaces.page import sheet
from orchestrion.interfaces.page.door import PageRoute, caller_of, form_of, told_of
from orchestrion.interfaces.web.house import House
from orchestrion.orchestrator import Orchestrator


@dataclass(frozen=True)
class Field:
    """One thing that is asked before a deed."""

    name: str
    label: str
    #: ``text`` (a browser makes one line of it), ``area`` (as it was written), ``number``, or ``choice``.
    kind: str = "text"
    required: bool = False
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    #: Codes of refusals that are about it.
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deed:
    """One thing that can be done to a task, a gate, a run, an agent's breaker or the queue."""

    label: str
    #: What is said when it is done, unless ``act`` gives a text; ``{thing}`` is what it was done to.
    said: str
    act: Callable[[Orchestrator, str, Mapping[str, str]], object]
    fields: tuple[Field, ...] = ()
    #: ``main``: what is usually wanted; ``danger``: hard to undo; empty: neither.
    tone: str = ""
    #: The key that does it on the chosen card.
    key: str = ""
    #: What the buttons of its dialog say: the one that does it (its label, if nothing is said), the one that does not.
    submit: str = ""
    leave: str = "Not now"
    #: What the fields of its dialog hold at first: the values that the thing has.
    present: Callable[[Orchestrator, str], Mapping[str, str]] = lambda cases, thing: {}
    #: What is decided, in lines above the fields of its dialog.
    about: Callable[[Orchestrator, str], Sequence[str]] = lambda cases, thing: ()


@dataclass(frozen=True)
class Button:
    """A deed, offered for one thing."""

    #: Where it is asked about, or done.
    path: str
    label: str
    #: Whether something is asked first.
    asks: bool
    tone: str
    key: str
    #: What a screen reader says.
    spoken: str


_REASON = Field("reason", "Reason", "area", required=True, hint="It is kept in the history, and the next brief has it.")
_KINDS = (
    ("blocks", "It is completed"),
    ("data", "It is completed; its result is handed on"),
    ("soft", "It has ended, however it ended"),
    ("on_failure", "It has failed; otherwise this is not needed"),
)
_AFTER = (("block", "Stay blocked"), ("cancel", "Are cancelled too"))
_PRIORITY = Field(
    "priority",
    "Priority, 1 to 10",
    "number",
    required=True,
    hint="10 is taken first.",
    codes=("invalid_priority", "invalid_number"),
)
#: Refusals of the names of other tasks.
_TASK_CODES = ("invalid_id", "no_task", "cycle", "cancelled_prerequisite")
_OTHER = Field("on", "Waits for", required=True, hint="The id of a task, such as T12.", codes=_TASK_CODES)

DEEDS: dict[str, dict[str, Deed]] = {
    "tasks": {
        "approve": Deed("Approve", "{thing} is approved", lambda o, t, f: o.approve(t), tone="main", key="a"),
        "reject": Deed("Reject", "{thing} goes back", lambda o, t, f: o.reject(t, f["reason"]), (_REASON,), key="r"),
        "retry": Deed("Retry", "{thing} is tried again", lambda o, t, f: o.retry(t), tone="main", key="r"),
        "resume": Deed(
            "Retry in its session", "{thing} is tried again in its session", lambda o, t, f: o.retry(t, resume=True)
        ),
        "reopen": Deed("Reopen", "{thing} is to be done again", lambda o, t, f: o.reopen(t, f["reason"]), (_REASON,)),
        "cancel": Deed(
            "Cancel",
            "{thing} is cancelled",
            lambda o, t, f: o.cancel(t, f["reason"], dependents=f.get("dependents") or "block"),
            (
                replace(_REASON, hint="It is kept in the history."),
                Field("dependents", "Tasks that wait for it", "choice", choices=_AFTER, value="block"),
            ),
            tone="danger",
            key="x",
            submit="Cancel the task",
            leave="Keep it",
        ),
        "priority": Deed(
            "Priority",
            "{thing} has another priority",
            lambda o, t, f: o.update(t, priority=_number(f, "priority")),
            (_PRIORITY,),
            key="p",
            present=lambda o, t: {"priority": str(o.task(t).row["priority"])},
        ),
        "dependency": Deed(
            "Add dependency",
            "{thing} waits for another task",
            lambda o, t, f: _wait_for(o, t, f["on"], f.get("kind") or "blocks"),
            (
                _OTHER,
                Field("kind", "Until", "choice", choices=_KINDS, value="blocks"),
            ),
            key="d",
        ),
    },
    "gates": {
        "answer": Deed(
            "Answer",
            "{thing} is answered",
            lambda o, g, f: o.open_gate(g, answer=f["answer"]),
            (Field("answer", "Answer", "area", required=True, hint="The next brief has it."),),
            tone="main",
            key="a",
            about=lambda o, g: _asked(o, g),
        ),
        "now": Deed("Open now", "{thing} is opened", lambda o, g, f: o.open_gate(g), key="a"),
        "open": Deed("Approve", "{thing} is opened", lambda o, g, f: o.open_gate(g), tone="main", key="a"),
        "refuse": Deed(
            "Refuse",
            "{thing} is refused",
            lambda o, g, f: o.open_gate(g, answer=f.get("answer") or None, refuse=True),
            (Field("answer", "Why", "area"),),
            tone="danger",
            about=lambda o, g: _asked(o, g),
        ),
    },
    "runs": {
        "message": Deed(
            "Message",
            "The agent of {thing} will read it",
            lambda o, r, f: o.message(r, f["text"], wait_s=0),
            (Field("text", "Message", "area", required=True, hint="The agent reads it while it works, or next."),),
            key="m",
        ),
        "kill": Deed(
            "Kill",
            "{thing} is killed",
            lambda o, r, f: o.kill(r, f.get("reason") or "killed by a person"),
            (Field("reason", "Reason", "area", value="killed by a person"),),
            tone="danger",
            key="x",
            submit="Kill the run",
            leave="Let it run",
        ),
    },
    "permissions": {
        "allow": Deed("Allow", "The next attempt may", lambda o, p, f: o.allow(_permission(p)), tone="main", key="a"),
        "refuse": Deed("Refuse", "It stays denied", lambda o, p, f: o.refuse(_permission(p)), key="x"),
    },
    "agents": {"close": Deed("Try again", "{thing} is used again", lambda o, a, f: o.resume(a), tone="main")},
    "queue": {
        "pause": Deed("Pause the queue", "Workers claim nothing any more", lambda o, q, f: o.pause()),
        "resume": Deed("Resume", "Workers claim again", lambda o, q, f: o.resume(), tone="main"),
    },
}

_OPEN = ("priority", "dependency", "cancel")
#: What is offered for a task in each state, the usual first.
OFFERED: dict[str, tuple[str, ...]] = {
    "pending": _OPEN,
    "ready": _OPEN,
    "in_progress": ("priority",),
    "retrying": ("cancel",),
    "blocked": _OPEN,
    "review": ("approve", "reject", "cancel"),
    "completed": ("reopen",),
    "failed": ("retry", "cancel", "resume"),
    "cancelled": (),
}
_GATES = {
    "question": ("answer", "refuse"),
    "approval": ("open", "refuse"),
    "external": ("open", "refuse"),
    "time": ("now",),
}

NEW_TASK = (
    Field("title", "Title", required=True, codes=("invalid_title",)),
    Field("description", "What is to be done", "area"),
    Field(
        "command",
        "Command",
        "area",
        hint="For the agent “command”; agents with a model need none.",
        codes=("commands_refused", "invalid_command"),
    ),
    Field("role", "Role", codes=("no_role", "invalid_role")),
    Field("plan", "Plan", codes=("invalid_plan_name",)),
    Field("after", "Waits for", hint="Ids of tasks, such as T3 T4.", codes=_TASK_CODES),
    replace(_PRIORITY, required=False, value="5", hint=""),
)
_NEW = Deed("New task", "{thing} is added", lambda o, _, f: _add(o, f), NEW_TASK, submit="Add the task")


def for_task(
    task: str,
    state: str,
    gates: Sequence[Mapping[str, Any]] = (),
    run: str | None = None,
    *,
    supervised: bool = True,
    has_session: bool = False,
) -> list[Button]:
    """Buttons of a task: those of its open gates, of the run that holds it, and its own.

    With several gates each button names its gate, and none has a key. ``has_session``: a run of it had one of its
    agent, with which another can go on.
    """
    buttons = [button for gate in gates for button in for_gate(gate)]
    if len(gates) > 1:
        buttons = [replace(button, label=button.spoken, key="") for button in buttons]
    if run:
        buttons += for_run(run, supervised=supervised)
    verbs = OFFERED.get(state, ())
    return buttons + [_button("tasks", verb, task) for verb in verbs if verb != "resume" or has_session]


def for_gate(gate: Mapping[str, Any]) -> list[Button]:
    """Buttons of an open gate."""
    return [_button("gates", verb, gate["id"]) for verb in _GATES[gate["kind"]]]


def for_permission(permission: int, *, allowable: bool) -> list[Button]:
    """Buttons of something that an agent asked for; what no rule allows can only be refused."""
    return [
        _button("permissions", verb, str(permission)) for verb in ("allow", "refuse") if allowable or verb != "allow"
    ]


def for_run(run: str, *, supervised: bool) -> list[Button]:
    """Buttons of an active run; one that a client holds has nobody who would hand a message on."""
    return [_button("runs", verb, run) for verb in DEEDS["runs"] if supervised or verb != "message"]


def _button(noun: str, verb: str, thing: str) -> Button:
    deed = DEEDS[noun][verb]
    return Button(
        f"/{noun}/{quote(thing, safe='')}/{verb}",
        deed.label,
        bool(deed.fields),
        deed.tone,
        deed.key,
        f"{deed.label} {thing}",
    )


def routes(house: House) -> APIRouter:
    """Forms and actions."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/new")
    async def ask_task(request: Request) -> Response:
        given = {field.name: request.query_params.get(field.name, field.value) for field in _NEW.fields}
        return _dialog(request, _new(request), "New task", "/tasks", given)

    @router.post("/tasks")
    async def add_task(request: Request) -> Response:
        given = await form_of(request)
        cases = house.on_behalf_of(caller_of(request))
        try:
            made = (await house.do(lambda: _add(cases, given))).as_json()["id"]
        except OrchestrionError as problem:
            return _dialog(request, _new(request), "New task", "/tasks", given, problem)
        return done(request, f"{made} is added", link=f"/tasks/{made}")

    for noun, verbs in DEEDS.items():
        for verb, deed in verbs.items():
            _route(router, house, noun, verb, deed)
    return router


def _new(request: Request) -> Deed:
    """Whoever may give no shell commands is not asked for one."""
    takes_commands = caller_of(request).may_run_commands
    fields = tuple(field for field in NEW_TASK if field.name != "command" or takes_commands)
    return replace(_NEW, fields=fields)


def _route(router: APIRouter, house: House, noun: str, verb: str, deed: Deed) -> None:
    """The form and the action of one deed."""

    def dialog(
        request: Request,
        thing: str,
        given: Mapping[str, str],
        about: Sequence[str],
        problem: OrchestrionError | None = None,
    ) -> Response:
        path = f"/{noun}/{quote(thing, safe='')}/{verb}"
        return _dialog(request, deed, f"{deed.label} {thing}", path, given, problem, about)

    @router.get(f"/{noun}/{{thing}}/{verb}/form")
    async def ask(request: Request, thing: str) -> Response:
        usual = {field.name: field.value for field in deed.fields}
        present = await house.do(lambda: deed.present(house.cases, thing))
        about = await house.do(lambda: _about(deed, house.cases, thing))
        return dialog(request, thing, {**usual, **present, **request.query_params}, about)

    @router.post(f"/{noun}/{{thing}}/{verb}")
    async def act(request: Request, thing: str) -> Response:
        given = await form_of(request)
        cases = house.on_behalf_of(caller_of(request))
        try:
            _refuse_incomplete(deed, thing, given)
            said = await house.do(lambda: deed.act(cases, thing, given))
        except OrchestrionError as problem:
            if not deed.fields:
                raise
            about = await house.do(lambda: _about(deed, cases, thing))
            return dialog(request, thing, given, about, problem)
        return done(request, said if isinstance(said, str) else deed.said.format(thing=thing))


def _about(deed: Deed, cases: Orchestrator, thing: str) -> Sequence[str]:
    """What is decided; of a thing that is not there, nothing: its refusal says so."""
    try:
        return deed.about(cases, thing)
    except OrchestrionError:
        return ()


def _refuse_incomplete(deed: Deed, thing: str, given: Mapping[str, str]) -> None:
    for field in deed.fields:
        if field.required and is_blank(given.get(field.name, "")):
            raise InvalidInput(
                f"{deed.label.lower()} {thing}: {field.label.lower()} is missing",
                hint="fill it in",
                code="field_missing",
                field=field.name,
            )


def _dialog(
    request: Request,
    deed: Deed,
    heading: str,
    path: str,
    given: Mapping[str, str],
    problem: OrchestrionError | None = None,
    about: Sequence[str] = (),
) -> Response:
    """The dialog of a deed; again, with what was filled in, when that was refused: the problem stands at its field."""
    told = told_of(request, problem) if problem else None
    at = next((field.name for field in deed.fields if problem and _is_about(problem, field)), None)
    answer = sheet.filled(
        request,
        "ask.html",
        status=told["status"] if told else 200,
        heading=heading,
        path=path,
        deed=deed,
        about=about,
        key=uuid4().hex,
        given={field.name: given.get(field.name, "") for field in deed.fields},
        problem=told,
        at=at,
    )
    if problem:
        answer.headers["HX-Retarget"] = "#dialog"
        answer.headers["HX-Reswap"] = "innerHTML"
    return answer


def _is_about(problem: OrchestrionError, field: Field) -> bool:
    return problem.details.get("field") == field.name or problem.code in field.codes


def done(request: Request, said: str, *, link: str = "") -> Response:
    """A note of what was done."""
    return sheet.filled(request, "note.html", said=said, problem=None, link=link)


def _asked(cases: Orchestrator, gate: str) -> Sequence[str]:
    """What a gate asks, and whose it is."""
    found = cases.gate(gate)
    return [*([found["name"]] if found["name"] else []), f"{found['task']} {found['title']}"]


def _permission(thing: str) -> int:
    if not (thing.isascii() and thing.isdigit() and len(thing) < 16):
        raise NotFound(f"there is no permission {thing[:40]!r}", hint="reload the page", code="no_permission")
    return int(thing)


def _number(given: Mapping[str, str], field: str) -> int:
    try:
        return int(given[field])
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"{field} is not a whole number: {given.get(field, '')[:40]!r}", hint="for example 5", code="invalid_number"
        ) from error


def _wait_for(cases: Orchestrator, task: str, on: str, kind: str) -> str | None:
    before = cases.show(task)["edges"]
    if cases.add_dependency(task, on, kind) and cases.show(task)["edges"] == before:
        return f"Nothing changed: {task} waits for {on.upper()} already"
    return None


def _add(cases: Orchestrator, given: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {
        name: given[name] for name in ("description", "command", "role", "plan") if given.get(name)
    }
    if given.get("priority"):
        values["priority"] = _number(given, "priority")
    after = given.get("after", "").replace(",", " ").split()
    return cases.add(given.get("title", ""), after=after, **values)
