"""Every command there is: where it lies, and what it does in a few words.

The one table of the command line. A call imports only the module of its own command; help,
completion and the reference page come from here without importing any other.
"""

from __future__ import annotations

from typing import NamedTuple

NAME = "orchestrion"
#: The shells' completion asks through this variable.
COMPLETE_VARIABLE = "_ORCHESTRION_COMPLETE"


class Entry(NamedTuple):
    """One command."""

    #: As people type it.
    name: str
    #: Module of this folder that has it in its ``COMMANDS``.
    module: str
    #: What it does, as one goes on from "orchestrion NAME: ...".
    summary: str


class Section(NamedTuple):
    """Commands that belong together in the help."""

    title: str
    commands: tuple[Entry, ...]


SECTIONS: tuple[Section, ...] = (
    Section(
        "Plan",
        (
            Entry("init", "project", "make a folder a project"),
            Entry("add", "tasks", "create a task"),
            Entry("apply", "plans", "turn a plan file into tasks"),
            Entry("list", "tasks", "list tasks"),
            Entry("ready", "tasks", "list what may be claimed now, in that order"),
            Entry("show", "tasks", "show all about a task, a run or an artifact"),
            Entry("why", "tasks", "say why a task is not running"),
            Entry("graph", "plans", "draw the graph of tasks"),
            Entry("update", "tasks", "change a task"),
            Entry("move", "shape", "put a task under another parent"),
            Entry("dep", "shape", "add, remove and waive dependencies"),
            Entry("gate", "shape", "let a task wait for a person, a time or a fact"),
            Entry("archive", "decisions", "take a settled task out of the lists"),
            Entry("delete", "decisions", "remove a task that was never tried"),
        ),
    ),
    Section(
        "Run",
        (
            Entry("work", "work", "keep agents busy"),
            Entry("status", "plans", "show where everything stands"),
            Entry("claim", "claims", "take a task and get its brief"),
            Entry("heartbeat", "claims", "say that a run is alive"),
            Entry("done", "claims", "report a task as done"),
            Entry("fail", "claims", "report a task as failed"),
            Entry("release", "claims", "give a task back untouched"),
            Entry("approve", "decisions", "accept work in review"),
            Entry("reject", "decisions", "send work in review back"),
            Entry("retry", "decisions", "try a failed task again"),
            Entry("reopen", "decisions", "have a completed task done again"),
            Entry("cancel", "decisions", "give up a task that nobody wants any more"),
            Entry("run", "talk", "have a role do something at once"),
            Entry("runs", "runs", "list runs"),
            Entry("log", "runs", "show what a run's agent wrote"),
            Entry("debug", "doctor", "show everything that is known of a run"),
            Entry("diff", "runs", "show what a run changed"),
            Entry("files", "talk", "show which files runs change and tasks changed"),
            Entry("message", "talk", "say something to a running agent"),
            Entry("permissions", "talk", "decide about what agents were denied"),
            Entry("kill", "runs", "end a run"),
            Entry("pause", "runs", "let workers claim nothing"),
            Entry("resume", "runs", "let workers claim again"),
            Entry("slots", "runs", "show and set limits"),
            Entry("land", "plans", "bring a plan's work to your branch"),
            Entry("take-over", "plans", "let this clone have a plan whose clone is gone"),
        ),
    ),
    Section(
        "Remember",
        (
            Entry("prime", "memory", "say what is going on, in few words"),
            Entry("context", "memory", "show all that is needed to go on with a task or session"),
            Entry("handoff", "memory", "leave a word for the next session"),
            Entry("decide", "memory", "record a decision"),
            Entry("decisions", "memory", "show, find and export decisions"),
            Entry("verify", "memory", "hold recorded files against what is there"),
            Entry("search", "memory", "find decisions, tasks and artifacts by words"),
            Entry("sessions", "memory", "list, begin, resume and end sessions"),
            Entry("artifact", "runs", "print a stored result"),
            Entry("events", "project", "read the journal"),
            Entry("roles", "project", "list the roles a task can have"),
        ),
    ),
    Section(
        "Operate",
        (
            Entry("stats", "stats", "show what runs took, used and cost"),
            Entry("correct", "stats", "say what a run really used"),
            Entry("setup", "setup", "make another program use this one, with hooks and instructions"),
            Entry("hook", "setup", "answer a hook of Claude Code"),
            Entry("health", "operate", "measure how well everything is"),
            Entry("alerts", "operate", "show what asks for attention"),
            Entry("maintain", "operate", "put the project in order"),
            Entry("doctor", "doctor", "look whether all that runs need is there"),
            Entry("config", "project", "show settings and where they come from"),
            Entry("cleanup", "project", "free what dead claims still hold"),
            Entry("rebuild", "operate", "make a damaged SQLite store anew from its rows"),
            Entry("migrate", "project", "bring the store to this program's schema"),
            Entry("completion", "project", "print the completion script of a shell"),
            Entry("serve", "serve", "serve the page, REST and events"),
            Entry("up", "serve", "serve, and keep agents busy"),
            Entry("open", "serve", "let your browser into the server of this machine"),
            Entry("token", "serve", "make, list and revoke keys to the server"),
            Entry("mcp", "mcp", "serve tasks and memory to agents"),
            Entry("demo", "project", "watch a plan become merged work"),
        ),
    ),
)

#: The table by name.
BY_NAME: dict[str, Entry] = {entry.name: entry for section in SECTIONS for entry in section.commands}
