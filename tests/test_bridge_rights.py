"""What a user at the servers needs for queues and requests: no more than the rooms say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventbus import Bus
from eventbus.bridge.queues import label_of
from harness import DEADLINE, Fork, Line, take
from nats_server import NatsServer
from routes import GROUP, Host, path_of

QUEUE = "EBQ-main-q"
MAY_QUEUE = [
    "ebq.main.q.{0}.>",
    f"$JS.ACK.{QUEUE}.hosts.>",
    *(f"$JS.API.STREAM.{call}.{QUEUE}" for call in ("INFO", "CREATE")),
    *(f"$JS.API.CONSUMER.{call}.{QUEUE}.hosts" for call in ("INFO", "DURABLE.CREATE", "MSG.NEXT")),
]


def user(name: str, publish: list[str], subscribe: list[str]) -> str:
    """One user of a server's configuration, who may do this only."""
    lists = [", ".join(f'"{subject.format(name)}"' for subject in one) for one in (publish, subscribe)]
    rights = f"permissions: {{ publish: [{lists[0]}], subscribe: [{lists[1]}] }}"
    return f'{{ user: "{name}", password: "secret", {rights} }}'


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """What is closed once all processes have ended."""
    with ExitStack() as stack:
        yield stack


def test_few_rights_are_enough(each_nats: NatsServer, held: ExitStack, fork: Fork, tmp_path: Path) -> None:
    """A host that puts in and asks, and one that serves both, each with the rights that it needs."""
    users = [
        user("h1", [*MAY_QUEUE, "eba.main.{0}.>"], ["_INBOX.main.{0}.>"]),
        user("h2", [*MAY_QUEUE, "_INBOX.>"], ["_INBOX.main.{0}.>", "eba.main.*.>"]),
    ]
    each_nats.reconfigure(f"authorization {{ users: [{', '.join(users)}] }}\n")
    password = tmp_path / "password"
    password.write_text("secret\n")

    def host(name: str, serve: bool) -> Host:
        queue = {"name": "q", "systems": ["jobs.**"]} | ({"serve": GROUP} if serve else {})
        ask = {"systems": ["users"], "serve": serve}
        made = Host(name, each_nats.url, label_of("q"), queue=[queue], ask=[ask])
        held.callback(made.bus.close)
        made.table["nats"] |= {"user": name, "password_file": str(password)}
        return made

    asks, serves = host("h1", serve=False), host("h2", serve=True)
    asks.start(fork)
    asks.wait_for("bridge ask")
    serves.start(fork)
    worker = serves.work(fork)
    asks.bus.send("jobs", "new", "/a")
    assert path_of(worker) == "/a"
    program = fork(echo, serves.name)
    program.hear()
    assert asks.bus.request("users", "get", "/", 7, timeout=DEADLINE) == 7


def echo(line: Line, name: str) -> None:
    """Answers one request with what it got."""
    with Bus(name) as bus, bus.subscribe("users") as requests:
        line.say()
        event = take(requests)
        event.reply(event.data)
