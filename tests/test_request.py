"""Requests: who asks gets the one answer to its own question, an error, or a time-out that names what was asked."""

from __future__ import annotations

import pickle
import threading

import pytest

import eventbus
from eventbus import (
    Bus,
    ClosedError,
    Event,
    InvalidError,
    PolicyDeniedError,
    RemoteError,
    Request,
    UnavailableError,
)
from eventbus.member import Member
from harness import DEADLINE, Fork, Line
from serving import serving


@pytest.mark.parametrize("data", [None, {"a": [1]}, "ä", b"raw \x00 bytes", b""])
def test_the_answer_comes_back(bus: Bus, data: object) -> None:
    """Whatever may be sent may be asked and answered, and the one who answers sees just what was asked."""
    with serving(bus.subscribe("prices.*", "price.*"), lambda request: request.reply(request.data)) as heard:
        assert bus.request("prices", "price.get", "/ä b", data, timeout=DEADLINE) == data
    (request,) = heard
    assert request[:4] == ("prices", "price.get", "/ä b", data)
    assert isinstance(request, Request)
    assert request.answered


def test_requests_among_events(bus: Bus) -> None:
    """In one batch with events of the same topic and of others, only the requests are requests."""
    sub = bus.subscribe("prices")
    asked = threading.Thread(target=lambda: bus.request("prices", "get", "/asked", 1, timeout=DEADLINE))
    bus.send("prices", "get", "/sent", 2)
    asked.start()
    while bus.stats().sent < 2:
        pass
    bus.send_many([("prices", "get", "/raw", b"3"), ("prices", "set", "/other", 4)])
    events = [sub.receive(0) for _ in range(4)]
    assert [(type(event), event.path, event.data) for event in events if event] == [
        (Event, "/sent", 2),
        (Request, "/asked", 1),
        (Event, "/raw", b"3"),
        (Event, "/other", 4),
    ]
    events[1].reply()  # type: ignore[union-attr]
    asked.join(DEADLINE)
    with pytest.raises(InvalidError, match="no request"):
        events[0].reply()  # type: ignore[union-attr]


def test_requests_whose_topic_found_the_table_full(name: str) -> None:
    """When the topic table is full, requests and answers carry their names, and arrive all the same."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        for number in range(4096):
            bus.send("filler", f"kind{number}", "/")
        with serving(bus.subscribe("prices"), lambda request: request.reply(request.data)):
            assert bus.request("prices", "get", "/", 7, timeout=DEADLINE) == 7
            assert bus.request("prices", "get", "/", b"7", timeout=DEADLINE) == b"7"
        assert bus.stats().untabled >= 4


def test_each_asker_gets_its_own_answer(bus: Bus) -> None:
    """Threads that ask at the same time each get the answer to their own question."""
    answers: dict[int, list[int]] = {}

    def ask(asker: int) -> None:
        answers[asker] = [bus.request("sum", "add", f"/{asker}", [asker, i], timeout=DEADLINE) for i in range(50)]

    with serving(bus.subscribe("sum"), lambda request: request.reply(sum(request.data))):
        threads = [threading.Thread(target=ask, args=(asker * 1000,)) for asker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert answers == {asker: [asker + i for i in range(50)] for asker in (0, 1000, 2000, 3000)}


def serve_in_a_process(line: Line, name: str) -> int:
    """Serves until the end of the bus."""
    with eventbus.open(name) as bus, bus.subscribe("sum") as sub:
        line.say("subscribed")
        served = 0
        for event in sub:
            event.reply(sum(event.data))
            served += 1
        return served


def test_between_processes(fork: Fork, bus: Bus) -> None:
    """A process answers what another one asks."""
    server = fork(serve_in_a_process, bus.name)
    server.hear()
    assert [bus.request("sum", "add", "/", [i, 1], timeout=DEADLINE) for i in range(100)] == list(range(1, 101))
    bus.shutdown()
    assert server.result() == 100


def test_an_error_is_raised_where_it_was_asked(bus: Bus) -> None:
    """An answer that is an error says what was raised, of which type, and about what."""
    with (
        serving(bus.subscribe("prices"), lambda request: request.fail("KeyError", "no such price")),
        pytest.raises(RemoteError, match=r"'prices' 'get' '/1' failed .*KeyError: no such price") as caught,
    ):
        bus.request("prices", "get", "/1", timeout=DEADLINE)
    assert caught.value.kind == "INTERNAL"
    assert not caught.value.retryable
    assert caught.value.details["type"] == "KeyError"


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_time_out_names_what_was_asked(bus: Bus, timeout: float) -> None:
    """Nobody answered: the error is retryable and says what was asked, of whom, for how long."""
    with pytest.raises(UnavailableError, match=r"'prices' 'get' '/1' within") as caught:
        bus.request("prices", "get", "/1", timeout=timeout)
    assert caught.value.retryable
    assert caught.value.details == {"system": "prices", "kind": "get", "path": "/1", "timeout": timeout}


def test_an_answer_that_comes_too_late(bus: Bus) -> None:
    """Nobody hears an answer whose asker has gone, and the next request gets its own."""
    sub = bus.subscribe("prices")
    with pytest.raises(UnavailableError):
        bus.request("prices", "get", "/1", timeout=0)
    late = sub.receive(0)
    assert late is not None
    with serving(sub, lambda request: (late.reply("late"), request.reply("right"), request.reply("twice"))):
        assert bus.request("prices", "get", "/2", timeout=DEADLINE) == "right"


def test_a_bus_that_is_shut_down_meanwhile(bus: Bus) -> None:
    """Who waits for an answer on a bus that ends gets an error at once, and so does who asks afterwards."""
    with (
        serving(bus.subscribe("prices"), lambda _: bus.shutdown()),
        pytest.raises(ClosedError, match="'prices' 'get' '/1'"),
    ):
        bus.request("prices", "get", "/1", timeout=DEADLINE)
    with pytest.raises(ClosedError):
        bus.request("prices", "get", "/1")


def test_what_cannot_be_asked(bus: Bus) -> None:
    """Bad names, data and times are refused before anything is sent."""
    for system, kind, path in (("", "k", "/"), ("s", "k*", "/"), ("s", "k", ""), ("s", "k" * 250, "/")):
        with pytest.raises(InvalidError):
            bus.request(system, kind, path)
    with pytest.raises(InvalidError):
        bus.request("s", "k", "/" * 4090)
    with pytest.raises(InvalidError):
        bus.request("s", "k", "/", object())
    with pytest.raises(InvalidError):
        bus.request("s", "k", "/", timeout=-1)
    with pytest.raises(InvalidError):
        bus.send("s", "k(request)", "/")
    with eventbus.open(bus.name, role="subscriber") as reader, pytest.raises(InvalidError, match="subscriber"):
        reader.request("s", "k", "/")
    assert bus.stats().sent == 0


def test_a_policy_is_asked_for_the_request_alone(name: str) -> None:
    """Asking needs leave to send there; the answer needs none, on either side."""
    rules = {"default": "deny", "rule": [{"effect": "allow", "actions": ["*"], "resources": ["prices"]}]}
    with eventbus.open(name, policy=rules) as bus:
        with serving(bus.subscribe("prices"), lambda request: request.reply(1)):
            assert bus.request("prices", "get", "/", timeout=DEADLINE) == 1
        with pytest.raises(PolicyDeniedError):
            bus.request("secrets", "get", "/")


def test_a_member_answers(bus: Bus) -> None:
    """In a group one member has the request; redelivered, it is one still, with its count."""
    members = [bus.subscribe("jobs", group="g") for _ in range(2)]
    done: list[object] = []
    asker = threading.Thread(target=lambda: done.append(bus.request("jobs", "job", "/1", 1, timeout=DEADLINE)))
    asker.start()
    first = members[0].receive(DEADLINE)
    assert isinstance(first, Request)
    members[0].reject()
    again = members[1].receive(DEADLINE)
    assert isinstance(again, Request)
    assert (again.path, again.kind, again.deliveries) == ("/1", "job", 2)
    again.reply("done")
    asker.join(DEADLINE)
    assert done == ["done"]


def test_an_exhausted_request_fails(bus: Bus) -> None:
    """Who asks for what no member lives to handle is told, with a dead letter about what was asked."""
    grave = bus.subscribe("eventbus.dead")
    bus.group("g", "jobs", max_deliveries=1)
    member = bus.subscribe("jobs", group="g")
    assert isinstance(member, Member)
    with serving(member, lambda _: member.reject()), pytest.raises(RemoteError, match="Exhausted"):
        bus.request("jobs", "job", "/1", 1, timeout=DEADLINE)
    dead = grave.receive(DEADLINE)
    assert dead is not None
    assert (dead.data["path"], dead.data["kind"], dead.data["data"]) == ("/1", "job", 1)


def test_a_request_pickles(bus: Bus) -> None:
    """A request that was handed on to another process can be answered there."""
    with serving(bus.subscribe("jobs"), lambda request: pickle.loads(pickle.dumps(request)).reply(request.data + 1)):
        assert bus.request("jobs", "job", "/", 1, timeout=DEADLINE) == 2


def test_a_request_past_all_names(bus: Bus) -> None:
    """Where a subscription has no number left for its names either, it is asked and answered like any other."""
    sub = bus.subscribe("**")
    for number in range(10_000):  # of 500 bytes each, which is more than the table and the subscription keep
        bus.send(f"{number:0>250}", f"{number:0>250}", "/")
        assert sub.receive(0) is not None
    with serving(sub, lambda request: request.reply(request.path)):
        assert bus.request("late" * 60, "ask" * 60, "/p", timeout=DEADLINE) == "/p"
    assert "late" * 60 not in {system for system, _ in sub._names.values()}
