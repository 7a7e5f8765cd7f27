"""The ends of what is looked at: a subscription, a bus, a process that goes; forks, members, damage."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import Bus, ClosedError, Event, InvalidError, SegmentError
from harness import DEADLINE, Fork, Line, take, until
from viewing import CAPACITY, LARGE, SIZES, is_released, look, payload, put, seen


@pytest.fixture
def roomy(name: str) -> Iterator[Bus]:
    with eventbus.open(name, capacity=CAPACITY, send_timeout=DEADLINE) as opened:
        yield opened


# --- closing ---


def test_closed_while_something_is_kept(roomy: Bus) -> None:
    """The views go with the subscription; what was made of one outlives it, and the bus."""
    other = eventbus.open(roomy.name)
    sub = roomy.subscribe("a", view=True)
    put(roomy, 1, 2, 3)
    first = look(sub)[:]
    second = look(sub)
    part = second[5:]
    sub.close()
    assert is_released(second)
    put(other, *range(4, 40))
    assert [bytes(first), bytes(part)] == [payload(1), payload(2)[5:]]
    roomy.close()
    other.close()
    assert [bytes(first), bytes(part)] == [payload(1), payload(2)[5:]]


def test_a_bus_closed_with_views_in_hand(name: str) -> None:
    """It closes its subscriptions; the arrays of these live on, without bus and segment."""
    bus = eventbus.open(name, capacity=CAPACITY)
    sub = bus.subscribe("a", view=True)
    put(bus, *range(8))
    events = sub.receive_many(8, 0)
    parts = [event.data[:] for event in events]
    bus.close()
    assert all(is_released(event.data) for event in events)
    assert [part == payload(number) for number, part in enumerate(parts)] == [True] * 8


def test_forgotten_without_closing(roomy: Bus) -> None:
    """A subscription that nobody refers to any more leaves what was had of it as it is."""
    sub = roomy.subscribe("a", view=True)
    put(roomy, 1)
    event = take(sub)
    gone = weakref.ref(sub)
    del sub
    gc.collect()
    assert gone() is None
    assert roomy.stats().subscribers == ()
    put(roomy, *range(2, 40))
    assert seen(event) == payload(1)


def test_closed_by_another_thread(roomy: Bus) -> None:
    """Whoever waits, or hashes what it looks at, comes to an end that is none of other data."""
    for number in range(30):
        sub = roomy.subscribe("a", view=True)
        digests: list[str] = []

        def listen(sub: eventbus.Subscription = sub, digests: list[str] = digests) -> None:
            for event in sub:
                try:
                    part = event.data[:]
                except ValueError:  # the other thread has closed in between, which releases it
                    return
                digests.append(hashlib.sha256(part).hexdigest())

        thread = threading.Thread(target=listen)
        thread.start()
        put(roomy, number, number + 1, number + 2)
        until(lambda digests=digests: digests, "nothing came")  # type: ignore[misc]
        sub.close()
        thread.join()
        right = [hashlib.sha256(payload(number + i)).hexdigest() for i in range(3)]
        assert digests == right[: len(digests)]


def test_of_a_closed_subscription_the_ring_is_free(roomy: Bus) -> None:
    """Nobody waits for what it had in hand, or kept."""
    sub = roomy.subscribe("a", view=True)
    put(roomy, *range(10))
    kept = [event.data[:] for event in sub.receive_many(10, 0)]
    sub.close()
    with roomy.subscribe("a") as rest:
        put(roomy, *range(10))
        assert len(rest.receive_many(10, 0)) == 10
    assert len(kept) == 10


def test_shut_down(roomy: Bus) -> None:
    """What is left is drained as ever."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, 2)
        roomy.shutdown()
        assert [bytes(seen(event)) for event in sub] == [payload(1), payload(2)]


# --- processes ---


def test_in_a_forked_child(roomy: Bus, fork: Fork) -> None:
    """A child may read what its parent looked at: its own copy, whatever the parent does; and receives nothing."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, 2)
        view = look(sub)

        def child(line: Line) -> tuple[bool, bool, bool]:
            line.hear()
            whole = view == payload(1)
            with pytest.raises(ClosedError, match="forked"):
                sub.receive(0)
            again = view == payload(1)
            part = view[1:]
            view.release()
            return whole, again, part == payload(1)[1:]

        other = fork(child)
        for number in range(2, 40):
            assert look(sub) == payload(number)
            put(roomy, number + 1)
        assert is_released(view)
        other.say()
        assert other.result() == (True, True, True)
        assert look(sub) == payload(40)


def test_forked_while_another_thread_receives(roomy: Bus, fork: Fork) -> None:
    """A fork waits for nobody who sleeps in a receive."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1)
        part = look(sub)[:]
        got: list[Event | None] = []
        thread = threading.Thread(target=lambda: got.append(sub.receive(DEADLINE)))
        thread.start()
        until(lambda: roomy.stats().subscribers[0].sleeping, "it does not sleep")
        assert fork(lambda line: part == payload(1)).result()
        put(roomy, 2)
        thread.join()
        assert got[0] is not None
        assert part == payload(1)
        assert got[0].data == payload(2)


def hold_and_die(line: Line, name: str) -> None:
    with eventbus.open(name) as bus, bus.subscribe("a", view=True, name="mortal") as sub:
        line.say()
        events = [take(sub) for _ in range(2)]
        parts = [event.data for event in events[1:]]
        line.say(parts[0] == payload(1))
        time.sleep(DEADLINE)


def test_killed_while_it_looks(roomy: Bus, fork: Fork, name: str) -> None:
    """A viewer that dies holds nobody up: its place goes with it."""
    other = fork(hold_and_die, name)
    other.hear()
    put(roomy, 0, 1)
    assert other.hear()
    assert roomy.stats().subscribers[0].viewed > LARGE
    other.kill()
    put(roomy, *range(2, 40))
    until(lambda: roomy.stats().subscribers == (), "its slot was not reaped")


EXITS = {
    "kept": "part = sub.receive(0).data[:]",
    "in hand": "event = sub.receive(0)",
    "a global of another module": "import json; json.part = sub.receive(0).data[:]; json.sub = sub",
    "atexit": "import atexit; part = sub.receive(0).data[:]; atexit.register(lambda: print(bytes(part[:3])))",
    "a list": "events = sub.receive_many(9, 0); sub.receive(0)",
    "a circle": "class It: pass\nit = It(); it.it = it; it.event = sub.receive(0); it.part = it.event.data[:]",
}


@pytest.mark.parametrize("how", EXITS)
def test_the_end_of_the_interpreter(name: str, how: str) -> None:
    """Whatever still looks then, and in whatever order things go: no crash, no word, no segment."""
    script = f"""
import eventbus, sys
bus = eventbus.open(sys.argv[1], capacity=1 << 20)
sub = bus.subscribe("a", view=True)
for number in range(3): bus.send("a", "b", "/c", b"abc" * 30000)
{EXITS[how]}
"""
    done = subprocess.run(
        [sys.executable, "-c", script, name], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("", "b'abc'\n")
    assert not os.path.exists(f"/dev/shm/eventbus.{name}.ring")


# --- damage ---


def test_beside_what_cannot_be_read(roomy: Bus) -> None:
    """An event that is no JSON spoils itself alone, also in one batch with views."""
    import orjson

    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1)
        roomy.send("a", "json", "/x", orjson.Fragment(b"{"))
        put(roomy, 2)
        first = look(sub)
        with pytest.raises(SegmentError, match="cannot be read"):
            sub.receive(0)
        assert is_released(first)
        last = look(sub)
        assert last == payload(2)
        assert sub.receive(0) is None
        assert is_released(last)
        assert roomy.stats().subscribers[0].viewed == 0


def test_what_was_put_back_is_good(roomy: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call was interrupted, what it had taken comes again, with views that are good."""
    with roomy.subscribe("a", view=True) as sub:
        sub._limit = 2
        put(roomy, *range(5))
        assert look(sub) == payload(0)
        fills = []

        def fill(deadline: int) -> bool:
            fills.append(deadline)
            if len(fills) == 2:
                raise KeyboardInterrupt
            return type(sub)._fill(sub, deadline)

        monkeypatch.setattr(sub, "_fill", fill)
        with pytest.raises(KeyboardInterrupt):
            sub.receive_many(5, 0)
        monkeypatch.undo()
        events = sub.receive_many(2, 0)
        assert [bytes(seen(event)) for event in events] == [payload(1), payload(2)]
        assert look(sub) == payload(3)
        assert all(is_released(event.data) for event in events)
        assert look(sub) == payload(4)


# --- members ---


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefetch", [1, 3])
def test_members_have_views_too(roomy: Bus, size: int, prefetch: int) -> None:
    """Good until the next event is asked for; of what was made of one, the bytes stay."""
    with roomy.subscribe("a", group="g", prefetch=prefetch, view=True) as sub:
        put(roomy, *range(9), size=size)
        kept = []
        for number in range(6):
            view = look(sub)
            assert view == payload(number, size)
            kept.append((view, view[1:]))
            assert all(is_released(view) for view, _ in kept[:-1])
        events = sub.receive_many(2, 0)
        assert [bytes(seen(event)) for event in events] == [payload(6 + i, size) for i in range(min(prefetch, 2))]
        assert is_released(kept[-1][0])
        sub.ack()
        assert all(is_released(event.data) for event in events)
        assert [part == payload(number, size)[1:] for number, (_, part) in enumerate(kept)] == [True] * 6


@pytest.mark.parametrize("size", SIZES)
def test_until_it_is_finished(roomy: Bus, size: int) -> None:
    """With ``ack="manual"`` each is good until it is acknowledged or given back itself, or the member leaves."""
    sub = roomy.subscribe("a", group="g", prefetch=4, ack="manual", view=True)
    put(roomy, *range(4), size=size)
    events = [take(sub) for _ in range(4)]
    assert sub.receive(0) is None
    assert [bytes(seen(event)) for event in events] == [payload(number, size) for number in range(4)]
    views = [event.data for event in events]
    sub.ack(events[2])
    assert [is_released(view) for view in views] == [False, False, True, False]
    sub.reject(events[0])
    assert [is_released(view) for view in views] == [True, False, True, False]
    again = take(sub)
    assert (bytes(seen(again)), again.deliveries) == (payload(0, size), 2)
    with pytest.raises(InvalidError, match="not in hand"):
        sub.ack(events[2])
    assert not is_released(again.data)
    sub.close()
    assert all(is_released(view) for view in [*views, again.data])


def test_given_back_all_at_once(roomy: Bus) -> None:
    """What is given back is released, and comes again."""
    with roomy.subscribe("a", group="g", prefetch=3, view=True) as sub:
        put(roomy, *range(3))
        view = look(sub)
        sub.reject()
        assert is_released(view)
        assert look(sub) == payload(0)


def test_dead_letters_have_their_data(roomy: Bus) -> None:
    """What a member buries, and what nobody lived to handle, is told with its bytes."""
    roomy.group("g", "a", max_deliveries=1)
    with (
        roomy.subscribe("eventbus.dead") as dead,
        roomy.subscribe("a", group="g", view=True) as sub,
    ):
        put(roomy, 1, 2, size=5000)
        sub.bury(take(sub))  # type: ignore[attr-defined]
        assert look(sub) == payload(2, 5000)
        sub.reject()
        assert sub.receive(0) is None
        from eventbus.letters import original_of

        assert [original_of(take(dead).data).data for _ in range(2)] == [payload(1, 5000), payload(2, 5000)]
