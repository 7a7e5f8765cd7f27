"""OpenTelemetry: a span for each event that is sent and for each that is handled, in one trace over all processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from eventbus.bus import Bus
from eventbus.errors import InvalidError
from eventbus.event import Event
from eventbus.member import Member
from eventbus.observe.spans import Spans, awaited, carried, sender, with_carried, within
from eventbus.observe.traced import leave_untraced, trace_by
from eventbus.subscription import Subscription

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def instrument(bus: Bus, tracer_provider: TracerProvider | None = None) -> None:
    """From now on what is sent and handled by this object, and by the subscriptions that it makes, is traced.

    Each process, and each ``Bus``, is instrumented by itself; a forked child goes on with its parent's. The context
    travels in the headers ``traceparent``, ``tracestate`` and ``baggage``, or in those that ``OTEL_PROPAGATORS`` names.

    - ``send`` and ``send_many``, ``send_later`` and ``request``, and what has an ``a`` before its name: a span each,
      of the kind PRODUCER, as long as the call.
    - A handler of a ``Worker``: a span of the kind CONSUMER, child of the sender's and linked to it.
    - ``receive``, ``receive_many``, ``for`` and what is awaited: such a span, too, which is the current one in this
      thread or task until it asks for the next event, or the subscription is closed. Where a span is the current one
      already, it is that one's child, and linked to the sender's. Several events at once have one span, linked to all.

    Args:
        bus: made by ``eventbus.open``; instrumented already, it stays as it is.
        tracer_provider: the global one if None.

    Raises:
        InvalidError: it is not a ``Bus``, but made of another class.
    """
    if type(bus) is Bus:
        spans = Spans(bus.name, tracer_provider)
        vars(bus)["_spans"] = spans
        bus.__class__ = TracedBus
        for sub in bus._living():
            trace_by(spans, sub)
    elif type(bus) is not TracedBus:
        raise InvalidError(f"a Bus can be instrumented, not {bus!r} of the class {type(bus).__name__}")


def uninstrument(bus: Bus) -> None:
    """Nothing of it is traced any more, and it costs what it did before; what is being handled is left at that."""
    if type(bus) is TracedBus:
        bus.__class__ = Bus  # type: ignore[assignment]  # it is that one's, too
        for sub in bus._living():
            leave_untraced(sub)


class TracedBus(Bus):
    """A bus that is instrumented. The class of the object is changed, so that another one pays nothing."""

    _spans: Spans

    def send(self, system: str, kind: str, path: str, data: Any = None, *, headers: Any = None, **options: Any) -> bool:
        """As ``Bus.send``."""
        with self._spans.sending("send", system, kind, path):
            return super().send(system, kind, path, data, headers=carried(headers), **options)

    async def asend(
        self, system: str, kind: str, path: str, data: Any = None, *, headers: Any = None, **options: Any
    ) -> bool:
        """As ``Bus.asend``."""
        with self._spans.sending("send", system, kind, path):
            return await super().asend(system, kind, path, data, headers=carried(headers), **options)

    def send_later(
        self, system: str, kind: str, path: str, data: Any = None, *, headers: Any = None, **options: Any
    ) -> int:
        """As ``Bus.send_later``; the span is of this call, and not of when it is due."""
        with self._spans.sending("send_later", system, kind, path):
            return super().send_later(system, kind, path, data, headers=carried(headers), **options)

    def send_many(self, events: Iterable[tuple[Any, ...]], **options: Any) -> int:
        """As ``Bus.send_many``: all have one span."""
        batch = list(events)
        with self._spans.sending_many(batch):
            return super().send_many(map(with_carried, batch), **options)

    async def asend_many(self, events: Iterable[tuple[Any, ...]], **options: Any) -> int:
        """As ``Bus.asend_many``: all have one span."""
        batch = list(events)
        with self._spans.sending_many(batch):
            return await super().asend_many(map(with_carried, batch), **options)

    def request(
        self, system: str, kind: str, path: str, data: Any = None, *, headers: Any = None, **options: Any
    ) -> Any:
        """As ``Bus.request``; the span ends with the answer."""
        with self._spans.sending("request", system, kind, path):
            return super().request(system, kind, path, data, headers=carried(headers), **options)

    async def arequest(
        self, system: str, kind: str, path: str, data: Any = None, *, headers: Any = None, **options: Any
    ) -> Any:
        """As ``Bus.arequest``; the span ends with the answer."""
        with self._spans.sending("request", system, kind, path):
            return await super().arequest(system, kind, path, data, headers=carried(headers), **options)

    def subscribe(self, *patterns: Any, **options: Any) -> Subscription:
        """As ``Bus.subscribe``."""
        return trace_by(self._spans, super().subscribe(*patterns, **options))

    def _handler(self, function: Callable[[Event], Any], member: Member) -> Callable[[Event], Any]:
        """Each event has its span where it is handled, and none where it is taken."""
        leave_untraced(member)
        return partial(self._traced, function, member.group)

    def _traced(self, function: Callable[[Event], Any], group: str, event: Event) -> Any:
        span, around = self._spans.process([event], group, sender(event))
        with within(span, around, ends=False):
            result = function(event)
        if inspect.isawaitable(result):
            return awaited(result, span, around)
        span.end()
        return result
