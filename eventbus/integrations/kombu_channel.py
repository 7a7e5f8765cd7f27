"""A kombu channel over a bus: what is declared, sent, taken and in hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import count
from queue import Empty
from typing import Any, Literal, NamedTuple

from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.json import dumps, loads

import eventbus
from eventbus.integrations import kombu_queues as queues
from eventbus.integrations.kombu_declared import Declared
from eventbus.integrations.kombu_queues import Kept, Passing, Source, Taken

PRIORITIES = [9, 6, 3, 0]


class QoS(virtual.QoS):
    """What a channel has in hand. The bus keeps it: nothing is to be restored by a process that ends."""

    def __init__(self, channel: BusChannel, prefetch_count: int = 0) -> None:
        self.channel = channel
        self.prefetch_count = prefetch_count or 0
        self._delivered: dict[Any, Taken] = {}

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self._delivered) < self.prefetch_count

    def can_consume_max_estimate(self) -> int | None:
        return max(self.prefetch_count - len(self._delivered), 0) if self.prefetch_count else None

    def append(self, message: Taken, delivery_tag: Any) -> None:
        self._delivered[delivery_tag] = message

    def get(self, delivery_tag: Any) -> Taken:
        return self._delivered[delivery_tag]

    def ack(self, delivery_tag: Any) -> None:
        taken = self._delivered.pop(delivery_tag, None)
        if taken is not None:
            taken.finishing.ack()

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        taken = self._delivered.pop(delivery_tag, None)
        if taken is not None:
            taken.finishing.requeue() if requeue else taken.finishing.ack()

    def restore_unacked(self) -> list[Any]:
        for tag in list(self._delivered):
            self.reject(tag, requeue=True)
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        self._delivered.clear()  # the members that leave give it back


class Consuming(NamedTuple):
    """A consumer of a channel."""

    queue: str
    no_ack: bool
    callback: Callable[[Any], Any]


class BusChannel(virtual.Channel):
    """A kombu channel. Queues that are ``exclusive``, or ``auto_delete`` with ``expires``, are the process's own."""

    QoS = QoS
    supports_fanout = True
    body_encoding = "utf-8"

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self._process = os.getpid()
        self._consuming: dict[str, Consuming] = {}
        self._sources: dict[str, Kept] = {}
        self._own: set[str] = set()  # those that go with this channel
        self._tags = count(1)

    # --- what is declared ---

    def prepare_queue_arguments(self, arguments: dict[str, Any], **options: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **options)

    @property
    def _declared(self) -> Declared:
        declared: Declared = self.connection.declared
        declared.refresh()
        return declared

    def exchange_declare(self, exchange: str | None = None, type: str = "direct", **options: Any) -> None:
        if options.get("passive") and exchange in self._declared.exchanges:
            return
        super().exchange_declare(exchange, type, **options)
        if not options.get("passive"):
            self._declared.add("exchange", exchange or f"amq.{type or 'direct'}", type or "direct")

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        if if_unused and self._declared.bindings.get(exchange):
            return
        self.state.exchanges.pop(exchange, None)
        self._declared.add("drop", exchange)

    def _new_queue(self, queue: str, passive: bool = False, **options: Any) -> None:
        if passive or queue in self.connection.passing:
            return
        arguments = options.get("arguments") or {}
        own = options.get("exclusive") or (options.get("auto_delete") and "x-expires" in arguments)
        if own:
            self._own.add(queue)
        if own and "x-max-priority" not in arguments:
            ttl = arguments.get("x-message-ttl")
            seconds = None if ttl is None else ttl / 1000
            self.connection.passing[queue] = Passing(self.connection.replies, queue, seconds)
            return
        steps = self.connection.client.transport_options.get("priority_steps")
        if steps is None:
            steps = PRIORITIES if "x-max-priority" in arguments else [0]
        for step in {0, *steps} - set(self._declared.queues.get(queue, ())):
            queues.keep(self.connection.bus, queue, step, self.connection.max_deliveries)
            self._declared.add("queue", queue, step)

    def _has_queue(self, queue: str, **options: Any) -> bool:
        return queue in self.connection.passing or queue in self._declared.queues

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **options: Any
    ) -> None:
        self._change("bind", queue, exchange or "amq.direct", routing_key or "")

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **options: Any
    ) -> None:
        self._change("unbind", queue, exchange or "amq.direct", routing_key or "")

    def _change(self, what: Literal["bind", "unbind"], queue: str, exchange: str, key: str) -> None:
        passing = self.connection.passing.get(queue)
        if passing is None:
            self._declared.add(what, exchange, key, queue)
        else:
            change = passing.bind if what == "bind" else passing.unbind
            change(queues.heard_from(exchange, self._type(exchange), key))

    def _type(self, exchange: str) -> str:
        there = self._declared.exchanges.get(exchange)
        return there or ("direct" if not exchange.startswith("amq.") else exchange[4:])

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **options: Any) -> None:
        if if_empty and self._size(queue):
            return
        self._own.discard(queue)
        passing = self.connection.passing.pop(queue, None)
        if passing is not None:
            self.connection.unwatch(passing)
            passing.close()
            return
        priorities = self._declared.queues.get(queue)
        if priorities:
            self._leave(queue)
            self._declared.add("delete", queue)
            queues.forget(self.connection.bus, queue, priorities)

    def list_bindings(self) -> Any:
        for exchange, bound in self._declared.bindings.items():
            for key, queue in bound:
                yield queue, exchange, key

    def _size(self, queue: str) -> int:
        passing = self.connection.passing.get(queue)
        if passing is not None:
            return int(passing.size)
        return queues.waiting(self.connection.bus, queue, self._declared.queues.get(queue, []))

    def _purge(self, queue: str) -> int:
        passing = self.connection.passing.get(queue)
        if passing is not None:
            return int(passing.purge())
        return queues.purged(self.connection.bus, queue, self._declared.queues.get(queue, []))

    # --- publishing ---

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        if isinstance(body, bytes) and encoding == "utf-8":
            try:
                return body.decode(), encoding
            except UnicodeDecodeError:
                encoding = "base64"
        coded: tuple[Any, str | None] = super().encode_body(body, encoding)
        return coded

    def _next_delivery_tag(self) -> None:
        """Whoever takes the message counts it."""

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **options: Any) -> None:
        self._inplace_augment_message(message, exchange, routing_key)
        declared = self._declared
        if exchange:
            to, passing = declared.routes(exchange, routing_key), queues.route_of(exchange, routing_key)
            if self.connection.replies.wait_for_subscribers(1, passing, 0):
                self._send(self.connection.replies, [(passing, "message", f"/{exchange}", message)])
        elif routing_key in declared.queues:
            to = [routing_key]
        else:
            to = []
            where = queues.address_of(routing_key)
            self._send(self.connection.replies, [(where, "message", f"/{routing_key}", message)])
        if to:
            steps = [(queue, self._step(message, declared.queues.get(queue, [0]))) for queue in to]
            self._send(
                self.connection.bus,
                [
                    (queues.system_of(queue, step), "message", f"/{segment}", message)
                    for queue, step in steps
                    for segment in (queues.segment(queue),)
                ],
            )

    def _step(self, message: dict[str, Any], steps: list[int]) -> int:
        """The highest priority of the queue that the message has."""
        if len(steps) == 1:
            return steps[0]
        wanted = self._get_message_priority(message)
        return next((step for step in steps if step <= wanted), steps[-1])

    def _send(self, bus: eventbus.Bus, events: list[tuple[Any, ...]]) -> None:
        try:
            bus.send_many(events)
        except eventbus.InvalidError as error:
            if not isinstance(error.__cause__, TypeError):  # too large, or a bad name
                raise
            coded = dumps(events[0][3]).encode()  # what only kombu's JSON can say
            bus.send_many([(*event[:3], coded) for event in events])

    # --- taking ---

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any) -> None:
        self._consuming[consumer_tag] = Consuming(queue, no_ack, callback)
        self._consumers.add(consumer_tag)
        self._source(queue)

    def basic_cancel(self, consumer_tag: str) -> None:
        gone = self._consuming.pop(consumer_tag, None)
        self._consumers.discard(consumer_tag)
        if (
            gone is None
            or self._process != os.getpid()
            or any(one.queue == gone.queue for one in self._consuming.values())
        ):
            return
        source = self._sources.get(gone.queue)
        if source is not None and source.idle:
            self._leave(gone.queue)

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        message = self._message(self._source(queue), no_ack)
        return None if message is None else self.Message(message, channel=self)

    def _source(self, queue: str) -> Source:
        passing: Passing | None = self.connection.passing.get(queue)
        if passing is not None:
            return passing
        if queue not in self._sources:
            priorities = self._declared.queues.get(queue)
            if priorities is None:
                raise virtual.base.ChannelError(f"no queue {queue!r} is declared", (50, 10), "basic_consume", 404)
            self._sources[queue] = Kept(self.connection.bus, queue, priorities)
        return self._sources[queue]

    def _leave(self, queue: str) -> None:
        source = self._sources.pop(queue, None)
        if source is not None:
            self.connection.unwatch(source)
            source.close()

    def _message(self, source: Source, no_ack: bool) -> dict[str, Any] | None:
        """The next message, in hand unless nobody is to acknowledge it."""
        while (taken := source.take()) is not None:
            data = taken.event.data
            message: dict[str, Any] = loads(data.decode()) if isinstance(data, bytes) else data
            properties = message["properties"]
            expires = properties.get("expiration")
            if expires is not None and time.time() >= taken.event.time / 1e9 + float(expires) / 1000:
                taken.finishing.ack()
                continue
            tag = properties["delivery_tag"] = next(self._tags)
            if taken.event.deliveries > 1:
                message["redelivered"] = properties["delivery_info"]["redelivered"] = True
            if no_ack:
                taken.finishing.ack()
            else:
                self.qos.append(taken, tag)
            return message
        return None

    def deliver(self) -> int:
        """Hands one message to each consumer that may have one, and says how many these were."""
        number = 0
        for consuming in list(self._consuming.values()):
            if self.closed or not self.qos.can_consume():
                break
            message = self._message(self._source(consuming.queue), consuming.no_ack)
            if message is not None:
                number += 1
                consuming.callback(self.Message(message, channel=self))
        return number

    def waits_for(self) -> list[Source]:
        """Whose next message this channel wants."""
        if self.closed or not self._consuming or not self.qos.can_consume():
            return []
        return [self._source(queue) for queue in dict.fromkeys(one.queue for one in self._consuming.values())]

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> None:
        if not self.deliver():
            raise Empty

    def close(self) -> None:
        """What is in hand goes back to its queue; the process's own queues that it has declared go."""
        if not self.closed and self._process == os.getpid():
            for queue in list(self._sources):
                self._leave(queue)
            for queue in list(self._own):
                self.queue_delete(queue)
        self._consuming.clear()
        super().close()
