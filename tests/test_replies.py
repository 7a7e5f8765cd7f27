"""All answers to what a bus asks come by one subscription, to whoever of any number of threads waits for them."""

from __future__ import annotations

import contextlib
import gc
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import eventbus
from eventbus import Bus, SubscribersFullError, Subscription, UnavailableError
from harness import DEADLINE, Fork, take
from serving import answer_all, ask, serving, waiting

MANY = 500


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """As many as a test asks for at once."""
    with ThreadPoolExecutor(MANY) as pool:
        yield pool


# --- one slot ---


def test_a_crowd_takes_one_slot(name: str, threads: ThreadPoolExecutor) -> None:
    """A hundred threads that make their first requests at once share one subscription, and each has its own answer."""
    with eventbus.open(name, max_subscribers=2) as bus, serving(bus.subscribe("rpc"), lambda it: it.reply(it.data)):
        assert list(threads.map(lambda number: ask(bus, number), range(100))) == list(range(100))
        assert sorted(one.system[:15] for one in bus.stats().subscribers) == ["eventbus.reply.", "rpc"]


def test_each_bus_has_its_own(bus: Bus) -> None:
    """Two objects of one bus in one process do not hear each other's answers, and leave with what they have."""
    with serving(bus.subscribe("rpc"), lambda it: it.reply(it.data)):
        with eventbus.open(bus.name) as other:
            assert [ask(bus, 1), ask(other, 2), ask(bus, 3)] == [1, 2, 3]
            assert len(bus.stats().subscribers) == 3
        assert len(bus.stats().subscribers) == 2
        assert ask(bus, 4) == 4


def test_no_slot_is_left(name: str) -> None:
    """Where every slot is taken the first request says so, and one that is freed is enough for all that follow."""
    with eventbus.open(name, max_subscribers=2) as bus:
        sub, other = bus.subscribe("rpc"), bus.subscribe("other")
        with pytest.raises(SubscribersFullError):
            ask(bus)
        other.close()
        with serving(sub, lambda it: it.reply(it.data)):
            assert [ask(bus, number) for number in range(3)] == [0, 1, 2]


def test_it_is_no_audience(bus: Bus) -> None:
    """Whoever hears nothing but answers is no subscriber that somebody waits for."""
    with contextlib.suppress(UnavailableError):
        ask(bus, timeout=0)
    assert len(bus.stats().subscribers) == 1
    assert not bus.wait_for_subscribers(1, timeout=0)


def test_a_bus_that_asked_goes_with_its_last_reference(bus: Bus) -> None:
    """It leaves at once, not when Python collects what is unreachable."""
    other = eventbus.open(bus.name)
    with contextlib.suppress(UnavailableError):
        ask(other, timeout=0)
    gone = weakref.ref(other)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="unclosed bus"):
            del other
    finally:
        gc.enable()
    assert gone() is None
    assert bus.stats().subscribers == ()
    assert bus.stats().attached == 1


# --- many at once ---


def test_hundreds_are_under_way_at_once(bus: Bus, threads: ThreadPoolExecutor) -> None:
    """All of them are asked before any is answered, the last one first; then nothing is left of them."""
    with bus.subscribe("rpc") as sub:
        answers = [threads.submit(ask, bus, number) for number in range(MANY)]
        asked = [take(sub) for _ in range(MANY)]
        assert waiting(bus) == MANY
        for request in reversed(asked):
            request.reply(request.data)
        assert [answer.result(DEADLINE) for answer in answers] == list(range(MANY))
    assert waiting(bus) == 0


def test_a_storm_of_threads(bus: Bus, fork: Fork, threads: ThreadPoolExecutor) -> None:
    """Threads that ask again and again, each with a time of its own to wait, get their own answers or a time-out."""
    server = fork(answer_all, bus.name)
    server.hear()

    def ask_often(asker: int) -> int:
        answered = 0
        for number in range(100):
            with contextlib.suppress(UnavailableError):
                assert ask(bus, [asker, number], (number % 5) * 1e-4 or DEADLINE) == [asker, number]
                answered += 1
        return answered

    assert min(threads.map(ask_often, range(20))) >= 20
    assert waiting(bus) == 0
    assert ask(bus, "after") == "after"
    bus.shutdown()
    server.result()


# --- what is forgotten ---


def test_what_is_not_waited_for_any_more_is_forgotten(bus: Bus) -> None:
    """Nothing is left of thousands of requests whose time was up, and their answers disturb nobody."""
    late: list[eventbus.Event] = []
    with bus.subscribe("rpc") as sub:
        for _ in range(2000):
            with pytest.raises(UnavailableError):
                ask(bus, timeout=0)
            late.append(take(sub))
            assert waiting(bus) == 0
        for request in late:
            request.reply("late")
        with serving(sub, lambda it: it.reply("right")):
            assert ask(bus) == "right"


FLOOD = 2000  # answers of 100 bytes, which are more than the ring holds


def flood(request: eventbus.Event) -> None:
    """Answers to a request again and again, without waiting for room."""
    for _ in range(FLOOD):
        assert request.reply("x" * 100)


def test_nobody_is_held_up_by_who_asks_nothing(name: str) -> None:
    """Between two requests the subscription is in nobody's way, whatever comes for it meanwhile."""
    with eventbus.open(name, capacity=1 << 16, send_timeout=0) as bus, bus.subscribe("rpc") as sub:
        with pytest.raises(UnavailableError):
            ask(bus, timeout=0)
        flood(take(sub))
        with serving(sub, lambda it: it.reply("right")):
            assert ask(bus) == "right"


def test_nobody_is_held_up_where_the_table_is_full(name: str) -> None:
    """The same where answers carry the names of their topic."""
    with eventbus.open(name, capacity=1 << 20, send_timeout=0) as bus, bus.subscribe("rpc") as sub:
        for number in range(4096):
            bus.send("filler", f"kind{number}", "/")
        with pytest.raises(UnavailableError):
            ask(bus, timeout=0)
        request = take(sub)
        for _ in range(10):
            flood(request)
        with serving(sub, lambda it: it.reply("right")):
            assert ask(bus) == "right"


def test_two_who_share_an_inbox(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told each other's answers, and take only their own."""
    prefixes = iter(["00" + "1" * 22, "00" + "2" * 22])
    monkeypatch.setattr("eventbus.asking.new_prefix", prefixes.__next__)
    with eventbus.open(bus.name) as other, bus.subscribe("rpc") as sub, ThreadPoolExecutor(2) as two:
        answers = [two.submit(ask, asker, number) for number, asker in enumerate((bus, other))]
        for request in sorted((take(sub), take(sub)), key=lambda it: it.data, reverse=True):
            request.reply(request.data)
        assert [answer.result(DEADLINE) for answer in answers] == [0, 1]
        systems = [one.system for one in bus.stats().subscribers]
        assert systems.count("eventbus.reply.00") == 2


# --- until when it is waited for ---


def asked_within(bus: Bus, sub: Subscription, timeout: float | None, **more: Any) -> eventbus.Event:
    """A request as it is heard."""
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(bus.request, "rpc", "ask", "/p", more.pop("data", 1), timeout=timeout, **more)
        request = take(sub)
        request.reply()
        with contextlib.suppress(UnavailableError):
            answer.result(DEADLINE)
    return request


@pytest.mark.parametrize("more", [{}, {"data": b"raw"}, {"headers": {"trace": "1"}}], ids=["text", "raw", "headers"])
def test_a_request_knows_until_when_it_is_waited_for(bus: Bus, more: dict[str, Any]) -> None:
    """By the clock of this host, whichever way it travels; None where somebody waits for ever, or nobody does."""
    with bus.subscribe("rpc") as sub:
        before = time.monotonic()
        request = asked_within(bus, sub, DEADLINE, **dict(more))
        assert request.deadline is not None
        assert before + DEADLINE <= request.deadline <= time.monotonic() + DEADLINE
        assert request._replace(data=2).deadline == request.deadline
        assert asked_within(bus, sub, None, **dict(more)).deadline is None
        at_once = asked_within(bus, sub, 0, **dict(more)).deadline
        assert at_once is not None
        assert before <= at_once <= time.monotonic()
        bus.send("rpc", "ask", "/p")
        assert take(sub).deadline is None


def test_a_redelivered_request_knows_it_too(bus: Bus) -> None:
    """Who waits does not wait longer because a member gave the request back."""
    with bus.subscribe("rpc", group="g") as member, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask, bus, 1)
        first = take(member)
        member.reject()
        again = take(member)
        assert again.deadline == first.deadline
        again.reply("done")
        assert answer.result(DEADLINE) == "done"


def test_a_reply_waits_for_room_no_longer_than_it_is_waited_for(name: str) -> None:
    """Where the ring is full, whoever answers a request whose time is up is told so at once."""
    with eventbus.open(name, capacity=4096, send_timeout=None) as bus, bus.subscribe("rpc") as sub:
        with pytest.raises(UnavailableError):
            ask(bus, timeout=0)
        late = take(sub)
        with bus.subscribe("filler") as slow:
            with contextlib.suppress(eventbus.FullError):
                while True:
                    bus.send("filler", "k", "/", "x" * 500, timeout=0)
            with pytest.raises(eventbus.FullError, match=slow.name):
                late.reply("x" * 500)
