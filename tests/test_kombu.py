"""kombu over a bus: exchanges, what is in hand and who dies with it, what does not fit, the log of declarations."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import eventbus

kombu = pytest.importorskip("kombu", reason="kombu is not installed: pip install 'eventbus[celery]'")
from kombu.asynchronous.hub import Hub  # noqa: E402

from eventbus.integrations.kombu import REPLIES  # noqa: E402
from eventbus.integrations.kombu_declared import Declared, topic  # noqa: E402

MIB = 1 << 20


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a broker that is removed afterwards."""
    called = f"kombu-{os.getpid()}-{os.urandom(4).hex()}"
    yield called
    for one in (called, called + REPLIES):
        with contextlib.suppress(FileNotFoundError):
            eventbus.unlink(one)


@pytest.fixture
def connection(name: str) -> Iterator[Any]:
    with kombu.Connection(f"eventbus://{name}", transport_options={"capacity": MIB, "send_timeout": 0}) as made:
        yield made


def publish(connection: Any, queue: Any, *bodies: object, **options: Any) -> None:
    producer = connection.Producer()
    for body in bodies:
        producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options)


def taken(connection: Any, queue: Any) -> list[Any]:
    """What waits in the queue, acknowledged."""
    found = []
    bound = queue(connection.default_channel)
    bound.declare()
    while (message := bound.get()) is not None:
        message.ack()
        found.append(message.payload)
    return found


@pytest.mark.parametrize(("how", "key", "bound"), [("direct", "a", "a"), ("topic", "a.b", "a.#"), ("fanout", "", "")])
@pytest.mark.parametrize("exclusive", [False, True])
def test_exchanges(connection: Any, how: str, key: str, bound: str, exclusive: bool) -> None:
    """A queue hears what its binding says, whether it is kept for all or the process's own."""
    exchange = kombu.Exchange("shop", type=how)
    queue = kombu.Queue("one", exchange, bound, exclusive=exclusive)
    queue(connection.default_channel).declare()
    with connection.clone() as other:
        producer = other.Producer()
        producer.publish(1, exchange=exchange, routing_key=key, declare=[exchange])
        producer.publish(2, exchange=exchange, routing_key="z", declare=[exchange])
    assert taken(connection, queue) == ([1, 2] if how == "fanout" else [1])


def test_no_ack_and_binary(connection: Any) -> None:
    """Bytes that are no text come as they are, and what need not be acknowledged is done with."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, b"\xff\x00", content_type="application/data", content_encoding="binary")
    bound = queue(connection.default_channel)
    assert bound.get(no_ack=True).body == b"\xff\x00"
    assert bound.get() is None


def test_headers_that_are_no_json(connection: Any) -> None:
    """What only kombu's JSON can say arrives, too."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, "body", headers={"set": {1: "one"}})
    message = queue(connection.default_channel).get(no_ack=True)
    assert message.headers == {"set": {"1": "one"}}


def test_requeue(connection: Any) -> None:
    """What is given back comes again, and says so."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, "body")
    bound = queue(connection.default_channel)
    bound.get().requeue()
    again = bound.get()
    assert again.delivery_info["redelivered"]
    again.ack()
    assert bound.get() is None


def test_the_holder_is_killed(connection: Any) -> None:
    """What a process had in hand that was killed comes to another one; what it had acknowledged does not."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, "done", "in hand")
    pid = os.fork()
    if pid == 0:
        try:
            with connection.clone() as own:
                bound = queue(own.default_channel)
                bound.get().ack()
                bound.get()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    heard = []

    def on_message(body: str, message: Any) -> None:
        heard.append(body)
        message.ack()

    with connection.Consumer([queue], callbacks=[on_message]):
        connection.drain_events(timeout=30)
    assert heard == ["in hand"]


def test_more_in_hand_than_a_member_may_have(connection: Any) -> None:
    """Further members join, and each message is acknowledged by its own."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, *range(300))
    bound = queue(connection.default_channel)
    held = [bound.get() for _ in range(300)]
    assert [message.payload for message in held] == [*range(300)]
    for message in held:
        message.ack()
    assert bound.queue_declare(passive=True).message_count == 0


def test_sizes(connection: Any) -> None:
    """A queue says how many wait in it, is emptied, and goes."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, 1, 2, 3)
    bound = queue(connection.default_channel)
    held = bound.get()
    assert bound.queue_declare(passive=True).message_count == 2
    assert bound.purge() == 2
    held.ack()
    bound.delete()
    with pytest.raises(connection.channel_errors):
        bound.queue_declare(passive=True)


def test_too_large(connection: Any) -> None:
    """A message that the ring cannot take is an error that says what to change."""
    with pytest.raises(eventbus.InvalidError, match="open it with a larger capacity"):
        publish(connection, kombu.Queue("one", routing_key="one"), "x" * MIB)


def test_full(connection: Any) -> None:
    """A ring that is full is an error of the connection, which kombu tries again; nothing is lost."""
    queue = kombu.Queue("one", routing_key="one")
    sent = 0

    def fill() -> None:
        nonlocal sent
        while True:
            publish(connection, queue, "x" * 10_000)
            sent += 1

    with pytest.raises(connection.connection_errors, match="one"):
        fill()
    assert len(taken(connection, queue)) == sent > 50


def test_a_port(name: str) -> None:
    """A bus has none."""
    with pytest.raises(eventbus.InvalidError, match="no port"):
        kombu.Connection(f"eventbus://{name}:6379").connect()


def test_event_loop(connection: Any) -> None:
    """kombu's loop takes what is there before it waits, and is woken for the rest."""
    queue = kombu.Queue("one", routing_key="one")
    publish(connection, queue, *range(100))
    heard: list[int] = []

    def on_message(body: int, message: Any) -> None:
        heard.append(body)
        message.ack()
        if len(heard) == 100:
            publish(connection, queue, 100)

    hub = Hub()
    with connection.Consumer([queue], callbacks=[on_message], prefetch_count=3):
        connection.register_with_event_loop(hub)
        while len(heard) < 101:
            hub.run_once()
        connection.transport.unregister_from_event_loop(connection.connection, hub)
    hub.close()
    assert heard == [*range(101)]


def test_nothing_comes(connection: Any) -> None:
    """The wait ends when the time is up."""
    with connection.Consumer([kombu.Queue("one", routing_key="one")], callbacks=[print]), pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.01)


@pytest.mark.parametrize(
    ("binding", "key", "hears"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#", "ab", False),
        ("a+b", "aab", False),
    ],
)
def test_topics(binding: str, key: str, hears: bool) -> None:
    """As AMQP has it."""
    assert (topic(binding).fullmatch(key) is not None) is hears


def test_declarations_after_a_death(name: str) -> None:
    """Half a line, of somebody who was killed, has declared nothing, and the next one takes its place."""
    first, second = Declared(name, "1", 0o600), Declared(name, "1", 0o600)
    with open(first.path, "ab") as file:
        file.write(b'["queue", "ha')
    first.add("queue", "whole", 0)
    second.refresh()
    assert second.queues == {"whole": [0]}
    later = Declared(name, "2", 0o600)
    assert later.queues == {}
    for one in (first, second, later):
        one.close()


def test_the_bus_is_removed(name: str) -> None:
    """What was declared on it goes, too, and the next bus of the name begins with nothing."""
    for _ in range(2):
        with kombu.Connection(f"eventbus://{name}") as made:
            bound = kombu.Queue("one", routing_key="one")(made.default_channel)
            with pytest.raises(made.channel_errors):
                bound.queue_declare(passive=True)
            bound.declare()
            path = made.connection.declared.path
        assert os.path.exists(path)
        eventbus.unlink(name)
        assert not os.path.exists(path)
