"""Every field of a task at every door: set, shown, changed, cleared, shown as cleared; or refused to be cleared."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from orchestrion import Orchestrator
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.model import CHANGEABLE, CLEARABLE, moment
from orchestrion.interfaces.cli.app import run
from orchestrion.interfaces.mcp import catalogue, server
from orchestrion.interfaces.mcp.desk import Desk, Seat
from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from premises import Premises, key_of

#: Field of NewTask -> its key in the task's JSON; the others are called there as here.
KEYS = {"command": "run_command"}
#: Field -> two values of it, as JSON; never the one that it has when nothing is said.
VALUES: dict[str, tuple[Any, Any]] = {
    "title": ("The first title", "The second title"),
    "description": ("As it was described", "Described anew"),
    "role": ("tester", "reviewer"),
    "agent": ("command", "claude"),
    "needs": (["gpu"], ["desk", "lab"]),
    "command": ("echo one-command", "echo other-command"),
    "checks": (["test"], ["lint", "test"]),
    "setup": ("echo one-setup", "echo other-setup"),
    "merge": ("none", "auto"),
    "priority": (7, 2),
    "type": ("research", "testing"),
    "complexity": ("complex", "simple"),
    "effort_min": (45.0, 90.0),
    "due_at": ("2031-03-17T00:00:00.000Z", "2032-04-18T00:00:00.000Z"),
    "max_retries": (8, 4),
    "retry_delay_s": (11.0, 22.0),
    "timeout_s": (333.0, 444.0),
    "tags": (["red"], ["blue", "green"]),
    "context": ({"why": "a-context"}, {"why": "b-context"}),
    "metadata": ({"from": "a-tracker"}, {"from": "b-tracker"}),
}
CLEARED = {
    field: {"": None, (): []}.get(CHANGEABLE[field], CHANGEABLE[field]) for field in CLEARABLE - {"context", "metadata"}
}
CLEARED |= {"description": "", "context": {}, "metadata": {}}


class Refused(Exception):
    """A door refused; its argument is the code."""


class Door:
    """One way in: how it makes a task with values, changes some, clears one, and shows the task."""

    #: Fields that it can give a task that it makes, and change.
    sets: frozenset[str] = frozenset(VALUES)
    clears: frozenset[str] = frozenset(CLEARABLE)

    def __init__(self, place: Premises, cases: Orchestrator) -> None:
        self.place = place
        self.cases = cases

    def make(self, values: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def clear(self, task: str, field: str) -> None:
        raise NotImplementedError

    def shown(self, task: str) -> Mapping[str, Any]:
        """The task's JSON at this door."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what the door keeps open."""


class Python(Door):
    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        lists = {field: tuple(value) if isinstance(value, list) else value for field, value in values.items()}
        return lists | ({"due_at": moment(values["due_at"])} if "due_at" in values else {})

    def make(self, values: Mapping[str, Any]) -> str:
        return str(self.cases.add(**self._given(values)).as_json()["id"])

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        self.cases.update(task, **self._given(values))

    def clear(self, task: str, field: str) -> None:
        try:
            self.cases.update(task, **{field: None})
        except OrchestrionError as problem:
            raise Refused(problem.code) from problem

    def shown(self, task: str) -> Mapping[str, Any]:
        return self.cases.task(task).as_json()


class Cli(Door):
    #: The command line has no option for free data; it shows and clears it.
    sets = frozenset(VALUES) - {"context", "metadata"}
    OPTIONS: ClassVar = {
        "command": "run", "checks": "check", "effort_min": "effort", "due_at": "due", "max_retries": "max-retries",
        "retry_delay_s": "retry-delay", "timeout_s": "timeout", "tags": "tag",
    }  # fmt: skip

    def _options(self, values: Mapping[str, Any]) -> list[str]:
        found: list[str] = []
        for field, value in values.items():
            for one in value if isinstance(value, list) else [value]:
                found += [f"--{self.OPTIONS.get(field, field)}", str(one)]
        return found

    def __call__(self, *arguments: str) -> str:
        before = Path.cwd()
        os.chdir(self.place.root)
        try:
            with CliRunner().isolation(env=self.place.environ) as (out, err, _):
                ended = run(arguments)
                said, wrong = out.getvalue().decode(), err.getvalue().decode()
        finally:
            os.chdir(before)
        if ended:
            raise Refused(json.loads(wrong)["error"]["code"] if "--json" in arguments else wrong)
        return said

    def make(self, values: Mapping[str, Any]) -> str:
        options = self._options({field: value for field, value in values.items() if field != "title"})
        return str(json.loads(self("add", values["title"], *options, "--json"))["id"])

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        self("update", task, *self._options(values))

    def clear(self, task: str, field: str) -> None:
        self("update", task, f"--no-{self.OPTIONS.get(field, field)}", "--json")

    def shown(self, task: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self("show", task, "--json"))
        return found


class Rest(Door):
    def __init__(self, place: Premises, cases: Orchestrator) -> None:
        super().__init__(place, cases)
        self.client = TestClient(
            create_app(House(cases)), base_url="http://127.0.0.1:7117", client=("127.0.0.1", 50000)
        )
        self.client.headers["authorization"] = f"Bearer {key_of(place.root)}"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self.client.request(method, f"/api/v1/{path}", json=body)
        if answer.status_code >= 400:
            raise Refused(answer.json()["code"])
        return answer.json()

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"run" if field == "command" else field: value for field, value in values.items()}

    def make(self, values: Mapping[str, Any]) -> str:
        return str(self.ask("POST", "tasks", self._given(values))["id"])

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        self.ask("PATCH", f"tasks/{task}", self._given(values))

    def clear(self, task: str, field: str) -> None:
        self.ask("PATCH", f"tasks/{task}", self._given({field: None}))

    def shown(self, task: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.ask("GET", f"tasks/{task}")
        return found


class Mcp(Door):
    NAMES: ClassVar = {
        "role": "specialist_type", "effort_min": "estimated_effort", "due_at": "due_date", "type": "task_type",
        "command": "run_command",
    }  # fmt: skip
    sets = frozenset(VALUES) - {
        "agent",
        "needs",
        "setup",
        "merge",
        "max_retries",
        "retry_delay_s",
        "timeout_s",
        "metadata",
    }
    clears = frozenset(catalogue.CLEARED.values())

    def __init__(self, place: Premises, cases: Orchestrator) -> None:
        super().__init__(place, cases)
        self.desk = Desk(str(place.root), place.environ["ORCHESTRION_DB"], place.environ, confined=False)

    def close(self) -> None:
        self.desk.close()
        for opened in self.desk.opened():
            opened.close()

    def call(self, tool: str, **given: Any) -> Any:
        seat = Seat("stdio-test", "tester")
        answer = server.answer(self.desk, seat, catalogue.BY_NAME[f"orchestrator_{tool}"], given, lambda *_: None)
        if answer[1]:
            raise Refused(answer[0]["error"]["code"])
        return answer[0]

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        given = {self.NAMES.get(field, field): value for field, value in values.items()}
        return given | ({"estimated_effort": f"{values['effort_min']:g} min"} if "effort_min" in values else {})

    def make(self, values: Mapping[str, Any]) -> str:
        return str(self.call("plan_task", **{"description": "", **self._given(values)})["task_id"])

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        self.call("update_task", task_id=task, **self._given(values))

    def clear(self, task: str, field: str) -> None:
        self.call("update_task", task_id=task, clear=[self.NAMES.get(field, field)])

    def shown(self, task: str) -> Mapping[str, Any]:
        # What an update answers is all of the task; a priority that it has already changes nothing.
        whole = self.call("update_task", task_id=task, priority=self.cases.task(task).row["priority"])
        found = {field: whole.get(self.NAMES.get(field, field)) for field in VALUES}
        found["role"] = None if found["role"] == "generic" else found["role"]
        found["effort_min"] = None if found["effort_min"] is None else float(found["effort_min"].removesuffix(" min"))
        return found | {"run_command": found["command"], **{f: found[f] or [] for f in ("needs", "checks", "tags")}}


class Plan(Door):
    """A plan file, and the same again with other values; null clears."""

    NAMES: ClassVar = {"command": "run", "due_at": "due", "retry_delay_s": "retry_delay", "timeout_s": "timeout"}

    def _apply(self, values: Mapping[str, Any]) -> str:
        task = {"title": "t", "key": "k"} | {self.NAMES.get(field, field): value for field, value in values.items()}
        document = {"plan": "default", "tasks": [task]}
        return str(self.cases.apply(json.dumps(document).encode(), "plan.json")["tasks"]["k"])

    def make(self, values: Mapping[str, Any]) -> str:
        return self._apply(values)

    def change(self, task: str, values: Mapping[str, Any]) -> None:
        assert self._apply(values) == task

    def clear(self, task: str, field: str) -> None:
        assert self._apply({field: None}) == task

    def shown(self, task: str) -> Mapping[str, Any]:
        return self.cases.task(task).as_json()


DOORS = (Python, Cli, Rest, Mcp, Plan)


@pytest.fixture
def place(tmp_path: Path, environ: dict[str, str], store_url: str) -> Premises:
    made = Premises(tmp_path / "project", environ | {"ORCHESTRION_DB": store_url})
    settings = {"checks": {"test": "true", "lint": "true"}, "serve": {"commands": True}, "doors": {"commands": True}}
    made.make(settings)
    return made


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__.lower())
def door(request: pytest.FixtureRequest, place: Premises) -> Iterator[Door]:
    with place.open() as cases:
        one = request.param(place, cases)
        yield one
        one.close()


def of(door: Door, place: int) -> dict[str, Any]:
    """The first or the second values of all fields that a door sets."""
    return {field: VALUES[field][place] for field in VALUES if field in door.sets}


def test_the_values_are_of_every_field() -> None:
    assert VALUES.keys() == CHANGEABLE.keys()
    assert CLEARED.keys() == CLEARABLE
    assert {field for field, (first, _) in VALUES.items() if first == CHANGEABLE[field]} == set()


def test_what_is_set_is_shown_changed_and_cleared(door: Door) -> None:
    task = door.make(of(door, 0))
    for place, act in ((0, lambda: None), (1, lambda: door.change(task, of(door, 1)))):
        act()
        shown, kept = door.shown(task), door.cases.task(task).as_json()
        for field, value in of(door, place).items():
            key = KEYS.get(field, field)
            assert (field, shown[key]) == (field, value)
            assert (field, kept[key]) == (field, value)
    for field in sorted(door.clears):
        before = door.cases.task(task).as_json()
        door.clear(task, field)
        key = KEYS.get(field, field)
        shown, after = door.shown(task), door.cases.task(task).as_json()
        assert (field, shown[key] or None) == (field, CLEARED[field] or None)
        assert (field, after[key]) == (field, CLEARED[field])
        if not isinstance(door, Plan):  # the others of its fields are those of the file
            assert {one for one in after if after[one] != before[one]} <= {key, "updated_at"}


@pytest.mark.parametrize("kind", [Python, Rest])
@pytest.mark.parametrize("field", sorted(CHANGEABLE.keys() - CLEARABLE))
def test_what_every_task_has_is_not_cleared(place: Premises, kind: type[Door], field: str) -> None:
    with place.open() as cases:
        door = kind(place, cases)
        task = door.make(of(door, 0))
        before = cases.task(task).as_json()
        with pytest.raises(Refused, match="not_clearable"):
            door.clear(task, field)
        assert cases.task(task).as_json() == before


def test_people_see_what_was_set_and_not_what_was_cleared(place: Premises) -> None:
    """The command line's text and the page, for all fields."""
    marks = {
        field: [
            str(one)
            for one in (value if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else [value])
        ]
        for field, (value, _) in VALUES.items()
    }
    said = {"effort_min": ["45 min"], "retry_delay_s": ["11 s"], "due_at": ["2031-03-17"], "max_retries": ["of 8"]}
    merge = {"cli": ["none"], "page": ["not merged into the plan"]}
    timeout = {"cli": ["333 s"], "page": ["5 min 33 s"]}
    with place.open() as cases:
        task = Python(place, cases).make(of(Python(place, cases), 0))
        doors = {
            "cli": lambda: Cli(place, cases)("show", task),
            "page": lambda: html.unescape(Rest(place, cases).client.get(f"/tasks/{task}").text),
        }
        for name, show in doors.items():
            text = show()
            for field, words in (marks | said | {"merge": merge[name], "timeout_s": timeout[name]}).items():
                assert [word for word in words if word not in text] == [], (name, field)
        for field in CLEARABLE:
            cases.update(task, **{field: None})
        for name, show in doors.items():
            text = show().partition('id="history"')[0]
            for field in CLEARABLE - {"role", "agent", "checks"}:
                words = (marks | said | {"timeout_s": timeout[name]})[field]
                assert [word for word in words if word in text] == [], (name, field)


def test_a_null_for_a_tool_changes_nothing_and_says_so(place: Premises) -> None:
    with place.open() as cases:
        door = Mcp(place, cases)
        task = door.make(of(door, 0))
        answer = door.call("update_task", task_id=task, due_date=None, title="x")
        assert answer["changes_applied"] == ["title"]
        with pytest.raises(Refused, match="nothing_to_change"):
            door.call("update_task", task_id=task, due_date=None)
        with pytest.raises(Refused, match="invalid_parameters"):
            door.call("update_task", task_id=task, due_date="2031-01-01", clear=["due_date"])
        door.close()


def test_patch_moves_a_task_and_null_puts_it_under_no_other(place: Premises) -> None:
    with place.open() as cases:
        door = Rest(place, cases)
        parent, child = (door.make({"title": title}) for title in ("parent", "child"))
        door.ask("PATCH", f"tasks/{child}", {"parent": parent, "title": "moved"})
        assert (door.shown(child)["parent"], door.shown(child)["title"]) == (parent, "moved")
        door.ask("PATCH", f"tasks/{child}", {"title": "still there"})
        assert door.shown(child)["parent"] == parent
        door.ask("PATCH", f"tasks/{child}", {"parent": None})
        assert door.shown(child)["parent"] is None
        with pytest.raises(Refused, match="no_task"):
            door.ask("PATCH", f"tasks/{child}", {"parent": "T99", "title": "not half of it"})
        assert door.shown(child)["title"] == "still there"
