"""Views: raw data as memoryviews, good until more is asked for, then released; whatever else was made of one keeps its
bytes."""

from __future__ import annotations

import array
import copy
import ctypes
import gc
import pickle
from collections.abc import Callable, Iterator

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, Subscription
from harness import DEADLINE, take
from viewing import CAPACITY, LARGE, SIZES, is_released, look, payload, put, seen


@pytest.fixture
def roomy(name: str) -> Iterator[Bus]:
    with eventbus.open(name, capacity=CAPACITY, send_timeout=DEADLINE) as opened:
        yield opened


# --- how long ---


@pytest.mark.parametrize("size", SIZES)
def test_good_until_the_next_is_asked_for(roomy: Bus, size: int) -> None:
    """By each way of asking, whether or not there is one; and nothing else ends it."""
    asks: dict[str, Callable[[Subscription], object]] = {
        "receive": lambda sub: sub.receive(0),
        "receive_many": lambda sub: sub.receive_many(3, 0),
        "channel": lambda sub: sub.channel().receive(0),
        "iterate": lambda sub: next(iter(sub)),
        "close": lambda sub: sub.close(),
    }
    for name, ask in asks.items():
        with roomy.subscribe("a", view=True) as sub:
            put(roomy, 1, 2, size=size)
            view = look(sub)
            assert (sub.backlog, sub.lost, sub.closed, repr(sub)[:4]) == (1, 0, False, "<Sub")
            assert not sub.arm()
            assert view == payload(1, size)
            ask(sub)
            assert is_released(view), name


@pytest.mark.parametrize("size", SIZES)
def test_asked_for_in_vain(roomy: Bus, size: int) -> None:
    """Who asks has done with what it had, also where nothing comes."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, size=size)
        view = look(sub)
        assert sub.receive(0) is None
        assert is_released(view)
        assert roomy.stats().subscribers[0].viewed == 0


@pytest.mark.parametrize("size", SIZES)
def test_those_of_a_list_are_good_together(roomy: Bus, size: int) -> None:
    """All of a list until more is asked for, however it was put together."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, *range(6), size=size)
        assert look(sub) == payload(0, size)
        events = sub.receive_many(3, 0)
        assert [bytes(seen(event)) for event in events] == [payload(number, size) for number in (1, 2, 3)]
        rest = sub.receive_many(99, 0)
        assert all(is_released(event.data) for event in events)
        assert [bytes(seen(event)) for event in rest] == [payload(4, size), payload(5, size)]


def test_a_list_of_several_batches(roomy: Bus) -> None:
    """More events than C reads at once come in one list, all of them good."""
    with roomy.subscribe("a", view=True) as sub:
        sub._limit = 3
        put(roomy, *range(8))
        events = sub.receive_many(8, 0)
        assert [bytes(seen(event)) for event in events] == [payload(number) for number in range(8)]
        assert sub.receive(0) is None
        assert all(is_released(event.data) for event in events)


def test_in_a_loop(roomy: Bus) -> None:
    """Each turn has its own; the ring is free behind it."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, *range(9))
        before: memoryview | None = None
        for number, event in enumerate(sub):
            assert before is None or is_released(before)
            before = seen(event)
            assert before == payload(number)
            assert LARGE * (9 - number) < roomy.stats().subscribers[0].viewed < (LARGE + 99) * (9 - number)
            if number == 8:
                break


def test_all_else_arrives_as_ever(roomy: Bus) -> None:
    """Text is decoded; headers, requests and empty data are what they are elsewhere."""
    with roomy.subscribe("a", view=True) as sub:
        roomy.send("a", "json", "/x", {"n": 1})
        roomy.send("a", "raw", "/x", b"", headers={"h": "1"})
        roomy.send("a", "raw", "/ü", payload(1), headers={"h": "2"})
        first, empty, full = sub.receive_many(3, 0)
        assert first.data == {"n": 1}
        assert (bytes(empty.data), len(seen(empty)), empty.headers) == (b"", 0, {"h": "1"})
        assert (bytes(seen(full)), full.path, full.headers) == (payload(1), "/ü", {"h": "2"})


def test_without_it_they_are_bytes(roomy: Bus) -> None:
    """Beside one who looks, another one has bytes."""
    with roomy.subscribe("a", view=True) as views, roomy.subscribe("a") as plain:
        put(roomy, 1)
        assert type(take(plain).data) is bytes
        assert look(views) == payload(1)


def test_catching_up(roomy: Bus) -> None:
    """What was sent before it joined, which nothing protects, is copied, and lives as long."""
    put(roomy, 1)
    with roomy.subscribe("a", start="oldest", view=True) as sub:
        put(roomy, 2)
        old = look(sub)
        assert old == payload(1)
        assert type(old.obj) is bytes
        assert look(sub) == payload(2)
        assert is_released(old)


def test_not_with_overflow_drop(roomy: Bus) -> None:
    """What may be overwritten cannot be looked at."""
    with pytest.raises(InvalidError, match="view=True needs overflow='block'"):
        roomy.subscribe("a", overflow="drop", view=True)
    with pytest.raises(ValueError, match="view"):
        eventbus.subscribe("a", overflow="drop", view=True)
    eventbus.default_bus().close()


def test_a_view_is_sent_on(roomy: Bus) -> None:
    """It is data like any other, to be sent while it is good."""
    with roomy.subscribe("a", view=True) as sub, roomy.subscribe("b") as to:
        put(roomy, 1, 2)
        event = take(sub)
        roomy.send("b", "raw", "/x", event.data)
        roomy.send_many([("b", "raw", "/x", event.data[7:])])
        assert sub.receive(0) is not None
        with pytest.raises((ValueError, InvalidError)):
            roomy.send("b", "raw", "/x", event.data)
        assert [take(to).data, take(to).data] == [payload(1), payload(1)[7:]]
        assert to.receive(0) is None


@pytest.mark.parametrize("size", SIZES)
def test_pickles_and_copies_have_bytes(roomy: Bus, size: int) -> None:
    """An event that leaves its process, or is copied, takes its bytes along; one that was released says so."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, size=size)
        event = take(sub)
        for other in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
            assert type(other) is Event
            assert type(other.data) is bytes
            assert other == event
        assert sub.receive(0) is None
        with pytest.raises(ValueError, match="released"):
            pickle.dumps(event)


def test_pickled_without_views() -> None:
    """Other events pickle as they did, and requests with what they know of who asked."""
    event = Event("a", "b", "/c", {"d": [1]}, 1, 2, 3)
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event).data is not event.data


# --- who else looks ---


@pytest.mark.parametrize("size", SIZES)
def test_what_is_made_of_it_keeps_its_bytes(roomy: Bus, size: int) -> None:
    """A slice, a cast, and what exports the view itself: each has the right bytes whatever comes after."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, size=size)
        view = look(sub)
        part, whole = view[1:], memoryview(view)
        words = view[: size // 4 * 4].cast("I")
        put(roomy, 2, size=size)
        assert look(sub) == payload(2, size)
        assert is_released(view)
        for number in range(3, 40):
            put(roomy, number, size=size)
            assert look(sub) == payload(number, size)
        assert part == payload(1, size)[1:]
        assert whole == payload(1, size)
        assert words.tolist() == array.array("I", payload(1, size)[: size // 4 * 4]).tolist()


WRITABLE = 1  # PyBUF_WRITABLE


class Exports:
    """Has a buffer of the view itself, which so cannot be released, as an array of ctypes has of a bytearray."""

    def __init__(self, view: object, flags: int = 0) -> None:
        self.size = LARGE if not isinstance(view, memoryview) else len(view)
        self.buffer = (ctypes.c_void_p * 11)()  # a Py_buffer has 80 bytes
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        get(view, self.buffer, flags)

    def bytes(self) -> bytes:
        return ctypes.string_at(self.buffer[0] or 0, self.size)

    def release(self) -> None:
        release = ctypes.pythonapi.PyBuffer_Release
        release.argtypes, release.restype = [ctypes.c_void_p], None
        release(self.buffer)


@pytest.mark.parametrize("size", SIZES)
def test_a_view_that_is_exported_stays(roomy: Bus, size: int) -> None:
    """It cannot be released, so it goes on being good, and so does what exports it; at its end, it is at the user's."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1, size=size)
        view = look(sub)
        exports = Exports(view)
        for number in range(2, 40):
            put(roomy, number, size=size)
            assert look(sub) == payload(number, size)
        assert (bytes(view), exports.bytes()) == (payload(1, size), payload(1, size))
        exports.release()
        view.release()
        assert sub.receive(0) is None
        assert roomy.stats().subscribers[0].viewed == 0


def test_arrays(roomy: Bus) -> None:
    """An array of numpy is made without a copy, cannot be written to, and keeps its numbers."""
    numpy = pytest.importorskip("numpy")
    kept = []
    with roomy.subscribe("a", view=True) as sub:
        for number in range(60):
            put(roomy, number)
            kept.append(numpy.frombuffer(look(sub), dtype=numpy.uint8))
            assert not kept[-1].flags.writeable
        for number, one in enumerate(kept):
            assert one.tobytes() == payload(number)
    assert [one.tobytes() == payload(number) for number, one in enumerate(kept)] == [True] * 60


def test_all_are_kept(roomy: Bus) -> None:
    """Whoever keeps everything has everything, and holds back a quarter of the ring at most."""
    with roomy.subscribe("a", view=True) as sub:
        kept = []
        for number in range(80):
            put(roomy, number, size=LARGE - number)
            kept.append(look(sub)[:])
            assert roomy.stats().subscribers[0].viewed <= CAPACITY // 4 + LARGE + 99
        assert [view == payload(number, LARGE - number) for number, view in enumerate(kept)] == [True] * 80
        del kept[::2]
        gc.collect()
        assert [view == payload(2 * i + 1, LARGE - 2 * i - 1) for i, view in enumerate(kept)] == [True] * 40
        kept.clear()
        assert sub.receive(0) is None
        assert roomy.stats().subscribers[0].viewed == 0


def test_let_go_of_without_asking(roomy: Bus) -> None:
    """What was kept frees the ring when nobody has it any more, though nobody asks for more."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1)
        part = look(sub)[:]
        assert sub.receive(0) is None
        assert roomy.stats().subscribers[0].viewed > LARGE
        del part
        assert roomy.stats().subscribers[0].viewed == 0


def test_of_a_view_that_is_gone_no_other_is_made(roomy: Bus) -> None:
    """What a view belongs to gives no other one once it was released."""
    with roomy.subscribe("a", view=True) as sub:
        put(roomy, 1)
        owner = look(sub).obj
        assert memoryview(owner) == payload(1)
        with pytest.raises(BufferError, match="cannot be written"):
            Exports(owner, WRITABLE)
        assert sub.receive(0) is None
        with pytest.raises(BufferError, match="released"):
            memoryview(owner)


def test_larger_than_what_may_be_kept(roomy: Bus) -> None:
    """The largest event of a ring, kept, is a copy as soon as the next one comes."""
    size = CAPACITY // 4 - 200
    with roomy.subscribe("a", view=True) as sub:
        parts = []
        for number in range(10):
            put(roomy, number, size=size)
            parts.append(look(sub)[:])
        assert [part == payload(number, size) for number, part in enumerate(parts)] == [True] * 10


def test_the_smallest_rings(name: str) -> None:
    """Where hardly two events fit, each comes, is right, and may be kept."""
    with eventbus.open(name, capacity=32768, send_timeout=DEADLINE) as bus, bus.subscribe("a", view=True) as sub:
        parts = []
        for number in range(30):
            put(bus, number, size=8000)
            parts.append(look(sub)[:])
        assert [part == payload(number, 8000) for number, part in enumerate(parts)] == [True] * 30
