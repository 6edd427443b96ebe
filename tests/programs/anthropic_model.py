"""A model on loopback that Claude Code takes for its own: the Messages API, played from a script.

The prompt holds ``[[script: [STEP, ...]]]``; the number of answers since then says which step
is due, so that any number of agents may ask at once, resumed or not. A step has ``text``, a
``tool`` with its ``input``, or both; ``delay`` in seconds; ``meet``, how many conversations
must have come to such a step before any goes on; ``usage``, as the API counts; or ``http``, the
status of an error. A request that offers no tools is an aside, and gets ``ok``.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MARK = "[[script:"
#: How long conversations wait for each other, in seconds.
MEETING_S = 90.0
PLAIN = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


class AnthropicModel:
    """The endpoint, between ``with`` and its end."""

    def __init__(self) -> None:
        #: Bodies of the requests that offered tools, in order.
        self.asked: list[dict[str, Any]] = []
        #: What was handed out for them.
        self.used: list[Mapping[str, int]] = []
        #: How many were asked for when one is refused -> the status of its error, whatever the script says.
        self.refused: dict[int, int] = {}
        self._met = 0
        self._meeting = threading.Condition()
        model = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                if self.path.partition("?")[0] == "/v1/messages":
                    model.answer(self, body)
                else:
                    send(self, 200, {"input_tokens": 10})

            def do_GET(self) -> None:
                send(self, 200, {"data": [], "has_more": False})

            def do_HEAD(self) -> None:
                send(self, 200, {})

            def log_message(self, *_: object) -> None:
                """Nothing: tests print enough."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> AnthropicModel:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, door: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Plays the step that is due."""
        step = due(body["messages"]) if body.get("tools") else {"text": "ok"}
        if body.get("tools"):
            self.asked.append(body)
        if many := step.get("meet"):
            self._meet(many)
        time.sleep(step.get("delay", 0))
        if status := self.refused.pop(len(self.asked), None) or step.get("http"):
            kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "api_error")
            send(door, status, {"type": "error", "error": {"type": kind, "message": "scripted"}})
            return
        usage = {**PLAIN, **step.get("usage", {})}
        if body.get("tools"):
            self.used.append(usage)
        stream(door, said(body.get("model", ""), step, usage))

    def _meet(self, many: int) -> None:
        with self._meeting:
            self._met += 1
            self._meeting.notify_all()
            if not self._meeting.wait_for(lambda: self._met >= many, MEETING_S):
                raise TimeoutError(f"only {self._met} of {many} came")


def due(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The step for a conversation: its last script, and how often the model answered since."""
    steps: list[dict[str, Any]] = []
    answers = 0
    for message in messages:
        found = _script(_words(message.get("content"))) if message.get("role") == "user" else None
        if found is not None:
            steps, answers = found, 0
        elif message.get("role") == "assistant":
            answers += 1
    return steps[answers] if answers < len(steps) else {"text": "done"}


def _script(text: str) -> list[dict[str, Any]] | None:
    at = text.rfind(_MARK)
    return None if at < 0 else json.JSONDecoder().raw_decode(text[at + len(_MARK) :].lstrip())[0]


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def said(model: str, step: Mapping[str, Any], usage: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of one streamed answer."""
    message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model, "content": []}
    opened = {**message, "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"message": opened}
    blocks = [{"type": "text", "text": step["text"]}] if "text" in step else []
    if "tool" in step:
        blocks.append(
            {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": step["tool"], "input": step["input"]}
        )
    for index, block in enumerate(blocks):
        is_text = block["type"] == "text"
        empty = {**block, **({"text": ""} if is_text else {"input": {}})}
        delta = (
            {"type": "text_delta", "text": block["text"]}
            if is_text
            else {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        )
        yield "content_block_start", {"index": index, "content_block": empty}
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    stop = "tool_use" if "tool" in step else "end_turn"
    yield "message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": dict(usage)}
    yield "message_stop", {}


def stream(door: BaseHTTPRequestHandler, events: Iterator[tuple[str, dict[str, Any]]]) -> None:
    """Server-sent events."""
    text = "".join(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n" for kind, data in events)
    _send(door, 200, "text/event-stream", text.encode())


def send(door: BaseHTTPRequestHandler, status: int, body: Mapping[str, Any]) -> None:
    """One JSON document."""
    _send(door, status, "application/json", json.dumps(body).encode())


def _send(door: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    try:
        door.send_response(status)
        door.send_header("Content-Type", kind)
        door.send_header("Content-Length", str(len(body)))
        door.end_headers()
        if door.command != "HEAD":
            door.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        door.close_connection = True  # the agent was killed, or cancelled its request
