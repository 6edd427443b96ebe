"""Those who ask a server: in this process, or of a server that is a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from typing import Any, Self

from starlette.testclient import TestClient

from orchestrion.interfaces.web.app import create_app
from orchestrion.interfaces.web.house import House
from premises import PROGRAM, Premises, key_of

#: So long anything may take, in seconds.
PATIENCE_S = 60.0


class Visitor:
    """Asks a server in this process."""

    def __init__(self, house: House, token: str | None = None, *, address: str = "127.0.0.1") -> None:
        self.house = house
        self.app = create_app(house)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = TestClient(
            self.app,
            base_url="http://127.0.0.1:7117",
            headers=headers,
            raise_server_exceptions=False,
            client=(address, 50000),
        )

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, trace)

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """The response to a request."""
        return self.client.request(method, path if path.startswith("/") else f"/api/v1/{path}", **given)

    def get(self, path: str, **given: Any) -> Any:
        """What a GET that succeeds answers."""
        answer = self.ask("GET", path, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """What a POST that succeeds answers."""
        answer = self.ask("POST", path, json=body, **given)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def refused(self, method: str, path: str, status: int, code: str, **given: Any) -> dict[str, Any]:
        """The problem of a request that is refused."""
        answer = self.ask(method, path, **given)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem: dict[str, Any] = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert problem["status"] == status
        assert problem["detail"]
        assert problem["correlation"] == answer.headers["x-request-id"]
        return problem


class Site(Premises):
    """A folder with a project, and servers for it."""

    @property
    def key(self) -> str:
        """The key of its servers, which the first of them made."""
        return key_of(self.root)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One call of the command line."""
        return subprocess.run(
            [*PROGRAM, *arguments], cwd=self.root, env=self.environ, capture_output=True, text=True, check=False
        )

    @contextmanager
    def served(self, *arguments: str, command: str = "serve") -> Iterator[Served]:
        """A server in a process of its own, for a block."""
        process = subprocess.Popen(
            [*PROGRAM, command, "--port", "0", *arguments],
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            yield Served(process, lambda: self.key)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)
            assert process.stderr
            process.stderr.close()


class Served:
    """A server that listens."""

    def __init__(self, process: subprocess.Popen[bytes], key: Callable[[], str]) -> None:
        self.process = process
        self._key = key
        #: What it said, line by line.
        self.said: list[str] = []
        assert process.stderr
        for raw in process.stderr:
            self.said.append(raw.decode())
            if self.said[-1].startswith("listening on "):
                break
        else:
            raise AssertionError("".join(self.said))
        self.address = self.said[-1].split("//")[1].strip().rstrip("/")
        # Whoever does not read what it says makes it wait.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        try:
            for raw in self.process.stderr:
                self.said.append(raw.decode())
        except ValueError:
            return

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and content of the answer to a request, with the key unless it shows something else."""
        connection = HTTPConnection(self.address, timeout=PATIENCE_S)
        try:
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            if "Authorization" not in sent:
                sent["Authorization"] = f"Bearer {self._key()}"
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = "json" in (answer.getheader("content-type") or "")
            return answer.status, json.loads(text) if is_json and text else text
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str = "/api/v1/events", **headers: str) -> Iterator[Stream]:
        """The events of a server, for a block."""
        connection = HTTPConnection(self.address, timeout=PATIENCE_S)
        connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        try:
            assert answer.status == 200, answer.read()
            yield Stream(answer)
        finally:
            connection.close()


class Stream:
    """Server-sent events as they come."""

    def __init__(self, answer: HTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        event: dict[str, Any] = {}
        for raw in self._answer:
            line = raw.decode().rstrip("\n")
            field, _, value = line.partition(": ")
            if line == "" and "data" in event:
                yield {**json.loads(event["data"]), "event": event["event"], "line": int(event["id"])}
                event = {}
            elif field in ("id", "event", "data"):
                event[field] = value
