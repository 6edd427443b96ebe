"""The order of a run: everything its supervisor is told, as one value.

The worker that claims a task writes it into the run's folder and launches a supervisor
that reads it. It is an instruction, not a state: what happens is in the database alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from orchestrion.core import private
from orchestrion.core.errors import NotFound
from orchestrion.core.values import name


@dataclass(frozen=True)
class Order:
    """What one supervisor is to do."""

    run: int
    task: int
    attempt: int
    title: str
    plan: str
    agent: str
    #: The command of the agent.
    command: str
    #: (name or command, command) of each check.
    checks: list[tuple[str, str]]
    #: Command that makes a fresh workspace usable.
    setup: str | None
    #: Whether accepted work is merged into the plan.
    merge: bool
    #: The project's folder.
    project: str
    #: Its name in the store.
    project_name: str
    #: Where workspaces are made; None: the project is no git repository, the agent works in its folder.
    workspaces: str | None
    isolation: str
    #: Identifies the store in the marker that the agent's processes carry.
    store: str
    timeout_s: float
    #: Longest silence of the agent; None: any.
    stall_s: float | None
    #: Further goes after a failed check.
    feedback: int
    #: Time to end politely, before it is killed.
    grace_s: float
    retry_cap_s: float
    retry_jitter: float
    #: When the run was claimed, which tells it from one of its number in a copy of the store; None: an older program.
    claimed_at: int | None = None
    #: The project's number there; None: an older program wrote this.
    project_number: int | None = None
    #: Id of the clone whose worker wrote it; None: an older program.
    clone: str | None = None
    #: The git directory that the project's worktrees share; None: the project is no git repository.
    git_dir: str | None = None
    #: The checkout in which the plan began, whose settings count; None: the main one.
    checkout: str | None = None
    #: Earlier runs of the task that left work, which the agent finds by the name of its branch.
    earlier: list[str] = field(default_factory=list)
    #: Further paths in the git directory that every workspace gets.
    carry: list[str] = field(default_factory=list)
    #: Whether the agent may push from its workspace.
    may_push: bool = False
    #: Larger repositories inside the workspace are not taken in, in MB.
    nested_mb: float = 50.0
    #: Whether the run gets port numbers of its own.
    ports: bool = True
    #: How our own commits look, as ``CommitStyle`` has it.
    commits: dict[str, Any] = field(default_factory=dict)
    #: Failures of the agent itself in a row that open its breaker, and for how long at first.
    breaker_failures: int = 5
    breaker_cooldown_s: float = 60.0
    #: How the settings describe the agent: adapter, program, and the like.
    settings: dict[str, Any] = field(default_factory=dict)
    #: Session of the agent to go on with; None: a new one.
    session: str | None = None
    #: What that session had used before, as ``Usage`` has it.
    spent: dict[str, Any] = field(default_factory=dict)
    #: Commit with the work of that session, where it goes on; None: the plan's tip.
    resume_from: str | None = None
    model: str | None = None
    max_turns: int | None = None
    budget_usd: float | None = None
    #: Memory of all processes of the run together at most, in MB (10^6 bytes); None: any.
    memory_mb: float | None = None
    allowed_tools: list[str] = field(default_factory=list)
    permissions: str = "edit"
    #: Servers of tools for the agent, as ``McpServer`` has them.
    servers: list[dict[str, Any]] = field(default_factory=list)
    #: The set of our own tools that the agent gets over MCP; None: none of them.
    tools: str | None = None
    #: Follows the request that asked for the run into the journal and the agent's environment; empty: the run's name.
    correlation: str = ""
    #: Its place in a distributed trace, as ``core.tracing`` has it.
    traceparent: str = ""

    @property
    def marker(self) -> str:
        """What the environment of every process of this run carries as ORCHESTRION_RUN."""
        return f"{self.store}/{name('R', self.run)}"


_NO_ORDER = "this is no order of ours"
#: File of a run's folder with the points of the sequence that it came to: a line each, when (ms) and which.
STEPS = "steps"


def folder(store_dir: Path, run: int) -> Path:
    """The folder of a run: its order, brief, log, evidence and the record of its processes."""
    return folder_named(store_dir, name("R", run))


def folder_named(store_dir: Path, run: str) -> Path:
    """The folder of a run that goes by its name, ``R31``."""
    return store_dir / "runs" / run


def made_folder(store_dir: Path, run: int) -> Path:
    """The folder of a run, which is there now.

    Raises NotPlain, OSError where the store's own is gone: that is not made anew.
    """
    place = folder(store_dir, run)
    private.make_folder(place.parent)
    private.make_folder(place)
    return place


def write(order: Order, brief: str, store_dir: Path) -> Path:
    """Makes the run's folder with its order and brief. Returns it."""
    place = made_folder(store_dir, order.run)
    private.write(place / "brief.md", brief)
    private.replace(place / "order.json", json.dumps(asdict(order), ensure_ascii=False, indent=1))
    return place


def read(store_dir: Path, run: int) -> Order:
    """The order of a run. Raises NotFound when nobody wrote one, NotPlain where somebody put something else there."""
    file = folder(store_dir, run) / "order.json"
    try:
        found = json.loads(private.read(file))
    except FileNotFoundError as error:
        raise NotFound(
            f"{name('R', run)} has no order at {file.parent}",
            hint="runs are started by `orchestrion work`",
            code="no_order",
        ) from error
    except (ValueError, RecursionError) as error:
        raise private.NotPlain(file, _NO_ORDER) from error
    known = {one.name for one in fields(Order)}
    try:
        # A worker of another version may have written it: what it says beside is not ours to do.
        told = {key: value for key, value in found.items() if key in known}
        return Order(**{**told, "checks": [(label, command) for label, command in found["checks"]]})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise private.NotPlain(file, _NO_ORDER) from error
