"""Event loops that end in the middle of a stream, with whoever waits in them, or are interrupted: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection

import pytest

from eventbus import Bus, Subscription
from harness import DEADLINE, Fork, Line
from loops import NewLoop

LOOPS = 200
SOON = 5e-3  # seconds, which are more than the hook takes

pytestmark = [
    pytest.mark.usefixtures("doorbell"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),  # a loop closed before it began
]


def send(bus: Bus, first: int, count: int) -> int:
    """Sends so many numbered events, which the ring has room for; the next number."""
    bus.send_many([("a", "k", "/p", number) for number in range(first, first + count)], timeout=DEADLINE)
    return first + count


async def read(sub: Subscription, heard: list[int]) -> None:
    """Until it is stopped."""
    async for event in sub:
        heard.append(event.data)


def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """As ``asyncio.run`` does at its end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class Asked(asyncio.SelectorEventLoop):
    """A loop that does something as it is asked whether it is closed, once."""

    act: Callable[[], object] | None = None

    def is_closed(self) -> bool:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().is_closed()


def test_a_loop_of_another_thread_begins_to_wait_as_one_does(bus: Bus) -> None:
    """Each thread has a loop of its own: while one looks which have ended, another one begins to hear the bell."""
    with bus.subscribe("a") as sub, bus.subscribe("a") as other, contextlib.closing(Asked()) as first:
        assert first.run_until_complete(sub.areceive(SOON)) is None
        thread = threading.Thread(target=lambda: asyncio.run(other.areceive(SOON)))

        def begin() -> None:
            thread.start()
            thread.join(DEADLINE)

        first.act = begin
        assert asyncio.run(sub.areceive(SOON)) is None
        assert first.act is None, "it was not asked"
        assert not thread.is_alive()


@pytest.mark.parametrize("end", [cancel_all, lambda loop: None], ids=["cancelled", "left"])
def test_loops_that_close(bus: Bus, new_loop: NewLoop, end: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    """One after the other hears what was sent, whoever waited in the ones before, and was cancelled or just left."""
    generator, heard, sent = random.Random(5), list[int](), 0

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    with bus.subscribe("a") as sub:
        for _ in range(LOOPS):
            loop = new_loop()
            for _ in range(3):
                loop.create_task(read(sub, heard))
            loop.run_until_complete(turns(generator.randrange(4)))
            sent = send(bus, sent, generator.choice((1, 2, 100)))
            loop.run_until_complete(turns(generator.randrange(4)))
            end(loop)
            loop.close()
        assert len(heard) > 0
        heard += [event.data for event in sub.receive_many(sent + 1, 0)]
    assert heard == [*range(sent)]


def give_up_and_leave(line: Line, bus: Bus) -> list[object]:
    """Gives up twice before anything comes, and ends while somebody still waits."""
    heard: list[object] = []
    sub = bus.subscribe("a")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(sub.areceive(), 0.01)
        send(bus, 0, 4)
        for _ in range(4):
            event = await asyncio.wait_for(sub.areceive(), DEADLINE)
            heard.append(event and event.data)
        asyncio.ensure_future(sub.areceive())  # noqa: RUF006
        await asyncio.sleep(0.01)

    asyncio.run(main())
    return heard


def test_nobody_receives_for_one_who_gave_up(bus: Bus, fork: Fork) -> None:
    """As a thread would: it takes an event that nobody gets, and keeps the process from ending."""
    assert fork(give_up_and_leave, bus).result() == [0, 1, 2, 3]


# --- interrupted ---


def run(new_loop: NewLoop, sub: Subscription, heard: list[int], ready: int) -> None:
    """As ``asyncio.run``."""
    if sys.version_info < (3, 11):
        raise AssertionError("there is no Runner")

    async def main() -> None:
        os.write(ready, b".")
        await read(sub, heard)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def run_bare(new_loop: NewLoop, sub: Subscription, heard: list[int], ready: int) -> None:
    """In a loop that knows nothing of Ctrl-C: what it raises comes between any two steps."""

    async def main() -> None:
        others = [asyncio.ensure_future(read(sub, heard)) for _ in range(2)]
        os.write(ready, b".")
        await asyncio.gather(*others)

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def try_again(unraisable: sys.UnraisableHookArgs) -> None:
    """No exception leaves a destructor, or a callback of the collector: then it comes once more."""
    if unraisable.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, SOON)


def listen(_: Line, bus: Bus, new_loop: NewLoop, how: Callable[..., None], ready: int) -> tuple[list[int], int]:
    """Listens anew whenever it was interrupted, until the end of the bus: what it heard, and how often it was."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = try_again
    heard, hits = list[int](), 0
    with bus.subscribe("a") as sub:
        while not sub.closed:
            try:
                how(new_loop, sub, heard, ready)
            except KeyboardInterrupt:
                hits += 1
    return heard, hits


def hear(told: int) -> None:
    """Waits until it may be interrupted."""
    assert connection.wait([told], DEADLINE), "it hangs"
    assert os.read(told, 1), "it is dead"


def interrupt(bus: Bus, fork: Fork, new_loop: NewLoop, how: Callable[..., None]) -> tuple[list[int], int]:
    """What one heard who was interrupted so often, and how many were sent."""
    generator, sent = random.Random(6), 0
    told, ready = os.pipe()  # an interrupted `Line.say` may crash an older CPython in its collector (gh-77894)
    child = fork(listen, bus, new_loop, how, ready)
    os.close(ready)
    for _ in range(LOOPS):
        hear(told)
        sent = send(bus, sent, generator.choice((1, 2, 100)))
        child.kill(signal.SIGINT)
        sent = send(bus, sent, generator.choice((0, 1, 30)))
    hear(told)
    os.close(told)
    bus.shutdown()
    heard, hits = child.result()
    assert hits == LOOPS
    return heard, sent


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11 asyncio.run has no Ctrl-C of its own")
def test_ctrl_c(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """It ends ``asyncio.run``, and nothing is lost: the next one goes on with the next event."""
    heard, sent = interrupt(bus, fork, new_loop, run)
    assert heard == [*range(sent)]


def test_ctrl_c_in_the_middle_of_anything(bus: Bus, fork: Fork, new_loop: NewLoop) -> None:
    """It may cost the one event that was on its way to whoever was interrupted; all others are heard in order."""
    heard, sent = interrupt(bus, fork, new_loop, run_bare)
    assert heard == sorted(set(heard))
    assert sent - LOOPS <= len(heard) <= sent
