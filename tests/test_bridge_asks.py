"""Requests across hosts: real servers, bridges, and programs that answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import RemoteError, UnavailableError
from harness import DEADLINE, Child, Fork, Line, take
from nats_server import NatsServer
from routes import Host

LABEL = "bridge ask"
MakeHost = Callable[..., Host]


@pytest.fixture
def host(nats: NatsServer) -> Iterator[MakeHost]:
    """Makes hosts by their numbers, that ask or serve."""
    with ExitStack() as held:

        def make(number: int, *, serve: bool = False) -> Host:
            made = Host(f"h{number}", nats.url, LABEL, ask=[{"systems": ["users.**"], "serve": serve}])
            held.callback(made.bus.close)
            return made

        yield make


def answer(line: Line, name: str) -> None:
    """Answers with what it got and for how long it may; fails, waits to be told, or answers with bytes, by the kind."""
    with eventbus.open(name) as bus, bus.subscribe("users.**", group="answers", name="answers") as requests:
        for event in requests:
            line.say(event.path)
            if event.kind == "fail":
                event.fail("KeyError", "no such user")  # type: ignore[attr-defined]
            elif event.kind == "wait":
                line.hear()
                event.reply("late")
            elif event.kind == "bytes":
                event.reply(event.data[::-1])
            elif event.kind == "large":
                event.reply("x" * 5000)
            else:
                assert event.deadline is not None
                left = event.deadline - time.monotonic()
                event.reply({"data": event.data, "headers": dict(event.headers), "left": left, "path": event.path})


def served(host: Host, fork: Fork, policy: str = "") -> Child:
    """A host with its bridge, and a program that answers; once requests can come."""
    news = host.bus.subscribe("eventbus.bridge", "up")
    host.begin(fork, policy)
    take(news)
    news.close()
    made = fork(answer, host.name)
    host.wait_for("answers")
    return made


def test_a_request_is_answered_on_another_host(host: MakeHost, fork: Fork) -> None:
    """Data, headers, path and the time that is left come across, and the answer comes back: JSON, bytes or an error."""
    asks, serves = host(1), host(2, serve=True)
    served(serves, fork)
    asks.start(fork)
    got = asks.bus.request("users.eu", "get", "/7 ä", {"n": [1]}, timeout=DEADLINE, headers={"trace": "ü 1"})
    assert (got["data"], got["headers"], got["path"]) == ({"n": [1]}, {"trace": "ü 1"}, "/7 ä")
    assert 0 < got["left"] <= DEADLINE
    assert asks.bus.request("users.eu", "bytes", "/", b"\0\1\xff", timeout=DEADLINE) == b"\xff\1\0"
    with pytest.raises(RemoteError, match="KeyError: no such user") as failed:
        asks.bus.request("users.eu", "fail", "/", timeout=DEADLINE)
    assert (failed.value.details["type"], failed.value.details["text"]) == ("KeyError", "no such user")


def test_many_at_once(host: MakeHost, fork: Fork) -> None:
    """Each of many askers gets its own answer."""
    asks, serves = host(1), host(2, serve=True)
    served(serves, fork)
    asks.start(fork)

    async def ask() -> list[Any]:
        numbers = range(200)
        return await asyncio.gather(*(asks.bus.arequest("users", "get", "/", n, timeout=DEADLINE) for n in numbers))

    assert [got["data"] for got in asyncio.run(ask())] == [*range(200)]


def test_nobody_serves(host: MakeHost, fork: Fork) -> None:
    """The error is the one of a request without subscribers."""
    asks = host(1)
    with pytest.raises(UnavailableError) as alone:
        asks.bus.request("users", "get", "/", timeout=0.01)
    asks.start(fork)
    with pytest.raises(UnavailableError) as bridged:
        asks.bus.request("users", "get", "/", timeout=0.01)
    assert (str(bridged.value), bridged.value.details) == (str(alone.value), alone.value.details)


def test_somebody_comes_in_time(host: MakeHost, fork: Fork) -> None:
    """A request waits, as long as its asker has time, for a host that serves, and for a program there."""
    asks, serves = host(1), host(2, serve=True)
    asks.start(fork)
    asking = fork(ask, asks.name)
    asking.hear()
    served(serves, fork)
    assert asking.result()["data"] == "late"


def ask(line: Line, name: str) -> Any:
    """Asks, and returns the answer or the error."""
    with eventbus.open(name) as bus:
        line.say()
        try:
            return bus.request("users", "get", "/", "late", timeout=DEADLINE)
        except RemoteError as error:
            return error.details["type"], error.details["text"]


def test_one_host_of_those_that_serve(host: MakeHost, fork: Fork) -> None:
    """Each request is handled on one host; one without a program that would hear it gets none."""
    asks, one, other, idle = host(1), host(2, serve=True), host(3, serve=True), host(4, serve=True)
    programs = [served(one, fork), served(other, fork)]
    idle.begin(fork)
    asks.start(fork)
    for number in range(40):
        asks.bus.request("users", "get", f"/{number}", timeout=DEADLINE)
    handled = Counter(path for program in programs for path in program.said())
    assert handled == {f"/{number}": 1 for number in range(40)}


def test_a_host_that_serves_asks_itself(host: MakeHost, fork: Fork) -> None:
    """Its own requests stay at home."""
    one, other = host(1, serve=True), host(2, serve=True)
    here, there = served(one, fork), served(other, fork)
    for number in range(10):
        one.bus.request("users", "get", f"/{number}", timeout=DEADLINE)
    assert (len(here.said()), there.said()) == (10, [])


def test_a_server_dies(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """Who waits for an answer when the connection ends is told so, and need not wait for its time to be over."""
    asks, serves = host(1), host(2, serve=True)
    program = served(serves, fork)
    asks.start(fork)
    asking = fork(wait, asks.name)
    program.hear()
    nats.kill()
    kind, text = asking.result()
    assert (kind, text.partition(":")[0]) == ("UnavailableError", "nobody knows whether it was handled")
    program.say("go on")


def wait(line: Line, name: str) -> Any:
    """Asks what is answered late, for ever, and returns the error."""
    with eventbus.open(name) as bus:
        try:
            return bus.request("users", "wait", "/", timeout=None)
        except RemoteError as error:
            return error.details["type"], error.details["text"]


def test_a_host_that_may_not(host: MakeHost, fork: Fork, tmp_path: Path) -> None:
    """What the policy does not let a bridge ask on its bus is an error of that kind for the asker."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\neffect = "deny"\nactions = ["events.send"]\nresources = ["users.**"]\n')
    asks, serves = host(1), host(2, serve=True)
    served(serves, fork, str(policy))
    asks.start(fork)
    with pytest.raises(RemoteError, match="PolicyDeniedError"):
        asks.bus.request("users", "get", "/", timeout=DEADLINE)


def test_what_no_server_takes(nats: NatsServer, host: MakeHost, fork: Fork) -> None:
    """A request or an answer that is too large for the servers is an error for the asker."""
    nats.reconfigure("max_payload: 4096\n")
    asks, serves = host(1), host(2, serve=True)
    program = served(serves, fork)
    asks.start(fork)
    for kind, data in (("get", "x" * 5000), ("large", None)):
        with pytest.raises(RemoteError, match=r"InvalidError: .* servers take"):
            asks.bus.request("users", kind, "/", data, timeout=DEADLINE)
    assert len(program.said()) == 1


def test_events_stay(host: MakeHost, fork: Fork) -> None:
    """What is sent and no request does not travel."""
    asks, serves = host(1), host(2, serve=True)
    served(serves, fork)
    heard = serves.bus.subscribe("users")
    asks.start(fork)
    asks.bus.send("users", "get", "/sent")
    asks.bus.request("users", "get", "/asked", timeout=DEADLINE)
    assert take(heard).path == "/asked"
    assert heard.receive(0) is None
