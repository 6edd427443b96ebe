"""The part of AGENTS.md that is ours: between two markers, with a version, replaced where it stands.

Everything outside the markers belongs to the team.
"""

from __future__ import annotations

import re

from orchestrion.ops.setup.broken import Broken

#: Raised whenever the text changes; a block of another version is replaced by the next set-up.
VERSION = 1
NAME = "AGENTS.md"
_BEGIN = f"<!-- orchestrion:begin v{VERSION} (kept by `orchestrion setup`; write outside of it) -->"
_END = "<!-- orchestrion:end -->"
_ANY_BEGIN = re.compile(r"^<!-- orchestrion:begin\b[^\n]*?-->[ \t]*\r?$", re.MULTILINE)
_ANY_END = re.compile(r"^<!-- orchestrion:end -->[ \t]*\r?$", re.MULTILINE)
_TEXT = """\
## Tasks and memory: Orchestrion

This project keeps its tasks, decisions and file changes in Orchestrion. Use its MCP tools
(`orchestrator_*`) where you have them, else the command `orchestrion`; both show the same.

- First of all: `orchestrator_initialize_session`, or `orchestrion prime`, says what is going on.
- Plan with `orchestrator_plan_task`, or `orchestrion add TITLE --after T1`; the same for what you
  find on the way. `orchestrator_query_tasks`, or `orchestrion ready`, lists what there is.
- Take a task with `orchestrator_execute_task`, or `orchestrion claim T1`: nobody else gets it, and
  the answer is its brief and the name of your run.
- Record what you decide, and why: `orchestrator_record_decision`, or
  `orchestrion decide TITLE --rationale TEXT`.
- Report with `orchestrator_complete_task`, or `orchestrion done R1 --summary TEXT --file PATH`. The
  task's checks run first; if one fails, mend it and report again. Cannot go on?
  `orchestrion fail R1 --error TEXT` or `orchestrion release R1`.
- Before you stop with work left: `orchestrion handoff`."""


def put(text: str) -> str:
    """The text with our block, in place of an older one or at its end. Raises Broken."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = f"{_BEGIN}\n{_TEXT}\n{_END}".replace("\n", newline)
    found = _found(text)
    if found:
        return text[: found[0]] + block + text[found[1] :]
    head = text if not text or text.endswith("\n") else text + newline
    return head + (newline if head.strip() else "") + block + newline


def take_out(text: str) -> str:
    """The text without our block. Raises Broken."""
    found = _found(text)
    if not found:
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    before, after = text[: found[0]], text[found[1] :].removeprefix(newline)
    # The empty line that set it apart goes with it.
    return before.removesuffix(newline) + after if before.endswith(newline * 2) else before + after


def has(text: str) -> bool:
    """Whether our block is there. Raises Broken."""
    return _found(text) is not None


def _found(text: str) -> tuple[int, int] | None:
    begins, ends = list(_ANY_BEGIN.finditer(text)), list(_ANY_END.finditer(text))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0].start() < begins[0].end():
        wrong = [*begins, *ends][-1]
        raise Broken("the markers of Orchestrion's block are not one beginning and one end", text, wrong.start())
    end = ends[0].end()
    return begins[0].start(), end - 1 if text[end - 1] == "\r" else end
