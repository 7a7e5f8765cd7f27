"""Of the threads that wait for answers one receives for all: whenever and however it leaves, another one goes on."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, EventBusError, UnavailableError
from harness import DEADLINE, Fork, Line, take, until
from serving import answer_all, ask, leader_is_there, serving, waiting


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """As many as a test asks for at once."""
    with ThreadPoolExecutor(20) as pool:
        yield pool


# --- who leaves while others wait ---


def two_waiting(bus: Bus, threads: ThreadPoolExecutor, first: Callable[[], Any]) -> tuple[Future[Any], Future[Any]]:
    """One that receives for both, and then another one."""
    leads = threads.submit(first)
    until(lambda: leader_is_there(bus), "the first to wait")
    follows = threads.submit(ask, bus, "second")
    until(lambda: waiting(bus) == 2, "the second to ask")
    return leads, follows


def test_the_next_one_receives_when_the_first_has_no_time_left(bus: Bus, threads: ThreadPoolExecutor) -> None:
    """Whoever received for all gives up; the answer to another one comes all the same."""

    def both_wait(patience: float) -> bool:
        leads = threads.submit(ask, bus, "first", patience)
        until(lambda: leader_is_there(bus) or leads.done(), "the first to wait")
        follows = threads.submit(ask, bus, "second")
        until(lambda: waiting(bus) == 2 or leads.done(), "the second to ask")
        both = not leads.done()
        with pytest.raises(UnavailableError):
            leads.result(DEADLINE)
        take(sub)
        take(sub).reply("answer")
        assert follows.result(DEADLINE) == "answer"
        return both

    with bus.subscribe("rpc") as sub:
        patience = 0.05
        while not both_wait(patience):  # the first had left before the second asked, on a machine that has much to do
            patience *= 4


@pytest.mark.parametrize("first", ["first", "second"])
def test_the_next_one_receives_when_the_first_is_answered(bus: Bus, threads: ThreadPoolExecutor, first: str) -> None:
    """In whatever order they are answered, each is."""
    with bus.subscribe("rpc") as sub:
        two_waiting(bus, threads, lambda: ask(bus, "first"))
        asked = {event.data: event for event in (take(sub), take(sub))}
        asked.pop(first).reply(first)
        until(lambda: waiting(bus) == 1, "the first answer")
        (other,) = asked.values()
        other.reply("other")
        until(lambda: waiting(bus) == 0, "the other answer")


class Boom(Exception):
    """What the handler raises."""


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """What SIGUSR1 calls from now on."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(call: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: call())

    yield set_handler
    signal.signal(signal.SIGUSR1, before)


def raise_boom() -> None:
    """As a handler may."""
    raise Boom


def strike_when(condition: Callable[[], object]) -> threading.Thread:
    """Sends SIGUSR1 to this thread, which is the main one, once the condition holds."""

    def work() -> None:
        until(condition, "the moment to strike")
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_next_one_receives_when_a_handler_raises(
    bus: Bus, threads: ThreadPoolExecutor, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    """Whoever received for all is interrupted; the answer to another one comes all the same."""
    on_signal(raise_boom)
    follows: list[Future[Any]] = []

    def second_waits() -> bool:
        if leader_is_there(bus) and not follows:
            follows.append(threads.submit(ask, bus, "second"))
        return waiting(bus) == 2

    with bus.subscribe("rpc") as sub:
        striking = strike_when(second_waits)
        with pytest.raises(Boom):
            ask(bus, "first")
        striking.join(DEADLINE)
        assert waiting(bus) == 1
        take(sub)
        take(sub).reply("answer")
        assert follows[0].result(DEADLINE) == "answer"


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
def test_a_handler_asks_while_its_thread_waits(
    bus: Bus, threads: ThreadPoolExecutor, on_signal: Callable[[Callable[[], object]], None], leads: bool
) -> None:
    """It has its answer, and then the request that it interrupted has its own."""
    nested: list[Any] = []
    on_signal(lambda: nested.append(ask(bus, "nested")))
    with bus.subscribe("rpc") as sub:
        other = None if leads else threads.submit(ask, bus, "other")
        asked = {} if leads else {"other": take(sub)}
        if not leads:
            until(lambda: leader_is_there(bus), "the other one to wait")

        def answer() -> None:
            while len(asked) < 2 + (not leads):
                event = take(sub)
                asked[event.data] = event
                if event.data == "nested":
                    event.reply("inner")
            asked["outer"].reply("outer")

        answering = threads.submit(answer)
        striking = strike_when(lambda: waiting(bus) == 1 + (not leads) and leader_is_there(bus))
        assert ask(bus, "outer") == "outer"
        striking.join(DEADLINE)
        answering.result(DEADLINE)
        if other is not None:
            asked["other"].reply("other")
            assert other.result(DEADLINE) == "other"
    assert nested == ["inner"]


@pytest.mark.parametrize("end", [Bus.close, Bus.shutdown])
def test_all_who_wait_see_the_end(name: str, threads: ThreadPoolExecutor, end: Callable[[Bus], None]) -> None:
    """A bus that ends while many wait for answers tells each of them, at once."""
    with eventbus.open(name) as bus:
        answers = [threads.submit(ask, bus, number, None) for number in range(20)]
        until(lambda: bus.stats().sent == 20 and leader_is_there(bus), "all to wait")
        end(bus)
        for answer in answers:
            with pytest.raises(ClosedError, match="before the request 'rpc' 'ask' '/p' was answered"):
                answer.result(DEADLINE)
        with pytest.raises(ClosedError):
            ask(bus)


def ask_in_the_child(line: Line, bus: Bus) -> Any:
    """By the bus that was inherited."""
    line.say(waiting(bus))
    return [ask(bus, number) for number in ("child", "again")]


def test_a_fork_in_the_midst_of_requests(bus: Bus, fork: Fork, threads: ThreadPoolExecutor) -> None:
    """The child has a subscription of its own and gets its own answers; those who wait in the parent get theirs."""
    with bus.subscribe("rpc") as sub:
        two_waiting(bus, threads, lambda: ask(bus, "first"))
        asked = [take(sub), take(sub)]
        child = fork(ask_in_the_child, bus)
        child.hear()
        for _ in range(2):
            request = take(sub)
            assert request.sender == child.pid
            request.reply(request.data)
        assert child.result() == ["child", "again"]
        for request in asked:
            request.reply(request.data)
        until(lambda: waiting(bus) == 0, "the answers")
        assert len(bus.stats().subscribers) == 2


def test_a_handler_forks_while_its_thread_waits(
    bus: Bus, on_signal: Callable[[Callable[[], object]], None], threads: ThreadPoolExecutor
) -> None:
    """In the child the wait ends with an error, and it can ask anew; the parent gets its answer."""
    parent, children = os.getpid(), list[int]()
    on_signal(lambda: children.append(os.fork()))
    with bus.subscribe("rpc") as sub:
        striking = strike_when(lambda: leader_is_there(bus))
        answering = threads.submit(lambda: [take(sub) for _ in range(2)][::-1])
        status = 1
        try:
            answering.add_done_callback(lambda it: [event.reply(event.data) for event in it.result()])
            answer = ask(bus, "parent")
        except ClosedError:
            status = int(ask(bus, "child") != "child")
        finally:
            if os.getpid() != parent:
                os._exit(status)
        striking.join(DEADLINE)
        assert answer == "parent"
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


# --- interrupted at random ---


def test_a_storm_of_signals_among_answers(bus: Bus, fork: Fork) -> None:
    """However often it is interrupted, an answer is to the request that waits for it, and nothing is left of others."""
    server = fork(answer_all, bus.name)
    server.hear()
    interrupted = answered = 0
    armed = False

    def strike(*_: object) -> None:
        if armed:
            raise Boom

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.00017)
    end = time.monotonic() + 1
    try:
        number = 0
        while time.monotonic() < end or not interrupted or not answered:
            number += 1
            try:
                armed = True
                answer = ask(bus, number)
                armed = False
                assert answer == number
                answered += 1
            except Boom:
                armed = False
                interrupted += 1
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert waiting(bus) == 0
    assert len(bus.stats().subscribers) == 2
    assert ask(bus, "after") == "after"
    bus.shutdown()
    server.result()


def test_a_first_request_that_is_interrupted(name: str) -> None:
    """Wherever the first request of a bus is interrupted, no slot is left that nobody owns, and the next one works."""
    armed = False

    def strike(*_: object) -> None:
        if armed:
            raise Boom

    before = signal.signal(signal.SIGALRM, strike)
    interrupted = 0
    try:
        for step in range(0, 400, 4):
            with eventbus.open(name, capacity=4096, max_subscribers=2) as bus:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, (step + 1) * 1e-6)
                    with contextlib.suppress(EventBusError):
                        ask(bus, timeout=0)
                    armed = False
                except Boom:
                    interrupted += 1
                finally:
                    armed = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
                gc.collect()
                assert len(bus.stats().subscribers) <= 1
                with serving(bus.subscribe("rpc"), lambda it: it.reply(it.data)):
                    assert ask(bus, step) == step
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 0
