"""What a text advises, in what a client was given: a tool that it was listed, an address, else the command line.

Our texts are written for every door and name commands. A client of this door reads the tool
that does the same, if its profile lists it; what every client can read has an address
(``orchestrion://tasks/T1``). What neither does stays a command.
"""

from __future__ import annotations

import re

from orchestrion.core.rights import IN_A_SHELL
from orchestrion.interfaces.mcp import catalogue

#: How commands begin.
PROGRAM = "orchestrion"
_ADVISED = re.compile(rf"`{PROGRAM} ([^`]+)`")
_TASK = re.compile(r"\bT[1-9]\d*\b")
_REPORT = "task_id={task}, run={}, summary=TEXT, detailed_work=TEXT"
#: A command, without its program -> the tool, and its parameters; or an address. The first that fits, and is there.
_INSTEAD: tuple[tuple[str, str, str], ...] = (
    (r"(?:add|apply)\b.*", "plan_task", ""),
    (r"ready\b.*", "query_tasks", "status=pending"),
    (r"list --state (\w+)", "query_tasks", "status={}"),
    (r"list\b.*", "query_tasks", ""),
    (r"status", "get_status", ""),
    (r"claim (T\d+)", "execute_task", "task_id={}"),
    (r"claim --tag (\S+)", "claim_task", "tag={}"),
    (r"claim", "claim_task", ""),
    (r"done (R\d+)\b.* --next (\w+)\b.*", "complete_task", f"{_REPORT}, next_action={{}}"),
    (r"done (R\d+)\b.*", "complete_task", f"{_REPORT}, next_action=complete"),
    (r"fail (R\d+)\b.*", "update_task", "task_id={task}, run={}, status=failed, reason=TEXT"),
    (r"release (R\d+)", "update_task", "task_id={task}, run={}, status=pending"),
    (r"cancel (T\d+)\b.*", "cancel_task", "task_id={}"),
    (r"(?:archive|delete) (T\d+)", "delete_task", "task_id={}"),
    (r"retry (T\d+)", "update_task", "task_id={}, status=pending"),
    (r"(?:reject|reopen) (T\d+)\b.*", "update_task", "task_id={}, status=pending, reason=TEXT"),
    (r"update (T\d+) --description TEXT", "update_task", "task_id={}, description=TEXT"),
    (r"message (R\d+)\b.*", "message_run", "run_id={}, text=TEXT"),
    (r"approve (T\d+)", "update_task", "task_id={}, status=completed"),
    (r"sessions (S\d+) --resume", "resume_session", "session_id={}"),
    (r"sessions --start NAME", "initialize_session", ""),
    (r"sessions (S\d+)", "session_status", "session_id={}"),
    (r"sessions\b(?! --(?:start|clean)).*", "list_sessions", ""),
    (r"runs\b.*", "run_status", ""),
    (r"heartbeat (R\d+)", "heartbeat_run", "run_id={}"),
    (r"kill (R\d+)\b.*", "kill_run", "run_id={}"),
    (r"decide\b.*", "record_decision", ""),
    (r"decisions\b(?! --export).*", "search_decisions", ""),
    (r"context (T\d+)", "recover_context", "task_id={}"),
    (r"context (S\d+)", "recover_context", "session_id={}"),
    (r"prime", "recover_context", ""),
    (r"handoff --text\b.*", "recover_context", "handoff=TEXT"),
    (r"handoff (T\d+) --text\b.*", "recover_context", "task_id={}, handoff=TEXT"),
    (r"verify (T\d+)", "track_files", "task_id={}"),
    (r"init DIR", "initialize_session", "working_directory=DIR"),
    (r"(?:show|why) (T\d+)", "orchestrion://tasks/{}", ""),
    (r"show (R\d+)", "orchestrion://runs/{}", ""),
    (r"show (D\d+)", "orchestrion://decisions/{}", ""),
    (r"show (H\d+)", "orchestrion://handoffs/{}", ""),
    (r"handoff\b.* --list", "orchestrion://handoffs", ""),
    (r"log (R\d+)", "orchestrion://runs/{}/log", ""),
    (r"diff (R\d+)", "orchestrion://runs/{}/diff", ""),
    (r"artifact (A\d+)", "orchestrion://artifacts/{}", ""),
    (r"decisions", "orchestrion://decisions", ""),
)


def for_client(text: str, profile: str, task: str | None = None) -> str:
    """A text that advises commands, for a client with the tools of ``profile``.

    ``task`` is the one it is about; None: whichever a line names last before a command.
    """

    def instead(command: re.Match[str]) -> str:
        line = text[text.rfind("\n", 0, command.start()) + 1 : command.start()]
        return _instead(command[1], profile, task or (_TASK.findall(line) or ["TASK"])[-1]) or command[0]

    return _ADVISED.sub(instead, text.replace(IN_A_SHELL, ""))


def _instead(command: str, profile: str, task: str) -> str | None:
    for pattern, place, values in _INSTEAD:
        fits = re.fullmatch(pattern, command)
        if fits and "://" in place:
            return f"`{place.format(*fits.groups())}`"
        if fits and _is_listed(place, profile):
            return f"`{catalogue.PREFIX}{place}({values.format(*fits.groups(), task=task)})`"
    return None


def _is_listed(tool: str, profile: str) -> bool:
    return catalogue.BY_NAME[catalogue.PREFIX + tool] in catalogue.listed(profile)
