"""The pytest plugin: its fixtures, what a test may not leave behind, and what it costs where it is not used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import eventbus
from eventbus import Bus
from eventbus.core.inspection import list_names
from eventbus.testing.recorder import Recorder

Make = Callable[..., Recorder]
QUICK = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:pytester")


def test_a_fresh_name(eventbus_name: str) -> None:
    """Nobody has it."""
    assert eventbus_name not in list_names()


def test_a_recorder(eventbus_bus: Bus, eventbus_recorder: Make) -> None:
    """It has what was sent since it was made, as it was sent, and waits for what is to come."""
    eventbus_bus.send("orders", "early", "/")
    recorder, other = eventbus_recorder("orders.**"), eventbus_recorder("orders", "order.paid")
    assert recorder.events == []
    eventbus_bus.send("orders.eu", "order.new", "/1", {"total": 1})
    eventbus_bus.send("orders", "order.paid", "/1")
    assert [event.kind for event in recorder.wait_for(2)] == ["order.new", "order.paid"]
    assert recorder.events == recorder.wait_for(1, 0)
    assert [event.sequence for event in other.events] == [3]


def test_what_a_recorder_waits_for_in_vain(eventbus_bus: Bus, eventbus_recorder: Make) -> None:
    """The test fails with what came instead; also when nothing can come any more."""
    recorder = eventbus_recorder()
    eventbus_bus.send("orders", "order.new", "/1")
    with pytest.raises(pytest.fail.Exception, match=r"1 of 2 events came within 0 s: orders order\.new /1$"):
        recorder.wait_for(2, 0)
    eventbus_bus.send_many([("a", "b", "/")] * 11)
    eventbus_bus.shutdown()
    with pytest.raises(pytest.fail.Exception, match=r"12 of 13 .* before the bus was shut down: .*, and 2 more$"):
        recorder.wait_for(13)


def test_a_recorder_in_an_event_loop(eventbus_bus: Bus, eventbus_recorder: Make) -> None:
    """The loop goes on while it waits."""

    async def main() -> None:
        recorder = eventbus_recorder()
        waiting = asyncio.create_task(recorder.await_for(2))
        await eventbus_bus.asend("a", "k", "/1")
        await eventbus_bus.asend("a", "k", "/2")
        assert [event.path for event in await waiting] == ["/1", "/2"]
        with pytest.raises(pytest.fail.Exception, match="2 of 3 events came within 0 s"):
            await recorder.await_for(3, 0)

    asyncio.run(main())


IN_ORDER = """
    import eventbus

    def test_it(eventbus_bus, eventbus_name, eventbus_recorder):
        assert eventbus_bus.name == eventbus_name
        recorder = eventbus_recorder()
        with eventbus.open(eventbus_name) as other, other.subscribe("a") as sub:
            other.send("a", "k", "/")
            assert sub.receive(0).kind == "k"
        assert len(recorder.wait_for(1)) == 1

    def test_closed_by_itself(eventbus_bus):
        sub = eventbus_bus.subscribe("a")
        eventbus_bus.close()

    def test_that_is_forgotten(eventbus_bus):
        eventbus_bus.subscribe("a")

    def test_requests(eventbus_bus):
        try:
            eventbus_bus.request("a", "k", "/", timeout=0)
        except eventbus.UnavailableError:
            pass

    def test_name(eventbus_name):
        eventbus.open(eventbus_name, persist=True).close()
"""

LEAVING = """
    import eventbus, os, signal, pytest

    kept = []

    def test_subscription(eventbus_bus):
        kept.append(eventbus_bus.subscribe("a", name="mine"))

    @pytest.fixture
    def pids():
        pids = []
        yield pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def test_process(pids, eventbus_bus):
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            bus = eventbus.open(eventbus_bus.name)
            os.write(tell, b"x")
            signal.pause()
        pids.append(pid)
        os.read(told, 1)
        os.close(told)
        os.close(tell)

    def test_open_twice(eventbus_bus):
        kept.append(eventbus.open(eventbus_bus.name))

    def test_segment(eventbus_bus):
        eventbus.open(eventbus_bus.name, persist=True).close()

    def test_fails(eventbus_bus):
        kept.append(eventbus_bus.subscribe("a"))
        assert False, "by itself"

    def teardown_module():
        for one in kept:
            one.close()
"""


def run(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    """Runs the tests in this process."""
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess(*QUICK)


def test_tests_that_leave_nothing(pytester: pytest.Pytester) -> None:
    """They pass: what they closed, what Python collected, what the bus made for itself is nothing left."""
    run(pytester, IN_ORDER).assert_outcomes(passed=5)


def test_tests_that_leave_something(pytester: pytest.Pytester) -> None:
    """Each fails with a sentence that says what; one that has failed by itself does not fail twice."""
    done = run(pytester, LEAVING)
    done.assert_outcomes(passed=4, failed=1, errors=4)
    done.stdout.re_match_lines_random(
        [
            r"the subscription 'mine' of process \d+ to 'a' was left open: close it$",
            r"process \d+ was left with the bus 'test-[\w-]+' open: end it, and wait for its end$",
            r"this process has the bus 'test-[\w-]+' open 2 times: close what the test opened$",
            r"the bus 'test-[\w-]+' is left, persistent: was it opened with persist=True, or never closed\?$",
            r".*by itself",
        ]
    )


@pytest.mark.release
def test_no_cost_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    """A run whose tests use no fixture of it imports nothing of eventbus."""
    pytester.makepyfile("import sys\ndef test_it(): assert 'eventbus' not in sys.modules")
    pytester.runpytest_subprocess(*QUICK).assert_outcomes(passed=1)


def test_a_bus_that_is_used_is_closed(eventbus_bus: Bus) -> None:
    """It is an ordinary one, of a size that many tests at once may have."""
    assert eventbus_bus.stats().capacity == 1024 * 1024
    assert eventbus.Bus is type(eventbus_bus)
