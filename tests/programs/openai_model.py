"""A model on loopback that says what a script in the prompt tells it to say.

It speaks the three languages in which agent programs talk to models that are not Claude:
OpenAI's Responses (Codex), OpenAI's Chat Completions (OpenCode, Qwen) and Gemini's
``generateContent``. The prompt holds ``[[script: [STEP, ...]]]``; the model's first answer
after it is the first step, and so on, then ``done``. Which step is due follows from the
conversation alone, so that any number of agents, resumed or not, may ask at once.

A step is an object; what it may have:

    text      words
    tool      a tool to call, with its ``input``; Codex: ``namespace`` for one of an MCP
              server, ``raw`` in place of ``input`` for one that takes plain text
    tools     several of them in one answer
    usage     tokens: ``input`` (of which ``cached``, and ``written`` to a cache: Responses alone
              tells that), ``output`` (of which ``reasoning``)
    delay     seconds before the answer
    http      an error with this status in place of the answer, ``message`` in its body,
              ``retry_after`` in its header
    cut       true: the connection ends in the middle of the answer
    times     how often ``http`` or ``cut`` happens before the answer comes; without it: always

A request that offers no tools is an aside, such as one for a title, and gets ``ok``.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Protocol

_MARK = "[[script:"
#: (who, words), who being ``user``, ``model`` or ``tool``.
Conversation = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Used:
    """Tokens, as OpenAI counts them."""

    #: Answers that were given whole.
    answers: int = 0
    input: int = 0
    #: Part of ``input``.
    cached: int = 0
    output: int = 0
    #: Part of ``output``.
    reasoning: int = 0
    #: Part of ``input``.
    written: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.answers + other.answers,
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.written + other.written,
        )


#: What a step uses that does not say it.
PLAIN = Used(1, input=100, output=20)


@dataclass(frozen=True)
class Call:
    """A tool that the model calls."""

    id: str
    name: str
    input: Mapping[str, Any]
    namespace: str | None = None
    raw: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the model says to one request."""

    model: str
    text: str
    calls: Sequence[Call]
    used: Used


@dataclass(frozen=True)
class Asked:
    """One request, and what became of it."""

    path: str
    #: The key that came with it.
    key: str
    body: Mapping[str, Any]
    tools: Sequence[str]
    #: The script that was in force; empty for an aside.
    script: str
    #: The number of its step, from 0.
    step: int
    #: The HTTP status that it got; 0: the connection was cut.
    status: int
    #: What was handed out: nothing for a failure.
    used: Used = Used()


class Dialect(Protocol):
    """One language between agents and models."""

    def conversation(self, body: Mapping[str, Any]) -> Conversation:
        """What was said until now."""
        ...

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        """The tools that are offered."""
        ...

    def is_streamed(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether the answer is to come in events."""
        ...

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one piece."""
        ...

    def events(self, answer: Answer) -> Iterator[tuple[str | None, Mapping[str, Any] | str]]:
        """The answer in events: each with its name, if this language names them."""
        ...


class OpenAiModel:
    """The scripted model as a context manager. Agents are given ``url`` (Gemini) or ``url`` + ``/v1`` (OpenAI)."""

    def __enter__(self) -> OpenAiModel:
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        self._failures: Counter[tuple[str, int]] = Counter()
        self._closing = threading.Event()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self, containing: str = "") -> list[Asked]:
        """Every request until now whose script contains these words; asides only if there are no such words."""
        with self._lock:
            return [one for one in self._asked if containing in one.script]

    def used(self, containing: str = "", asides: bool = False) -> Used:
        """What was handed out for scripts that contain these words, and for asides if they count."""
        each = [one.used for one in self.asked(containing) if one.script or asides]
        return sum(each, Used())

    def wait(self, seconds: float) -> None:
        """Waits, but not longer than this model lives."""
        self._closing.wait(seconds)

    def note(self, asked: Asked) -> None:
        """Remembers a request."""
        with self._lock:
            self._asked.append(asked)

    def fails(self, step: Mapping[str, Any], script: str, number: int) -> bool:
        """Whether the step's failure is due once more."""
        if not step.get("http") and not step.get("cut"):
            return False
        with self._lock:
            self._failures[script, number] += 1
            return self._failures[script, number] <= float(step.get("times", "inf"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, model: OpenAiModel) -> None:
        self.model = model
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Agents that are killed hang up; that is no error of this model."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """The list of models, for programs that look."""
        if self.path.split("?")[0].endswith("/models"):
            model = {"id": "fake-model", "object": "model", "created": 0, "owned_by": "test"}
            return self._send_json(200, {"object": "list", "data": [model]})
        return self._send_json(404, _error(404, f"nothing at {self.path}"))

    def do_POST(self) -> None:
        """A question to the model."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if self.path.split("?")[0].endswith(":countTokens"):
            return self._send_json(200, {"totalTokens": PLAIN.input})
        dialect = _dialect(self.path)
        if dialect is None:
            return self._send_json(404, _error(404, f"nothing at {self.path}"))
        return self._answer(dialect, body)

    def _answer(self, dialect: Dialect, body: Mapping[str, Any]) -> None:
        model, tools = self.server.model, dialect.tools(body)
        step: Mapping[str, Any] = {"text": _aside(body)}
        script, number = "", 0
        if tools:
            script, number, step = _due(dialect.conversation(body))
        key = self.headers.get("Authorization", "").removeprefix("Bearer ") or self.headers.get("x-goog-api-key", "")
        asked = Asked(self.path, key, body, tools, script, number, 200)
        model.wait(step.get("delay", 0))
        if model.fails(step, script, number):
            return self._fail(dialect, asked, step)
        answer = _given(step, body)
        model.note(replace(asked, used=answer.used))
        if dialect.is_streamed(self.path, body):
            return self._send(200, "text/event-stream", _stream(dialect, answer))
        return self._send_json(200, dialect.whole(answer))

    def _fail(self, dialect: Dialect, asked: Asked, step: Mapping[str, Any]) -> None:
        status = step.get("http", 0)
        self.server.model.note(replace(asked, status=status))
        if status:
            headers = {"Retry-After": str(step["retry_after"])} if "retry_after" in step else {}
            return self._send_json(status, _error(status, step.get("message", "a scripted error")), headers)
        stream = _stream(dialect, _given(step, asked.body))
        return self._send(200, "text/event-stream", stream[: len(stream) // 2], promised=len(stream))

    def _send_json(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers)

    def _send(
        self,
        status: int,
        kind: str,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        promised: int | None = None,
    ) -> None:
        """Sends it all, or less than was promised, and hangs up."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(promised or len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if promised:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """It keeps quiet; tests look at ``asked``."""


def _due(conversation: Conversation) -> tuple[str, int, dict[str, Any]]:
    """The last script of the conversation, the number of its step that is due, and the step."""
    script, since = "", 0
    for place, (who, words) in enumerate(conversation):
        if who == "user" and _MARK in words:
            script, since = words[words.rindex(_MARK) + len(_MARK) :], place
    if not script:
        return "", 0, {"text": "ok"}
    steps = _steps(script)
    speakers = ["user", *(who for who, _ in conversation[since + 1 :])]
    number = sum(who == "model" != before for before, who in pairwise(speakers))
    return json.dumps(steps), number, steps[number] if number < len(steps) else {"text": "done"}


def _steps(script: str) -> list[dict[str, Any]]:
    """Reads a script; some programs hand a prompt on as it stands in JSON."""
    for text in (script, script.replace('\\"', '"').replace("\\\\", "\\")):
        try:
            steps, _ = json.JSONDecoder().raw_decode(text.lstrip())
        except ValueError:
            continue
        return list(steps)
    return [{"http": 400, "message": f"this script cannot be read: {script[:200]}"}]


def _aside(body: Mapping[str, Any]) -> str:
    """Words for a request beside the conversation; Gemini at times wants an object."""
    wants_json = body.get("generationConfig", {}).get("responseMimeType") == "application/json"
    return "{}" if wants_json else "ok"


def _given(step: Mapping[str, Any], body: Mapping[str, Any]) -> Answer:
    asked = step.get("tools") or ([step] if "tool" in step else [])
    calls = [
        Call(f"call_{uuid.uuid4().hex[:20]}", one["tool"], one.get("input", {}), one.get("namespace"), one.get("raw"))
        for one in asked
    ]
    text = step.get("text") or ("" if calls else "ok")
    return Answer(str(body.get("model", "fake-model")), text, calls, replace(PLAIN, **step.get("usage", {})))


def _stream(dialect: Dialect, answer: Answer) -> bytes:
    parts = []
    for name, data in dialect.events(answer):
        text = data if isinstance(data, str) else json.dumps(data)
        parts.append((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
    return "".join(parts).encode()


def _error(status: int, message: str) -> dict[str, Any]:
    kinds = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
    return {"error": {"message": message, "type": kinds.get(status, "server_error"), "code": status}}


def _dialect(path: str) -> Dialect | None:
    plain = path.split("?")[0]
    if plain.endswith("/responses"):
        return Responses()
    if plain.endswith("/chat/completions"):
        return Chat()
    return Gemini() if plain.endswith((":generateContent", ":streamGenerateContent")) else None


def _words(content: Any) -> str:
    """The text of a message, which comes as such or in parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or [] if isinstance(part, dict))


class Responses:
    """OpenAI's Responses: an answer is a list of items, each told of when it begins and when it is whole."""

    def conversation(self, body: Mapping[str, Any]) -> Conversation:
        said = body["input"]
        items = said if isinstance(said, list) else [{"role": "user", "content": said}]
        return [self._said(item) for item in items]

    def _said(self, item: Mapping[str, Any]) -> tuple[str, str]:
        kind = item.get("type", "message")
        if kind == "message":
            return ("model" if item["role"] == "assistant" else item["role"]), _words(item.get("content"))
        return ("tool" if kind.endswith("_output") else "model"), ""

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool.get("name") or tool["type"] for tool in body.get("tools", [])]

    def is_streamed(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, answer: Answer) -> dict[str, Any]:
        return self._response(answer, "completed", self._items(answer)) | {"usage": self._usage(answer.used)}

    def events(self, answer: Answer) -> Iterator[tuple[str, Mapping[str, Any]]]:
        items = self._items(answer)
        finished = self._response(answer, "completed", items) | {"usage": self._usage(answer.used)}
        started = {**finished, "status": "in_progress", "output": [], "usage": None}
        for number, event in enumerate(self._told(started, items, finished)):
            yield event["type"], {**event, "sequence_number": number}

    def _told(
        self, started: Mapping[str, Any], items: Sequence[Mapping[str, Any]], finished: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": started}
        for place, item in enumerate(items):
            begun = {**item, "status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
            yield {"type": "response.output_item.added", "output_index": place, "item": begun}
            for piece in _pieces(item["content"][0]["text"]) if item["type"] == "message" else ():
                where = {"item_id": item["id"], "output_index": place, "content_index": 0}
                yield {"type": "response.output_text.delta", **where, "delta": piece}
            yield {"type": "response.output_item.done", "output_index": place, "item": item}
        yield {"type": "response.completed", "response": finished}

    def _response(self, answer: Answer, status: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        name = f"resp_{uuid.uuid4().hex}"
        return {"id": name, "object": "response", "created_at": 0, "model": answer.model, "status": status} | {
            "output": list(items)
        }

    def _items(self, answer: Answer) -> list[dict[str, Any]]:
        return ([self._message(answer.text)] if answer.text else []) + [self._call(call) for call in answer.calls]

    def _message(self, text: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        name = f"msg_{uuid.uuid4().hex}"
        return {"type": "message", "id": name, "role": "assistant", "status": "completed", "content": content}

    def _call(self, call: Call) -> dict[str, Any]:
        item = {"id": f"fc_{call.id}", "call_id": call.id, "name": call.name, "status": "completed"}
        if call.raw is not None:
            return {"type": "custom_tool_call", **item, "input": call.raw}
        namespace = {"namespace": call.namespace} if call.namespace else {}
        return {"type": "function_call", **item, **namespace, "arguments": json.dumps(call.input)}

    def _usage(self, used: Used) -> dict[str, Any]:
        return {
            "input_tokens": used.input,
            "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": used.written},
            "output_tokens": used.output,
            "output_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.input + used.output,
        }


class Chat:
    """OpenAI's Chat Completions: one message, which may call tools."""

    def conversation(self, body: Mapping[str, Any]) -> Conversation:
        return [
            ("model" if message["role"] == "assistant" else message["role"], _words(message.get("content")))
            for message in body["messages"]
        ]

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body.get("tools") or []]

    def is_streamed(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.calls:
            message["tool_calls"] = [self._call(call) for call in answer.calls]
        choice = {"index": 0, "message": message, "finish_reason": self._reason(answer)}
        return self._frame(answer, "chat.completion", [choice]) | {"usage": self._usage(answer.used)}

    def events(self, answer: Answer) -> Iterator[tuple[None, Mapping[str, Any] | str]]:
        name = f"chatcmpl-{uuid.uuid4().hex}"
        calls = [{"index": index, **self._call(call)} for index, call in enumerate(answer.calls)]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in _pieces(answer.text)]
        deltas += [{"tool_calls": calls}] if calls else []
        for delta in deltas:
            yield None, self._chunk(answer, name, delta, None)
        yield None, self._chunk(answer, name, {}, self._reason(answer))
        last = self._frame(answer, "chat.completion.chunk", []) | {"id": name, "usage": self._usage(answer.used)}
        yield None, last
        yield None, "[DONE]"

    def _chunk(self, answer: Answer, name: str, delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self._frame(answer, "chat.completion.chunk", [choice]) | {"id": name}

    def _frame(self, answer: Answer, kind: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        name = f"chatcmpl-{uuid.uuid4().hex}"
        return {"id": name, "object": kind, "created": 0, "model": answer.model, "choices": list(choices)}

    def _reason(self, answer: Answer) -> str:
        return "tool_calls" if answer.calls else "stop"

    def _call(self, call: Call) -> dict[str, Any]:
        return {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.input)},
        }

    def _usage(self, used: Used) -> dict[str, Any]:
        return {
            "prompt_tokens": used.input,
            "prompt_tokens_details": {"cached_tokens": used.cached},
            "completion_tokens": used.output,
            "completion_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.input + used.output,
        }


class Gemini:
    """Gemini's ``generateContent``: parts of text and calls; what it thought is counted beside its answer."""

    def conversation(self, body: Mapping[str, Any]) -> Conversation:
        return [self._said(content) for content in body["contents"]]

    def _said(self, content: Mapping[str, Any]) -> tuple[str, str]:
        parts = content.get("parts", [])
        if any("functionResponse" in part for part in parts):
            return "tool", ""
        return ("model" if content.get("role") == "model" else "user"), _words(parts)

    def tools(self, body: Mapping[str, Any]) -> list[str]:
        return [one["name"] for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]

    def is_streamed(self, path: str, body: Mapping[str, Any]) -> bool:
        return ":streamGenerateContent" in path

    def whole(self, answer: Answer) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
        return self._piece([*parts, *map(self._call, answer.calls)]) | self._ending(answer)

    def events(self, answer: Answer) -> Iterator[tuple[None, Mapping[str, Any]]]:
        for piece in _pieces(answer.text):
            yield None, self._piece([{"text": piece}])
        yield None, self._piece([self._call(call) for call in answer.calls], "STOP") | self._ending(answer)

    def _call(self, call: Call) -> dict[str, Any]:
        return {"functionCall": {"id": call.id, "name": call.name, "args": dict(call.input)}}

    def _piece(self, parts: Sequence[Mapping[str, Any]], reason: str | None = None) -> dict[str, Any]:
        content = {"role": "model", "parts": list(parts) or [{"text": ""}]}
        candidate = {"index": 0, "content": content} | ({"finishReason": reason} if reason else {})
        return {"candidates": [candidate], "modelVersion": "fake-model", "responseId": uuid.uuid4().hex}

    def _ending(self, answer: Answer) -> dict[str, Any]:
        used = answer.used
        counts = {
            "promptTokenCount": used.input,
            "cachedContentTokenCount": used.cached,
            "candidatesTokenCount": used.output - used.reasoning,
            "thoughtsTokenCount": used.reasoning,
            "totalTokenCount": used.input + used.output,
        }
        return {"usageMetadata": counts}


def _pieces(text: str) -> list[str]:
    """A text as it comes in, in two pieces."""
    half = (len(text) + 1) // 2
    return [piece for piece in (text[:half], text[half:]) if piece]
