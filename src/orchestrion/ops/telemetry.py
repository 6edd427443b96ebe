"""Sends spans to a collector by OTLP over HTTP, with OpenTelemetry's own library (the extra ``otel``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrion.core.errors import EnvironmentProblem
from orchestrion.core.extras import extra
from orchestrion.core.masking import masked, masked_value
from orchestrion.ops.traces import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

#: A collector gets so long to answer, in seconds.
PATIENCE_S = 10.0


class Exporter:
    """A collector that takes spans."""

    def __init__(self, endpoint: str, project: str, version: str) -> None:
        """``endpoint``: a collector's address, as ``http://localhost:4318``. Raises EnvironmentProblem."""
        with extra("otel", "the setting telemetry.endpoint"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        facts = {"service.name": "orchestrion", "service.version": version, "service.namespace": project}
        self._resource = Resource.create(facts)
        self._endpoint = f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter = OTLPSpanExporter(self._endpoint, timeout=PATIENCE_S)
        # What it says of a collector that is away is said by us, once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def send(self, spans: Sequence[Span]) -> None:
        """Sends them. Raises EnvironmentProblem (``collector_away``) if the collector did not take them."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter.export([self._told(span) for span in spans]) is not SpanExportResult.SUCCESS:
            raise EnvironmentProblem(
                f"{self._endpoint} did not take {len(spans)} spans",
                hint="they are kept, and sent when it does; is a collector there?",
                code="collector_away",
            )

    def _told(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanKind, Status, StatusCode

        return ReadableSpan(
            masked(span.name),
            context=_context(span.trace, span.id),
            parent=_context(span.trace, span.parent) if span.parent else None,
            resource=self._resource,
            attributes=masked_value(dict(span.attributes)),
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.OK) if span.error is None else Status(StatusCode.ERROR, masked(span.error)),
            start_time=span.began * 1_000_000,
            end_time=max(span.began, span.ended) * 1_000_000,
            instrumentation_scope=InstrumentationScope("orchestrion"),
        )


def _context(trace: str, span: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
