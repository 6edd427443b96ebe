"""Traces: what ended is sent once, with the place that its agent was told, and kept for a collector that is away."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from orchestrion.core import tracing
from orchestrion.core.errors import EnvironmentProblem, InvalidInput
from orchestrion.core.model import NewTask
from orchestrion.ops import leases, traces
from orchestrion.scheduler import claim, create, finish
from orchestrion.store import Store
from stage import Stage


class Collector:
    """Takes spans by OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        #: Whether it refuses what it gets.
        self.refuses = False
        taken = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                if taken.refuses:
                    self.send_response(400)
                    self.end_headers()
                    return
                taken.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def facts(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.fixture
def traced(stage: Stage, collector: Collector) -> Stage:
    """A stage whose traces go to the collector; nothing ended before."""
    stage.close()
    stage.open(telemetry={"endpoint": collector.address}, retry__delay_s=0, run__grace_s=1)
    assert stage.orchestrion.send_traces() == 0
    return stage


def test_a_task_is_a_trace_of_its_runs_and_their_checks(traced: Stage, collector: Collector) -> None:
    one = traced.orchestrion
    caller = one.on_behalf_of("web:local", correlation="req-1")
    command = "echo $TRACEPARENT > place.txt; test $ORCHESTRION_GO = 2 && touch good; true"
    caller.add("A task", command=command, checks=["test -f good"], role="tester", plan="p")
    assert traced.drain().all_completed
    assert one.send_traces() == 4
    assert one.send_traces() == 0
    store = one.store.uuid
    task, run, *checks = sorted(collector.spans, key=lambda span: (span.name != "task", "invoke" not in span.name))
    assert (task.name, run.name, [check.name for check in checks]) == ("task", "invoke_agent command", ["check"] * 2)
    assert {span.trace_id.hex() for span in collector.spans} == {tracing.trace_id(store, "T1")}
    assert (task.parent_span_id, run.parent_span_id) == (b"", task.span_id)
    assert {check.parent_span_id for check in checks} == {run.span_id}
    assert traced.merged("place.txt", "p") == f"00-{run.trace_id.hex()}-{run.span_id.hex()}-01\n"
    row = traced.run()
    assert row["ended_at"] is not None
    assert task.start_time_unix_nano <= run.start_time_unix_nano
    assert run.end_time_unix_nano <= task.end_time_unix_nano
    assert facts(run) | {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "command", "orchestrion.run": "R1",
        "orchestrion.task": "T1", "orchestrion.plan": "p", "orchestrion.role": "tester", "orchestrion.attempt": 1,
        "orchestrion.state": "succeeded", "orchestrion.correlation": "req-1",
    } == facts(run)  # fmt: skip
    assert [facts(check)["process.exit.code"] for check in checks] == [1, 0]
    assert [check.status.code for check in checks] == [2, 1]
    assert facts(task)["orchestrion.title"] == "A task"
    assert collector.resources[0]["service.name"] == "orchestrion"
    assert collector.resources[0]["service.namespace"] == one.store.project_name


def test_a_failure_is_an_error_with_its_code(traced: Stage, collector: Collector) -> None:
    traced.add("exit 3", max_retries=0)
    assert traced.drain().failed == 1
    traced.orchestrion.send_traces()
    assert {(span.name, span.status.code, span.status.message) for span in collector.spans} == {
        ("invoke_agent command", 2, "agent_failed"),
        ("task", 2, "agent_failed"),
    }


def test_what_a_collector_did_not_take_is_sent_when_it_is_back(traced: Stage, collector: Collector) -> None:
    traced.add("true")
    traced.drain()
    collector.refuses = True
    with pytest.raises(EnvironmentProblem, match="did not take 2 spans") as refused:
        traced.orchestrion.send_traces()
    assert refused.value.code == "collector_away"
    collector.refuses = False
    assert traced.orchestrion.send_traces() == 2
    assert len(collector.spans) == 2


def test_of_many_processes_one_sends(traced: Stage, collector: Collector) -> None:
    traced.add("true")
    traced.drain()
    store = traced.orchestrion.store
    leases.keep(store, "traces", traced.orchestrion.host.process(), 0)
    assert leases.take(store, "traces", "elsewhere/1", 60)
    assert traced.orchestrion.send_traces() == 0
    assert collector.spans == []
    leases.keep(store, "traces", "elsewhere/1", 0)
    assert traced.orchestrion.send_traces() == 2


def test_what_ended_before_is_left_out(stage: Stage, collector: Collector) -> None:
    stage.add("true")
    stage.drain()
    stage.close()
    orchestrion = stage.open(telemetry={"endpoint": collector.address})
    assert orchestrion.send_traces() == 0
    assert orchestrion.send_traces() == 0
    assert collector.spans == []


def test_an_address_that_is_none_is_refused(stage: Stage) -> None:
    stage.close()
    orchestrion = stage.open(telemetry={"endpoint": "localhost:4318"})
    with pytest.raises(InvalidInput, match="no address") as refused:
        orchestrion.send_traces()
    assert refused.value.code == "invalid_endpoint"


def test_without_the_library_it_says_what_to_install(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.close()
    orchestrion = stage.open(telemetry={"endpoint": "http://127.0.0.1:9"})
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(EnvironmentProblem) as refused:
        orchestrion.send_traces()
    assert refused.value.code == "extra_missing"
    assert "orchestrion[otel]" in refused.value.hint


def test_what_ended_is_found_on_every_database_and_found_once(timed_store: Store) -> None:
    store = timed_store
    assert store.read(lambda tx: traces.next_ones(tx, store.uuid)) == ([], 0)
    store.write(lambda tx: traces.note_sent(tx, 0))
    store.write(lambda tx: create.create(tx, NewTask("x")))
    claimed = store.write(lambda tx: claim.claim(tx, claim.Claimant(lease_ms=60_000, agent="")))
    assert claimed is not None
    store.now += 5_000
    store.write(lambda tx: finish.complete(tx, claimed.run, summary="done"))
    # PostgreSQL commits lines out of order for a while.
    store.now += 61_000
    spans, upto = store.read(lambda tx: traces.next_ones(tx, store.uuid))
    assert [(span.name, span.ended - span.began) for span in spans] == [("invoke_agent client", 5_000), ("task", 5_000)]
    assert upto is not None
    store.write(lambda tx: traces.note_sent(tx, upto))
    assert store.read(lambda tx: traces.next_ones(tx, store.uuid))[0] == []
