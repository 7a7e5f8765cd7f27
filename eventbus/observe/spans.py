"""Spans: what OpenTelemetry is told of events, and how its context travels in their headers."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eventbus.errors import UnavailableError
from eventbus.event import HEADERS_LIMIT, Event

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, TracerProvider
except ModuleNotFoundError as error:
    raise UnavailableError("traces need a library: pip install 'eventbus[opentelemetry]'") from error

DESTINATION = "messaging.destination.name"
COUNT = "messaging.batch.message_count"


class Spans:
    """Makes the spans of one bus, with attributes as OpenTelemetry's conventions for messaging call them."""

    def __init__(self, bus: str, provider: TracerProvider | None) -> None:
        self._bus = bus
        self._tracer = trace.get_tracer("eventbus", tracer_provider=provider)

    @contextmanager
    def sending(self, operation: str, system: str, kind: str, path: str) -> Iterator[None]:
        """That of one event is the current one."""
        about = {DESTINATION: system, "eventbus.kind": kind, "eventbus.path": path}
        with self._producing(operation, {key: value for key, value in about.items() if isinstance(value, str)}):
            yield

    @contextmanager
    def sending_many(self, events: Sequence[Any]) -> Iterator[None]:
        """That of all of them is the current one."""
        systems = {event[0] for event in events if _is_event(event) and isinstance(event[0], str)}
        with self._producing("send", {COUNT: len(events), **_destination(systems)}):
            yield

    @contextmanager
    def _producing(self, operation: str, about: dict[str, Any]) -> Iterator[None]:
        span = self._tracer.start_span(
            _named(operation, about), kind=SpanKind.PRODUCER, attributes=self._about(operation, "send", about)
        )
        with within(span, trace.set_span_in_context(span)):
            yield

    def process(self, events: Sequence[Event], group: str | None, parent: Context | None) -> tuple[Span, Context]:
        """The span of what is being handled, linked to the senders', and the context that has it.

        Args:
            events: at least one.
            group: whose member handles them.
            parent: the context that has the parent; the current one if None.
        """
        about = _destination({event.system for event in events})
        if len(events) == 1:
            (event,) = events
            about["messaging.message.id"] = str(event.sequence)
            about |= {"eventbus.kind": event.kind, "eventbus.path": event.path, "eventbus.deliveries": event.deliveries}
        else:
            about[COUNT] = len(events)
        if group is not None:
            about["messaging.consumer.group.name"] = group
        span = self._tracer.start_span(
            _named("process", about),
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=self._about("process", "process", about),
            links=[Link(trace.get_current_span(sent).get_span_context()) for sent in map(sender, events) if sent],
        )
        return span, trace.set_span_in_context(span, parent)

    def _about(self, operation: str, kind: str, more: dict[str, Any]) -> dict[str, Any]:
        name, type_ = "messaging.operation.name", "messaging.operation.type"
        return {"messaging.system": "eventbus", name: operation, type_: kind, "eventbus.bus": self._bus, **more}


def _named(operation: str, about: dict[str, Any]) -> str:
    return f"{operation} {about[DESTINATION]}" if DESTINATION in about else operation


def _destination(systems: set[str]) -> dict[str, Any]:
    """The system, where all have the same."""
    first, *others = systems or ("",)
    return {DESTINATION: first} if first and not others else {}


def sender(event: Event) -> Context | None:
    """The context that came with it, if that has a span."""
    sent = propagate.extract(event.headers) if event.headers else None
    return sent if sent is not None and trace.get_current_span(sent).get_span_context().is_valid else None


def is_current() -> bool:
    """Whether there is a current span."""
    return trace.get_current_span().get_span_context().is_valid


@contextmanager
def within(span: Span, around: Context, ends: bool = True) -> Iterator[None]:
    """The context is the current one. The span is told what is raised, and ends with that; or in any case."""
    token = context.attach(around)
    try:
        yield
    except BaseException as error:
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.set_attribute("error.type", type(error).__qualname__)
        span.end()
        raise
    finally:
        context.detach(token)
    if ends:
        span.end()


async def awaited(result: Awaitable[Any], span: Span, around: Context) -> Any:
    """What it gives in the end, awaited in that context."""
    with within(span, around):
        return await result


class Handled:
    """What a thread or a task is handling: its span is the current one there until it ends."""

    def __init__(self, span: Span, around: Context) -> None:
        self._span: Span | None = span
        self._around = around
        self._token = context.attach(around)

    def end(self) -> None:
        """Where another context has become the current one, or in another thread or task, that stays so."""
        if context.get_current() is self._around:
            context.detach(self._token)
        self._end_span()

    def _end_span(self) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end()

    def __del__(self) -> None:
        """Of a thread or task that is over."""
        self._end_span()


# --- headers ---


def carried(headers: Any) -> Any:
    """The headers with the current context, as much of it as there is room for; as they are if they cannot be any."""
    if headers is not None and not isinstance(headers, Mapping):
        return headers
    current: dict[str, str] = {}
    propagate.inject(current)
    merged = {name: value for name, value in (headers or {}).items() if name not in current}
    for name, value in current.items():
        if _size({**merged, name: value}) <= HEADERS_LIMIT:
            merged[name] = value
    return merged or headers


def with_carried(event: Any) -> Any:
    """The same of an event of ``send_many``."""
    if not _is_event(event):
        return event
    system, kind, path, data, headers = (*event, None, None)[:5]
    return system, kind, path, data, carried(headers)


def _size(headers: Mapping[Any, Any]) -> int:
    return sum(len(str(text).encode(errors="replace")) for pair in headers.items() for text in pair)


def _is_event(event: Any) -> bool:
    return isinstance(event, (tuple, list)) and 3 <= len(event) <= 5
