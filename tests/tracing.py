"""What tests of traces share: spans that are kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Spans:
    """The spans that came to their end, and what makes others."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def ended(self) -> list[ReadableSpan]:
        """In the order of their ends; each is given once."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans

    def rows(self) -> list[dict[str, Any]]:
        """What can be told to another process of those that ``ended``."""
        return [row(span) for span in self.ended()]


def row(span: ReadableSpan) -> dict[str, Any]:
    """What a span is, in JSON."""
    context = span.get_span_context()
    assert context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": f"{context.trace_id:x}",
        "span": f"{context.span_id:x}",
        "parent": None if span.parent is None else f"{span.parent.span_id:x}",
        "links": [f"{link.context.span_id:x}" for link in span.links],
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code.name,
    }
