"""Work: the stream of a queue, which all hosts put into; whoever serves takes from its one consumer.

A message belongs to one host at a time, as long as that says from time to time that it works on it; silent for the
acknowledgement's wait, the host counts as dead, and the message is another one's. It leaves the stream when it is
acknowledged, and not before.

A host's user at the servers may publish to ``ebq.<domain>.<queue>.<origin>.>`` and to ``$JS.ACK.<stream>.hosts.>``, ask
``$JS.API.STREAM.INFO``, ``STREAM.CREATE``, ``CONSUMER.INFO``, ``CONSUMER.DURABLE.CREATE`` and ``CONSUMER.MSG.NEXT``
of the stream ``EBQ-<domain>-<queue>`` and its consumer ``hosts``, and subscribe to ``_INBOX.<domain>.<origin>.>``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nats.js import api
from nats.js.errors import NotFoundError

from eventbus.bridge import subjects
from eventbus.bridge.config import Config, QueueConfig
from eventbus.bridge.consumer import HEARTBEAT
from eventbus.bridge.link import Arrived, Link, LinkError, block, fields
from eventbus.bridge.messages import Message, read
from eventbus.errors import InvalidError

PULL_SECONDS: Final = 5.0
"""Seconds for which a question for messages stands."""

DELIVERIES: Final = "Eb-Deliveries"
MESSAGE_ID: Final = "Nats-Msg-Id"

_PREFIX: Final = "ebq"
_CONSUMER: Final = "hosts"
_DUPLICATES: Final = 120.0  # seconds for which the server knows what it has stored
_IN_HAND: Final = 65_536  # messages that all hosts have together
_PULLS: Final = 8_192  # that all hosts have under way together
_NS: Final = 1_000_000_000

Outgoing = tuple[str, bytes, dict[str, str]]
"""Subject, payload and headers."""


@dataclass(eq=False)
class Job:
    """A message that this host has.

    Attributes:
        carried: how often its event was handed out on other hosts, for nothing.
        identity: of the message, "" for none; the same one may come again.
        told: when the server was told last that this host works on it, on the monotonic clock.
    """

    raw: Arrived
    message: Message
    carried: int
    identity: str
    told: float = field(default_factory=time.monotonic)

    def again(self, carried: int) -> Outgoing:
        """The same for another host, with a count that is one of few headers that change."""
        headers = fields(self.raw.headers) | {DELIVERIES: str(carried)}
        headers[MESSAGE_ID] = f"{self.identity}/{carried}"
        return self.raw.subject, self.raw.payload, headers


def subject_of(domain: str, name: str, origin: str, system: str, kind: str) -> str:
    """The subject of what an origin puts into a queue."""
    return f"{_PREFIX}.{domain}.{name}{subjects.subject(domain, origin, system, kind).removeprefix(_head(domain))}"


def job_of(raw: Arrived, domain: str, name: str) -> Job:
    """What a message says.

    Raises:
        InvalidError: no bridge wrote it.
    """
    subject = _head(domain) + raw.subject.removeprefix(f"{_PREFIX}.{domain}.{name}")
    headers = fields(raw.headers)
    carried = headers.get(DELIVERIES, "0")
    if not (carried.isascii() and carried.isdigit() and len(carried) < 10):
        raise InvalidError(f"its header {DELIVERIES!r} is {carried!r}", reason="foreign")
    return Job(raw, read(subject, headers, raw.payload), int(carried), headers.get(MESSAGE_ID, ""))


def _head(domain: str) -> str:
    return f"{subjects.PREFIX}.{domain}"


class Work:
    """The stream of a queue by one connection. Every call may raise LinkError."""

    def __init__(self, link: Link, config: Config, queue: QueueConfig) -> None:
        self.ack_wait = queue.ack_wait
        self.news = asyncio.Event()
        self._link = link
        self._stream = subjects.queue_name(config.domain, queue.name)
        self._subjects = f"{_PREFIX}.{config.domain}.{queue.name}.>"
        self._replicas = config.stream.replicas
        self._inbox = link.inbox()
        self._fresh: list[Arrived] = []
        self._asked = 0
        self._heard = 0.0
        self._refusal = ""

    async def open(self) -> None:
        """Makes the stream and its consumer where they are not there; else they stay as they are."""
        call, manager = self._link.call, self._link.manager
        try:
            await call(manager.stream_info(self._stream))
        except NotFoundError:
            await call(manager.add_stream(self._terms()))
        try:
            consumer = await call(manager.consumer_info(self._stream, _CONSUMER))
        except NotFoundError:
            consumer = await call(manager.add_consumer(self._stream, self._consumer()))
        self.ack_wait = consumer.config.ack_wait or self.ack_wait
        await self._link.listen(self._inbox, self.receive)

    def _terms(self) -> api.StreamConfig:
        return api.StreamConfig(
            name=self._stream,
            description="eventbus: work for one host each",
            subjects=[self._subjects],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            num_replicas=self._replicas,
            duplicate_window=_DUPLICATES,
        )

    def _consumer(self) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            durable_name=_CONSUMER,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self.ack_wait,
            max_deliver=-1,
            max_ack_pending=_IN_HAND,
            max_waiting=_PULLS,
        )

    # --- putting in ---

    def fits(self, outgoing: Outgoing) -> bool:
        """Whether the server takes a message of that size."""
        _, payload, headers = outgoing
        return self._link.fits(headers, payload)

    async def put(self, messages: Iterable[Outgoing]) -> None:
        """Returns when the server has them all; what it had before, it has once."""
        for answer in await self._written(messages):
            await self._link.answered(answer)

    # --- taking out ---

    async def pending(self) -> int:
        """Messages that no host was given yet."""
        found = await self._link.call(self._link.manager.consumer_info(self._stream, _CONSUMER))
        return found.num_pending or 0

    @property
    def asked(self) -> int:
        """Messages that were asked for and are still to come."""
        return self._asked

    async def ask(self, count: int) -> None:
        """Wants so many more, as soon as there are some."""
        if self._asked == 0:
            self._heard = time.monotonic()
        self._asked += count
        times = {"expires": round(PULL_SECONDS * _NS), "idle_heartbeat": round(HEARTBEAT * _NS)}
        wanted = json.dumps({"batch": count, **times}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{_CONSUMER}"
        await self._link.publish(subject, wanted, reply=self._inbox)

    def came(self) -> list[Arrived]:
        """What has come since the last call.

        Raises:
            LinkError: the server refuses, or does not even say that it lives.
        """
        self.news.clear()
        if self._refusal:
            raise LinkError(f"the queue {self._stream} gives nothing: {self._refusal}")
        if self._asked and time.monotonic() - self._heard > 3 * HEARTBEAT:
            raise LinkError(f"nothing was heard of the queue {self._stream} for {3 * HEARTBEAT:g} s")
        fresh, self._fresh = self._fresh, []
        return fresh

    def receive(self, raw: Arrived) -> None:
        """Called with what comes to the inbox."""
        self._heard = time.monotonic()
        if raw.reply:
            self._asked = max(self._asked - 1, 0)
            self._fresh.append(raw)
        else:
            self._told(fields(raw.headers))
        self.news.set()

    def _told(self, headers: dict[str, str]) -> None:
        """A status: of life, of the end of a question, of which so many did not come, or of the consumer's."""
        status = headers.get("Status", "")
        if status == "100":
            return
        if status in ("404", "408"):
            self._asked = max(self._asked - int(headers.get("Nats-Pending-Messages", self._asked)), 0)
        else:
            self._refusal = headers.get("Description") or f"the consumer is gone (status {status})"

    # --- what becomes of it ---

    async def done(self, messages: Sequence[Arrived]) -> None:
        """Returns when the server has forgotten them."""
        for answer in await self._written((raw.reply, b"+ACK", {}) for raw in messages):
            refusal = fields((await self._link.arrived(answer)).headers).get("Status")
            if refusal:
                raise LinkError(f"the consumer of {self._stream} is gone (status {refusal})")

    async def working(self, jobs: Iterable[Job]) -> None:
        """This host has them still."""
        now = time.monotonic()
        for job in jobs:
            await self._link.publish(job.raw.reply, b"+WPI")
            job.told = now

    async def give_back(self, raw: Arrived, seconds: float = 0.0) -> None:
        """Another host may have it, from then on."""
        delay = b' {"delay": %d}' % round(seconds * _NS) if seconds else b""
        await self._link.publish(raw.reply, b"-NAK" + delay)

    async def drop(self, raw: Arrived) -> None:
        """No host is to have it."""
        await self._link.publish(raw.reply, b"+TERM")

    async def _written(self, messages: Iterable[Outgoing]) -> list[asyncio.Future[Arrived]]:
        """What will have the server's answers."""
        expected = [(self._link.expect(), message) for message in messages]
        await self._link.write(block(*message, reply) for (reply, _), message in expected)
        return [answer for (_, answer), _ in expected]
