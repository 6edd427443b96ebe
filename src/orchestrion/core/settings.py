"""What may be set: one table, and how each kind of value is read and checked.

The table is data: name, kind, default, meaning, unit, limits. The documentation, ``config
show`` and the names of the environment variables all come from it. A value arrives either
in its own type (from YAML, from a program) or as text that stands for it (from the
environment, from a flag).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrion.core.masking import masked_address

#: Names of agents, roles, resources, checks and the project: some become file names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
#: Names of plans: they become branches.
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: Numbers as text: what Python reads besides (spaces, ``1_0``, ``nan``) is a slip of the pen.
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Setting(NamedTuple):
    """One line of the table: what a setting is called, holds and means."""

    #: Dotted name, as in the files.
    name: str
    #: Key of ``_KINDS``: how a value is read and what is allowed.
    kind: str
    #: Value when nobody sets it.
    default: Any
    #: One sentence.
    meaning: str
    #: Unit of a number.
    unit: str = ""
    #: Smallest number allowed.
    least: float = 0
    #: Largest number allowed.
    most: float = 1_000_000_000
    #: The words allowed, for a choice.
    choices: tuple[str, ...] = ()
    #: Whether ``none`` is a value although there is a default.
    takes_none: bool = False

    @property
    def named(self) -> bool:
        """Whether it holds named things, which the layers join name by name."""
        return isinstance(self.default, dict)

    @property
    def optional(self) -> bool:
        """Whether ``none`` is a value."""
        return self.default is None or self.takes_none

    @property
    def variable(self) -> str | None:
        """Its environment variable; things with a structure of their own have none."""
        if self.kind in ("commands", "agents", "servers"):
            return None
        return "ORCHESTRION_" + self.name.upper().replace(".", "_")


#: Hours after which a task of a role counts as stale: some roles think longer than others.
_STALE_ROLES = {
    "documenter": 8, "reviewer": 6, "researcher": 12, "tester": 16, "debugger": 24, "implementer": 48, "architect": 72,
}  # fmt: skip

SETTINGS: tuple[Setting, ...] = (
    Setting("project.name", "name", None, "name of the project in paths and on pages; none: that of its folder"),
    Setting("db", "text", None, "address of the database, postgresql://... or a path; none: the project's SQLite file"),
    Setting("agent.default", "name", "command", "agent of a task that neither it nor its role names one for"),
    Setting("agents", "agents", {}, "agents: a name, and a command, or adapter, program, model and permissions"),
    Setting("plan.default", "slug", "default", "plan of a task that is added without one"),
    Setting("work.slots", "integer", 4, "runs that one worker keeps going at the same time", "runs", least=1),
    Setting("slots.global", "integer", None, "runs at the same time in all; none: no limit", "runs"),
    Setting("slots.host", "integer", None, "runs at the same time on each host; none: no limit", "runs"),
    Setting("slots.agents", "amounts", {}, "runs at the same time of each agent named", "runs"),
    Setting("slots.roles", "amounts", {}, "runs at the same time of each role named", "runs"),
    Setting("resources", "amounts", {}, "how many tasks may hold each resource named at once; 1 if not said", "tasks"),
    Setting("lease.run_s", "number", 60, "how long a supervised run holds its task unrenewed", "s", least=1),
    Setting("lease.client_s", "number", 900, "how long a client holds its task unrenewed", "s", least=1),
    Setting("retry.max", "integer", 3, "retries of a task after transient failures", "retries", most=1000),
    Setting("retry.delay_s", "number", 60, "wait before the first retry; it doubles with each", "s"),
    Setting("retry.cap_s", "number", 3600, "longest wait before a retry", "s"),
    Setting("retry.jitter", "number", 0, "largest share of the wait that chance may add", "share", most=1),
    Setting("breaker.failures", "integer", 5, "failures of an agent itself in a row that open its breaker", least=1),
    Setting("breaker.cooldown_s", "number", 60, "how long a breaker stays open at first; it doubles", "s", least=0.1),
    Setting("run.timeout_s", "number", 1800, "longest time of a run in all", "s", least=0.1),
    Setting("run.stall_s", "number", None, "longest silence of an agent; none: no limit", "s", least=0.1),
    Setting("run.feedback", "integer", 2, "further goes of an agent whose work failed a check", "goes", most=100),
    Setting("run.max_turns", "integer", None, "turns of the model in one run; none: no limit", "turns", least=1),
    Setting("run.grace_s", "number", 5, "time that an agent gets to end by itself before it is killed", "s"),
    Setting(
        "run.memory_mb", "number", None, "memory of all processes of a run together; none: no limit", "MB", least=1
    ),
    Setting(
        "run.tools",
        "choice",
        None,
        "our own tools that every agent gets over MCP, a server (70 MB) for each run; none: it has the commands",
        choices=("core", "full"),
    ),
    Setting("servers", "servers", {}, "MCP servers that every agent gets: a name, and a command or a url"),
    Setting("budget.run_usd", "number", None, "most that one run may cost: at it the agent is ended; none: any", "USD"),
    Setting("budget.plan_usd", "number", None, "cost of a plan at which nothing more of it starts; none: any", "USD"),
    Setting("budget.day_usd", "number", None, "cost of a day (UTC) at which nothing more starts; none: any", "USD"),
    Setting(
        "workspace.isolation",
        "choice",
        "clone",
        "how a run gets its own copy: a clone of its own, or a linked worktree (shares stash and settings)",
        choices=("clone", "worktree"),
    ),
    Setting(
        "workspace.push",
        "choice",
        "refuse",
        "whether agents may push from a workspace to the project's remote: refuse or allow",
        choices=("refuse", "allow"),
    ),
    Setting("workspace.carry", "paths", (), "further paths in the git directory that every workspace gets"),
    Setting(
        "workspace.nested_mb", "number", 50, "size of a repository inside a workspace at which it is left out", "MB"
    ),
    Setting("workspace.setup", "text", None, "command that prepares each new workspace; none: nothing to prepare"),
    Setting("workspace.ports", "switch", True, "whether each workspace gets a port offset of its own"),
    Setting("workspace.keep_days", "number", 7, "age at which a workspace without unmerged work is removed", "days"),
    Setting("workspace.quota_gb", "number", 20, "size of all workspaces at which the oldest are removed", "GB"),
    Setting("git.name", "text", None, "name in commits that are made for agents; none: yours, as git knows it"),
    Setting("git.email", "text", None, "e-mail in commits that are made for agents; none: yours, as git knows it"),
    Setting("git.signoff", "switch", False, "whether commits that are made for agents get a Signed-off-by line"),
    Setting("git.sign", "switch", False, "whether commits in workspaces are signed, with your key"),
    Setting(
        "git.message", "text", None, "subject of these commits, with {title}, {task}, {run}, {plan}; none: {title}"
    ),
    Setting("checks", "commands", {}, "named checks: commands that a task may name from any door"),
    Setting("doors.commands", "switch", False, "whether MCP, REST and the page take shell commands in tasks and plans"),
    Setting("maintenance.every_h", "number", 24, "how often a worker puts the project in order; 0: never", "h"),
    Setting("maintenance.docs", "text", ".orchestrion/docs", "folder for the documents that maintenance writes"),
    Setting("stale.hours", "number", 24, "how long an open task may be untouched before it is stale", "h", least=0.01),
    Setting("stale.roles", "amounts", _STALE_ROLES, "the same for tasks of each role named", "h", least=1),
    Setting("stale.parents_h", "number", 168, "how long nothing may move below a parent that has hardly begun", "h"),
    Setting("stale.sessions_days", "number", 7, "how long a session may be silent before it is ended", "days"),
    Setting("retention.completed_days", "number", 90, "age at which a completed task is archived; 0: never", "days"),
    Setting("retention.failed_days", "number", 60, "age at which a failed task is archived; 0: never", "days"),
    Setting("retention.cancelled_days", "number", 30, "age at which a cancelled task is archived; 0: never", "days"),
    Setting("retention.logs_days", "number", 30, "age at which logs of runs of settled tasks go; 0: never", "days"),
    Setting(
        "retention.events_days", "number", 365, "age at which the journal forgets archived tasks; 0: never", "days"
    ),
    Setting(
        "retention.metrics_days", "number", 90, "age at which what a run used is kept as one sum; 0: never", "days"
    ),
    Setting("serve.commands", "switch", False, "an older name of doors.commands; either allows them"),
    Setting(
        "serve.key",
        "choice",
        "act",
        "what the server asks its key for on this machine: to act, or for all but /livez and /readyz",
        choices=("act", "all"),
    ),
    Setting(
        "serve.names", "text", None, "further names of the server, with commas between; none: those of this machine"
    ),
    Setting("serve.rate", "number", 100, "requests that each caller of the server may send; 0: any", "/s"),
    Setting(
        "serve.streams",
        "integer",
        500,
        "streams of events open at once; those without key or token make room",
        "streams",
    ),
    Setting(
        "alerts.every_s", "number", 30, "how often the server looks whether something asks for attention", "s", least=1
    ),
    Setting("alerts.command", "text", None, "command that is given each alert as JSON on its input; none: none"),
    Setting("alerts.webhook", "text", None, "address to which each alert is sent as JSON; none: none"),
    Setting(
        "alerts.sla", "amounts", {}, "longest time from ready to completed for tasks of each role named", "min", least=1
    ),
    Setting("alerts.failure_share", "number", 0.5, "share of failed runs that is worth an alert", "share", most=1),
    Setting(
        "alerts.failure_runs", "integer", 10, "ended runs of the last day that this takes at least", "runs", least=1
    ),
    Setting("alerts.disk_gb", "number", 1, "free space below which there is an alert", "GB"),
    Setting("alerts.budget_share", "number", 0.8, "share of a budget that is worth an alert", "share"),
    Setting(
        "telemetry.endpoint",
        "text",
        None,
        "collector to which the server sends traces (OTLP, HTTP); none: nowhere",
    ),
    Setting(
        "queue.max_open",
        "integer",
        100_000,
        "pending and ready tasks of a project at which new ones are refused; none: no limit",
        "tasks",
        takes_none=True,
    ),
    Setting("hierarchy.max_depth", "integer", None, "deepest level of child tasks; none: no limit", "levels", least=1),
    Setting("hierarchy.max_children", "integer", None, "most children of a task; none: no limit", "tasks", least=1),
)

#: The table by name.
BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}


class WrongValue(Exception):
    """A value that is not allowed; the reader of the file or environment says where it was found."""

    def __init__(self, name: str, found: Any, allowed: str) -> None:
        super().__init__(name)
        #: The setting, or the one named thing in it.
        self.name = name
        #: The value.
        self.found = found
        #: What is allowed, in words that go on from "must be".
        self.allowed = allowed


def valid(setting: Setting, value: Any, as_text: bool = False) -> Any:
    """``value`` in its own type; ``as_text`` if it is text that stands for it. Raises WrongValue."""
    if setting.optional and (value is None or (isinstance(value, str) and value.lower() == "none")):
        return None
    try:
        return _KINDS[setting.kind](setting, value, as_text)
    except WrongValue as wrong:
        if setting.optional:
            wrong.allowed += ", or none"
        raise


def described(value: Any) -> str:
    """``value`` for an error: short, its type to be seen, no password."""
    if isinstance(value, dict):
        text = f"a mapping ({', '.join(value)})"
    elif isinstance(value, list):
        text = f"a list of {len(value)}"
    elif value is None or isinstance(value, bool):
        text = "nothing" if value is None else str(value).lower()
    else:
        text = repr(masked_address(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(setting: Setting, value: Any, as_text: bool) -> str:
    return _plain_text(setting.name, value)


def _plain_text(name: str, value: Any) -> str:
    if isinstance(value, str) and value.strip() and _is_clean(value):
        return value
    raise WrongValue(name, value, "text that is not empty, in UTF-8, without control characters")


def _is_clean(text: str) -> bool:
    return not any(c == "\x7f" or (c < " " and c not in "\t\n") or "\ud800" <= c <= "\udfff" for c in text)


def _name(setting: Setting, value: Any, as_text: bool) -> str:
    return _plain_name(setting.name, value)


def _plain_name(name: str, value: Any) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise WrongValue(name, value, "a name of at most 100 letters, digits and . _ -, the first a letter or a digit")


def _slug(setting: Setting, value: Any, as_text: bool) -> str:
    if isinstance(value, str) and _SLUG.fullmatch(value):
        return value
    raise WrongValue(setting.name, value, "a name of at most 64 small letters, digits and . _ -")


def _choice(setting: Setting, value: Any, as_text: bool) -> str:
    if value in setting.choices:
        return str(value)
    raise WrongValue(setting.name, value, " or ".join(setting.choices))


def _switch(setting: Setting, value: Any, as_text: bool) -> bool:
    switch = _SWITCHES.get(value.lower()) if as_text else value
    if isinstance(switch, bool):
        return switch
    raise WrongValue(setting.name, value, "true or false")


def _integer(setting: Setting, value: Any, as_text: bool) -> int:
    return _whole(setting, setting.name, value, as_text)


def _whole(setting: Setting, name: str, value: Any, as_text: bool) -> int:
    number = int(value) if as_text and _INTEGER.fullmatch(value) else value
    if isinstance(number, int) and _allowed(setting, number):
        return number
    raise WrongValue(name, value, f"a whole number {_range(setting)}")


def _number(setting: Setting, value: Any, as_text: bool) -> float:
    number = float(value) if as_text and _NUMBER.fullmatch(value) else value
    if isinstance(number, int | float) and _allowed(setting, number):
        return number
    raise WrongValue(setting.name, value, f"a number {_range(setting)}")


def _allowed(setting: Setting, number: float) -> bool:
    # Python counts True as a number; NaN fails both comparisons.
    return not isinstance(number, bool) and setting.least <= number <= setting.most


def _range(setting: Setting) -> str:
    unit = f" ({setting.unit})" if setting.unit else ""
    return f"from {setting.least:,g} to {setting.most:,}{unit}"


def _amounts(setting: Setting, value: Any, as_text: bool) -> dict[str, int]:
    """``{claude: 2}``, or as text ``claude=2,codex=1``; a resource without a number counts 1."""
    pairs = _pairs(setting.name, value) if as_text else _mapping(setting.name, value)
    return {
        _plain_name(f"a name in {setting.name}", key): 1
        if amount is None and setting.name == "resources"
        else _whole(setting, f"{setting.name}.{key}", amount, as_text and isinstance(amount, str))
        for key, amount in pairs.items()
    }


def _pairs(name: str, text: str) -> dict[str, str | None]:
    parts = [part.partition("=") for part in text.split(",")]
    return {key.strip(): amount.strip() if separator else None for key, separator, amount in parts}


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise WrongValue(name, value, "names with a value each, as in `name: value`")


def _paths(setting: Setting, value: Any, as_text: bool) -> tuple[str, ...]:
    """A list of relative paths, or as text with commas between."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise WrongValue(setting.name, value, "a list of paths")
    paths = tuple(_plain_text(setting.name, one.strip()) for one in found if one.strip())
    for path in paths:
        if path.startswith("/") or ".." in path.split("/"):
            raise WrongValue(setting.name, path, "paths within the git directory")
    return paths


def _commands(setting: Setting, value: Any, as_text: bool) -> dict[str, str]:
    return {
        _plain_name(f"a name in {setting.name}", key): _plain_text(f"{setting.name}.{key}", command)
        for key, command in _mapping(setting.name, value).items()
    }


def _agents(setting: Setting, value: Any, as_text: bool) -> dict[str, dict[str, Any]]:
    return {
        _plain_name(f"a name in {setting.name}", key): _agent(f"{setting.name}.{key}", agent)
        for key, agent in _mapping(setting.name, value).items()
    }


def _agent(name: str, value: Any) -> dict[str, Any]:
    """A command that is the agent, or how a known kind of agent is to be used."""
    if isinstance(value, dict) and list(value) == ["command"]:
        return {"command": _plain_text(f"{name}.command", value["command"])}
    if not isinstance(value, dict) or not value or not value.keys() <= {*_AGENT_TEXTS, "permissions"}:
        raise WrongValue(name, value, "{command: COMMAND}, or some of adapter, program, model and permissions")
    found: dict[str, Any] = {key: _plain_text(f"{name}.{key}", value[key]) for key in _AGENT_TEXTS if key in value}
    if "program" in found:
        found["program"] = shlex.split(found["program"])
    if "permissions" in value:
        if value["permissions"] not in PERMISSIONS:
            raise WrongValue(f"{name}.permissions", value["permissions"], "read, edit or all")
        found["permissions"] = value["permissions"]
    return found


_AGENT_TEXTS = ("adapter", "program", "model")
#: What an agent may do without asking: only read, also write in its workspace, or everything.
PERMISSIONS = ("read", "edit", "all")


def _servers(setting: Setting, value: Any, as_text: bool) -> dict[str, dict[str, Any]]:
    return {
        _plain_name(f"a name in {setting.name}", key): _server(f"{setting.name}.{key}", server)
        for key, server in _mapping(setting.name, value).items()
    }


def _server(name: str, value: Any) -> dict[str, Any]:
    """A command line with variables for it, or an address with headers."""
    more = {"command": "env", "url": "headers"}
    door = next((key for key in more if isinstance(value, dict) and key in value), None)
    if door is None or not value.keys() <= {door, more[door]}:
        raise WrongValue(
            name, value, "{command: COMMAND, env: {NAME: VALUE}} or {url: ADDRESS, headers: {NAME: VALUE}}"
        )
    texts = _mapping(f"{name}.{more[door]}", value.get(more[door]))
    return {
        door: _plain_text(f"{name}.{door}", value[door]),
        more[door]: {str(key): _plain_text(f"{name}.{more[door]}.{key}", text) for key, text in texts.items()},
    }


#: How each kind of setting is read and checked.
_KINDS: dict[str, Callable[[Setting, Any, bool], Any]] = {
    "text": _text,
    "name": _name,
    "slug": _slug,
    "choice": _choice,
    "switch": _switch,
    "integer": _integer,
    "number": _number,
    "amounts": _amounts,
    "paths": _paths,
    "commands": _commands,
    "agents": _agents,
    "servers": _servers,
}
