"""What an agent that speaks the Agent Client Protocol does, told in the supervisor's terms.

The protocol streams: words in pieces, a call of a tool in many updates. Told are whole
messages, each call once and its end once, and what was used until now.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrion.runs.agents.acp_policy import Tool, short

#: Says one thing to the supervisor: the kind of event, and its facts.
Tell = Callable[..., None]

#: While an agent speaks at length, a sign of life is told this often, in seconds.
ALIVE_S = 1.0
_TOKENS = ("input", "output", "cache_read", "cache_write")


class Story:
    """What the agent does, in the supervisor's terms: whole messages, calls of tools, numbers."""

    def __init__(self, tell: Tell, counts_tokens: bool) -> None:
        self._tell = tell
        self._tools: dict[str, Tool] = {}
        self._pieces: list[str] = []
        self._message: str | None = None
        self._last_text = ""
        self._numbers = _Numbers(counts_tokens)
        self._counted: dict[str, Any] = {}
        self._said = time.monotonic()

    def begin(self) -> None:
        """A new prompt was given."""
        self._last_text = ""
        self._numbers.is_answering = False

    def hear(self, update: Any) -> None:
        """One update of the session."""
        kind = update.session_update
        if kind == "agent_message_chunk":
            self._hear_text(update)
        elif kind == "agent_thought_chunk":
            self._end_message()
            self._numbers.answer()
        elif kind in ("tool_call", "tool_call_update"):
            self._hear_tool(update)
        elif kind == "plan":
            self._end_message()
            self._say(
                "plan", text="\n".join(f"[{_BOXES.get(one.status, ' ')}] {one.content}" for one in update.entries)
            )
        elif kind == "usage_update" and update.cost and update.cost.currency.upper() == "USD":
            self._numbers.session_cost = update.cost.amount
            self._count()
        self._live()

    def meet(self, call: Any) -> Tool:
        """A call of a tool that permission is asked for; some agents tell of it in no other way."""
        self._end_message()
        self._numbers.answer()
        tool = self._learn(call)
        self._tell_tool(tool)
        return tool

    def deny(self, tool: Tool) -> None:
        """It was not allowed to do something."""
        self._say("permission", id=tool.id, tool=tool.name or tool.kind, text=tool.short())

    def pause(self) -> None:
        """Nothing more comes of this prompt, however it ended: what came until now is told."""
        self._end_message()
        self._count()

    def finish(self, answer: Any) -> str:
        """The prompt was answered. Returns the agent's last words."""
        self._numbers.add_answer(answer)
        self._count()
        return self._last_text

    def _hear_text(self, update: Any) -> None:
        spent = (update.field_meta or {}).get("usage")
        if isinstance(spent, dict):
            self._numbers.add_call(spent)
            self._count()
        text = update.content.text if update.content.type == "text" else ""
        if not text:
            return
        if update.message_id != self._message:
            self._end_message()
            self._message = update.message_id
        self._numbers.answer()
        self._pieces.append(text)

    def _end_message(self) -> None:
        text, self._pieces = "".join(self._pieces).strip(), []
        if text:
            self._last_text = text
            self._say("text", text=text)

    def _hear_tool(self, update: Any) -> None:
        self._end_message()
        tool = self._learn(update)
        if not tool.is_over:
            self._numbers.answer()
        tool.output = _output(update) or tool.output
        if tool.is_described() or update.status in ("in_progress", *_ENDS):
            self._tell_tool(tool)
        if update.status in _ENDS and not tool.is_over:
            tool.is_over = True
            failed = update.status == "failed"
            self._say("tool_result", id=tool.id, tool=tool.name, text=short(tool.output), failed=failed)
            self._numbers.is_answering = False
            self._count()

    def _learn(self, update: Any) -> Tool:
        """What is known of a call: each update tells only what is new."""
        tool = self._tools.setdefault(update.tool_call_id, Tool(update.tool_call_id))
        tool.kind = update.kind or tool.kind
        tool.name = tool.name or _tool_name(update) or ""
        tool.title = update.title or tool.title
        if isinstance(update.raw_input, dict) and update.raw_input:
            tool.input = update.raw_input
        tool.paths |= set(_paths(update))
        return tool

    def _tell_tool(self, tool: Tool) -> None:
        if not tool.is_told:
            tool.is_told = True
            tool.name = tool.name or tool.kind or "tool"
            self._say("tool", id=tool.id, tool=tool.name, text=tool.short())

    def _count(self) -> None:
        if (told := self._numbers.told()) != self._counted:
            self._counted = told
            self._say("usage", **told)

    def _live(self) -> None:
        """A sign of life while a long message comes."""
        if time.monotonic() - self._said > ALIVE_S:
            self._say("alive")

    def _say(self, event: str, **facts: object) -> None:
        self._said = time.monotonic()
        self._tell(event, **facts)


#: How a call of a tool ends.
_ENDS = ("completed", "failed")
#: How a step of a plan is shown, by its state.
_BOXES = {"completed": "x", "in_progress": "~"}
#: Keys under which the input of a tool has the file that it changes.
_PATHS = ("path", "file_path", "filePath", "filepath", "absolute_path", "notebook_path")


def _tool_name(update: Any) -> str | None:
    """The tool's own name: agents tell it in their own part of the message, in the call's id, or as the title."""
    own = update.field_meta or {}
    claude = own.get("claudeCode")
    name = own.get("toolName") or (claude.get("toolName") if isinstance(claude, dict) else None)
    if isinstance(name, str):
        return name
    if found := re.fullmatch(r"(\w+)__[\w-]{8,}", update.tool_call_id):
        return found[1]
    return update.title if update.title and re.fullmatch(r"[a-z][\w.-]*", update.title) else None


def _paths(update: Any) -> Iterator[str]:
    """The files that a call is about."""
    yield from (place.path for place in update.locations or [])
    yield from (one.path for one in update.content or [] if one.type == "diff")
    if isinstance(update.raw_input, dict):
        yield from (value for key in _PATHS if isinstance(value := update.raw_input.get(key), str))


def _output(update: Any) -> str:
    texts = [one.content.text for one in update.content or [] if one.type == "content" and one.content.type == "text"]
    if texts:
        return "\n".join(texts)
    raw = update.raw_output
    return raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False) if raw else ""


@dataclass
class _Numbers:
    """What was used since this process began.

    The protocol knows no turns. Some agents tell the tokens of each answer of the model, and
    these answers are counted; for the others an answer ends where the results of its tools begin.
    """

    counts_tokens: bool
    session_cost: float | None = None
    #: Whether the model is in the midst of an answer.
    is_answering: bool = False
    _answers: int = 0
    _calls: int = 0
    _tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOKENS, 0))

    def answer(self) -> None:
        """The model says something."""
        if not self.is_answering:
            self.is_answering = True
            self._answers += 1

    def add_call(self, spent: Mapping[str, Any]) -> None:
        """One answer of the model, with its tokens."""
        self._calls += 1
        self._add(spent)

    def add_answer(self, answer: Any) -> None:
        """What the answer to a prompt says of all that it took; where each answer was told, that is known."""
        if self._calls or not self.counts_tokens:
            return
        if answer.usage:
            self._add(answer.usage.model_dump(by_alias=True))
            return
        quota = (answer.field_meta or {}).get("quota")
        counted = quota.get("token_count") if isinstance(quota, dict) else None
        if isinstance(counted, dict):
            self._add({"inputTokens": counted.get("input_tokens"), "outputTokens": counted.get("output_tokens")})

    def told(self) -> dict[str, Any]:
        """For the supervisor."""
        return {"turns": self._calls or self._answers, **self._tokens, "session_cost": self.session_cost}

    def _add(self, spent: Mapping[str, Any]) -> None:
        for name, count in _counted(spent).items():
            self._tokens[name] += count


def _counted(spent: Mapping[str, Any]) -> dict[str, int]:
    """Tokens in our terms. The sum shows whether the input holds those of a cache, and the output those of thoughts."""
    names = ("inputTokens", "outputTokens", "cachedReadTokens", "cachedWriteTokens", "thoughtTokens", "totalTokens")
    given, output, read, written, thought, total = (_whole(spent.get(name)) for name in names)
    cached, beside = read + written, total - given - output
    if total and cached and beside in (0, thought):
        given = max(0, given - cached)
    if thought and beside in (thought, thought + cached):
        output += thought
    return {"input": given, "output": output, "cache_read": read, "cache_write": written}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
