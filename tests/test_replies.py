"""All answers to what a bus asks come by one subscription, to whoever of any number of threads waits for them."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import eventbus
from eventbus import Bus, ClosedError, EventBusError, Subscription, SubscribersFullError, UnavailableError
from harness import DEADLINE, Fork, Line, take, until
from serving import serving

MANY = 500


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """As many as a test asks for at once."""
    with ThreadPoolExecutor(MANY) as pool:
        yield pool


def ask(bus: Bus, number: Any = 0, timeout: float | None = DEADLINE) -> Any:
    """The answer to a number."""
    return bus.request("rpc", "ask", "/p", number, timeout=timeout)


def waiting(bus: Bus) -> int:
    """How many requests of a bus are waited for."""
    return 0 if bus._replies is None else bus._replies.under_way


def leader_is_there(bus: Bus) -> bool:
    """Whether a thread sleeps until answers come."""
    return any(one.sleeping for one in bus.stats().subscribers if one.system.startswith("eventbus.reply."))


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


def answer_all(line: Line, name: str) -> None:
    """Answers until the end of the bus."""
    with eventbus.open(name) as bus, bus.subscribe("rpc") as sub:
        line.say("subscribed")
        for event in sub:
            event.reply(event.data)


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
    with bus.subscribe("rpc") as sub:
        leads, follows = two_waiting(bus, threads, lambda: ask(bus, "first", 0.05))
        with pytest.raises(UnavailableError):
            leads.result(DEADLINE)
        take(sub)
        take(sub).reply("answer")
        assert follows.result(DEADLINE) == "answer"


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
    """Wherever the first request of a bus is interrupted, no slot is left that nobody owns, and the next one is asked."""
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
            with pytest.raises(eventbus.FullError):
                while True:
                    bus.send("filler", "k", "/", "x" * 500, timeout=0)
            with pytest.raises(eventbus.FullError, match=slow.name):
                late.reply("x" * 500)
