"""Every limit, in one table: at it all works, one past it is the right error and costs nothing."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from eventbus._eventbus import lib

import eventbus
from eventbus import Bus, Event, InvalidError, SubscribersFullError, Subscription, patterns
from eventbus.core import native, terms
from eventbus.event import HEADERS_LIMIT, PATH_LIMIT
from harness import Fork, Line, ring_of, roster_of

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "sizing.md").read_text()
PAGE = os.sysconf("SC_PAGESIZE")
HEADER = 32  # bytes of a record before its body
HEAP = 256 * 1024  # bytes of names in the topic table
CAPACITY = 64 * 1024
PROCESSES = 200

# Where the guide states it: the row of its table that begins so, and the numbers in that row, in their order.
STATED: dict[str, list[int]] = {
    "capacity": [PAGE, 1],  # TiB
    "one event": [HEADER, 2],  # GiB
    "`send_many`": [8],
    "system, kind": [lib.EB_NAME_LIMIT, lib.EB_PATTERN_LIMIT],
    "path": [lib.EB_PATH_LIMIT],
    "headers": [HEADERS_LIMIT],
    "name": [terms.NAME_LIMIT, lib.EB_LABEL_LIMIT],
    "subscriber slots": [lib.EB_SUBSCRIBERS_LIMIT],
    "groups": [lib.EB_GROUPS, lib.EB_CLAIMS],
    "events read": [lib.EB_BATCH_LIMIT],
    "topics in the table": [lib.EB_TOPICS, HEAP // 1024, lib.EB_OWN_TOPICS],
}


@pytest.mark.parametrize("row", STATED)
def test_the_guide_states_it(row: str) -> None:
    """The numbers in the table of docs/sizing.md are those of the code."""
    found = re.findall(rf"^\| {re.escape(row)}[^|]*\|([^|]*)\|$", GUIDE, re.MULTILINE)
    assert [[int(number) for number in re.findall(r"\d+", text.replace(",", ""))] for text in found] == [STATED[row]]


def test_c_and_python_have_the_same_limits(bus: Bus) -> None:
    """What Python checks before C does is what C would check."""
    assert (patterns.LIMIT, PATH_LIMIT) == (lib.EB_NAME_LIMIT, lib.EB_PATH_LIMIT)
    assert patterns.JOINED_LIMIT == lib.EB_PATTERN_LIMIT
    assert (native.SUBSCRIBERS_LIMIT, native.GROUPS) == (lib.EB_SUBSCRIBERS_LIMIT, lib.EB_GROUPS)
    assert bus.stats().max_subscribers == terms.MAX_SUBSCRIBERS
    assert native.ring_bytes(1 << 40) > 1 << 40
    assert native.ring_bytes((1 << 40) + 1) < 0


@contextmanager
def costs_nothing(bus: Bus, error: type[Exception], match: str) -> Iterator[None]:
    """What is refused with this error leaves the bus as it was: nothing sent, no slot, no topic, no descriptor."""
    before, descriptors = bus.stats(), os.listdir("/proc/self/fd")
    with pytest.raises(error, match=match):
        yield
    assert bus.stats() == before
    assert os.listdir("/proc/self/fd") == descriptors


# --- names ---


def test_the_name_of_a_bus(name: str) -> None:
    """200 characters are a name, 201 are none."""
    longest = name.ljust(terms.NAME_LIMIT, "x")
    with eventbus.open(longest) as bus:
        assert bus.send("a", "b", "/c")
    for call in (eventbus.open, eventbus.unlink):
        with pytest.raises(InvalidError, match="1 to 200"):
            call(longest + "x")
    assert not list(ring_of(name).parent.glob(f"eventbus.{name}*"))


NAMED: dict[str, Callable[[Bus, str], object]] = {
    "a subscription": lambda bus, label: bus.subscribe("a", name=label),
    "a group": lambda bus, label: bus.group(label, "a"),
}


@pytest.mark.parametrize("what", NAMED)
def test_the_name_of(bus: Bus, what: str) -> None:
    """63 bytes are a name that is shown whole, 64 are an error, however few characters they are."""
    for longest in ("x" * lib.EB_LABEL_LIMIT, "é" * 31 + "x"):
        with ExitStack() as until_shown:
            made = NAMED[what](bus, longest)
            if isinstance(made, eventbus.Subscription):
                until_shown.enter_context(made)
            stats = bus.stats()
            assert longest in {*(one.name for one in stats.subscribers), *(one.name for one in stats.groups)}
        with costs_nothing(bus, InvalidError, "63 bytes"):
            NAMED[what](bus, longest + "x")


@pytest.mark.parametrize("letter", ["x", "é"])
def test_system_kind_and_pattern(bus: Bus, letter: str) -> None:
    """255 bytes each are sent and heard by a pattern as long; one byte more is an error of all three."""
    width = len(letter.encode())
    longest = "s" + letter * ((lib.EB_NAME_LIMIT - 1) // width)
    assert len(longest.encode()) == lib.EB_NAME_LIMIT
    with bus.subscribe(longest, longest) as sub:
        bus.send(longest, longest, "/c", 7)
        event = sub.receive(0)
        assert event is not None
        assert (event.system, event.kind, event.data) == (longest, longest, 7)
    for call in (
        lambda: bus.send(longest + "x", "b", "/c"),
        lambda: bus.send("a", longest + "x", "/c"),
        lambda: bus.send_many([("a", "b", "/c"), ("a", longest + "x", "/c")]),
        lambda: bus.subscribe(longest + "x"),
        lambda: bus.subscribe("a", longest + "x"),
        lambda: bus.group("pool", longest + "x"),
    ):
        if "a" not in {system for system, _ in bus.stats().topics}:
            bus.send("a", "b", "/c")
        with costs_nothing(bus, InvalidError, "at most 255 bytes, not 256"):
            call()


@pytest.mark.parametrize("data", [None, b"raw"])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_path(bus: Bus, letter: str, data: object) -> None:
    """A path of 4096 bytes arrives, with data of either form; one of 4097 is an error."""
    longest = letter * (lib.EB_PATH_LIMIT // len(letter.encode()))
    bus.send("a", "b", "/known")
    with bus.subscribe("a") as sub:
        for _ in range(2):
            bus.send("a", "b", longest, data)
            event = sub.receive(0)
            assert event is not None
            assert (event.path, event.data) == (longest, data)
            with costs_nothing(bus, InvalidError, "4097 bytes, the limit is 4096"):
                bus.send("a", "b", longest + "x", data)


# --- sizes ---


def raw(record: int) -> tuple[str, str, str, bytes]:
    """An event whose record has exactly so many bytes."""
    return "a", "b", "/p", b"x" * (record - HEADER - 2)


@pytest.mark.parametrize("capacity", [1, PAGE, PAGE + 1, 3 * PAGE, CAPACITY])
def test_one_event(name: str, capacity: int) -> None:
    """A record of exactly a quarter of the ring is sent and heard; a byte more of data is an error with both sizes."""
    with eventbus.open(name, capacity=capacity) as bus, bus.subscribe("a") as sub:
        quarter = bus.stats().capacity // 4
        assert quarter == max(PAGE, -(-capacity // PAGE) * PAGE) // 4
        for _ in range(20):
            bus.send(*raw(quarter))
            event = sub.receive(0)
            assert event is not None
            assert event.data == raw(quarter)[3]
        for call in (bus.send, lambda *event: bus.send_many([event])):
            with costs_nothing(bus, InvalidError, f"{quarter} bytes, a quarter"):
                call(*raw(quarter + 1))


def test_one_event_of_json(bus: Bus) -> None:
    """The same of JSON, whose brackets are not stored."""
    longest = "x" * (CAPACITY // 4 - HEADER - len('"/p",""'))
    bus.send("a", "b", "/p")
    with bus.subscribe("a") as sub:
        bus.send("a", "b", "/p", longest)
        event = sub.receive(0)
        assert event is not None
        assert event.data == longest
        with costs_nothing(bus, InvalidError, "a quarter"):
            bus.send("a", "b", "/p", longest + "x")


def test_send_many(bus: Bus) -> None:
    """Records that fill the ring but for 8 bytes are sent at once and heard; 8 bytes more are an error of all."""
    bus.send("a", "b", "/known")
    quarter = CAPACITY // 4
    with bus.subscribe("a") as sub:
        for _ in range(3):
            assert bus.send_many([raw(quarter)] * 3 + [raw(quarter - 8)]) == 4
            assert [len(event.data) for event in sub.receive_many(5, 0)] == [quarter - HEADER - 2] * 3 + [
                quarter - 8 - HEADER - 2
            ]
            with costs_nothing(bus, InvalidError, "must fit into the ring"):
                bus.send_many([raw(quarter)] * 4)


def test_the_largest_capacity(name: str) -> None:
    """A ring of 1 TiB is a matter of what /dev/shm has: no room is an OSError at once; a byte more is never valid."""
    room = os.statvfs("/dev/shm")
    if room.f_bavail * room.f_frsize > 1 << 40:
        pytest.skip("/dev/shm has more than 1 TiB free")
    with pytest.raises(OSError, match=f"needs {native.ring_bytes(1 << 40)} bytes more"):
        eventbus.open(name, capacity=1 << 40)
    with pytest.raises(InvalidError, match="at most 1 TiB"):
        eventbus.open(name, capacity=(1 << 40) + 1)
    assert not roster_of(name).exists()
    assert not ring_of(name).exists()


def test_a_batch(bus: Bus) -> None:
    """One call into C reads 256 events; a larger limit is met by several, and the events are the same."""
    with bus.subscribe("a") as sub:
        for count in (lib.EB_BATCH_LIMIT, lib.EB_BATCH_LIMIT + 1):
            bus.send_many([("a", "b", f"/{number}") for number in range(count)])
            events = sub.receive_many(count + 1, 0)
            assert [event.path for event in events] == [f"/{number}" for number in range(count)]


@pytest.mark.parametrize("prefetch", [256, 257])
def test_prefetch(bus: Bus, prefetch: int) -> None:
    """A member claims up to 256 events at once, also where more are asked for."""
    bus.group("pool", "jobs")
    bus.send_many([("jobs", "job", f"/{number}") for number in range(300)])
    with bus.subscribe("jobs", group="pool", prefetch=prefetch) as jobs:
        assert jobs.receive(0) is not None
        assert [one.events for one in bus.stats().groups[0].members] == [lib.EB_BATCH_LIMIT]
        assert bus.stats().groups[0].backlog == 300 - lib.EB_BATCH_LIMIT


# --- topics ---


def test_topics(name: str) -> None:
    """4096 topics are in the table; one more is sent with its names, and is heard like the others."""
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("**") as sub:
        bus.send_many([("a", f"k{number}", "/c", number) for number in range(lib.EB_TOPICS)])
        stats = bus.stats()
        assert (len(stats.topics), stats.untabled) == (lib.EB_TOPICS, 0)
        for _ in range(2):
            bus.send("a", "more", "/c", "more")
            bus.send("a", "k0", "/c", "again")
        stats = bus.stats()
        assert (len(stats.topics), stats.untabled, stats.topics["a", "k0"]) == (lib.EB_TOPICS, 2, 3)
        events = sub.receive_many(lib.EB_TOPICS + 5, 0)
        assert [event.data for event in events] == [*range(lib.EB_TOPICS), *["more", "again"] * 2]
        assert [event.kind for event in events[-4:]] == ["more", "k0"] * 2


def test_the_names_of_topics(name: str) -> None:
    """Names of together 256 KiB are in the table to the last byte; one more is sent with its names."""
    size = 2 * lib.EB_NAME_LIMIT
    fitting, rest = divmod(HEAP, size)
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("**") as sub:
        kind = "k" * lib.EB_NAME_LIMIT
        bus.send_many([(f"s{number}".ljust(lib.EB_NAME_LIMIT, "s"), kind, "/c") for number in range(fitting)])
        bus.send("a" * (rest - 1), "b", "/c")
        assert (len(bus.stats().topics), bus.stats().untabled) == (fitting + 1, 0)
        bus.send("a", "b", "/c", "past it")
        assert (len(bus.stats().topics), bus.stats().untabled) == (fitting + 1, 1)
        last = sub.receive_many(fitting + 3, 0)[-1]
        assert (last.system, last.kind, last.data) == ("a", "b", "past it")


# --- subscribers, groups, claims, processes ---


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process may have as many as the slots of the largest bus and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = lib.EB_SUBSCRIBERS_LIMIT + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the hard limit of open files is {hard}: the test needs {wanted} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_subscribers(name: str) -> None:
    """1024 subscriptions hear an event; another is an error that says how many there are; a closed one makes room."""
    with pytest.raises(InvalidError, match="at most 1024"):
        eventbus.open(name, max_subscribers=lib.EB_SUBSCRIBERS_LIMIT + 1)
    assert not roster_of(name).exists()
    with eventbus.open(name, capacity=CAPACITY, max_subscribers=lib.EB_SUBSCRIBERS_LIMIT) as bus, ExitStack() as open_:
        subs = [open_.enter_context(bus.subscribe("a", spin=0)) for _ in range(lib.EB_SUBSCRIBERS_LIMIT)]
        for refuse in (lambda: bus.subscribe("a"), lambda: bus.group("pool", "a")):
            with costs_nothing(bus, SubscribersFullError, "1024|32 groups"):
                refuse()
        bus.send("a", "b", "/c", 7)
        assert {event.data if (event := sub.receive(0)) else None for sub in subs} == {7}
        subs[500].close()
        with bus.subscribe("a") as another:
            bus.send("a", "b", "/c", 8)
            assert [event.data for event in another.receive_many(2, 0)] == [8]


def test_groups(name: str) -> None:
    """32 groups each have a slot; another group is an error and takes none."""
    with eventbus.open(name, capacity=CAPACITY, max_subscribers=lib.EB_GROUPS + 1) as bus:
        for number in range(lib.EB_GROUPS):
            bus.group(f"pool{number}", "jobs")
        for refuse in (lambda: bus.group("more", "jobs"), lambda: bus.subscribe("jobs", group="more")):
            with costs_nothing(bus, SubscribersFullError, "at most 32 groups"):
                refuse()
        assert len(bus.stats().groups) == lib.EB_GROUPS
        bus.send("jobs", "job", "/1", 1)
        for number in (0, lib.EB_GROUPS - 1):
            with bus.subscribe("jobs", group=f"pool{number}") as jobs:
                assert [event.data for event in jobs.receive_many(2, 0)] == [1]


def test_a_group_that_its_maker_cannot_join(name: str) -> None:
    """Where there is one slot left, joining a new group is refused and makes none, which would hold publishers back."""
    with eventbus.open(name, capacity=CAPACITY, max_subscribers=3) as bus, bus.subscribe("a"), ExitStack() as open_:
        one = open_.enter_context(bus.subscribe("a"))
        with costs_nothing(bus, SubscribersFullError, "no room for the group"):
            bus.subscribe("jobs", group="pool")
        one.close()
        with bus.subscribe("jobs", group="pool") as jobs:
            bus.send("jobs", "job", "/1", 1)
            assert [event.data for event in jobs.receive_many(2, 0)] == [1]
            assert jobs.receive(0) is None


def test_claims(name: str) -> None:
    """Members have 16,384 events in hand together; the next one gets none until one of them is done, and no error."""
    with eventbus.open(name, capacity=1 << 22, max_subscribers=80) as bus, ExitStack() as open_:
        for group in ("one", "two"):
            bus.group(group, "jobs")
        bus.send_many([("jobs", "job", f"/{number}", number) for number in range(lib.EB_CLAIMS)])
        held: list[tuple[Subscription, Event]] = []
        for number in range(lib.EB_CLAIMS // lib.EB_BATCH_LIMIT):
            member = bus.subscribe("jobs", group=("one", "two")[number % 2], ack="manual", prefetch=lib.EB_BATCH_LIMIT)
            held += [(open_.enter_context(member), event) for event in member.receive_many(lib.EB_BATCH_LIMIT, 0)]
        assert len(held) == lib.EB_CLAIMS
        other = open_.enter_context(bus.subscribe("jobs", group="two"))
        assert other.receive(0) is None
        assert other.receive(0.05) is None
        assert {group.backlog for group in bus.stats().groups} == {lib.EB_CLAIMS // 2}
        for sub, event in held[lib.EB_BATCH_LIMIT : 2 * lib.EB_BATCH_LIMIT]:
            sub.ack(event)
        one_more = other.receive(10)
        assert one_more is not None
        assert (one_more.data, one_more.deliveries) == (lib.EB_CLAIMS // 2, 1)


def attached(line: Line, name: str) -> None:
    """Attached until told to leave."""
    with eventbus.open(name):
        line.say()
        line.hear()


def test_processes(fork: Fork, name: str) -> None:
    """200 processes are attached and counted; when all have left nothing is there any more."""
    children = [fork(attached, name) for _ in range(PROCESSES)]
    for child in children:
        child.hear()
    with eventbus.open(name) as bus:
        assert bus.stats().attached == PROCESSES + 1
    for child in children:
        child.say()
    for child in children:
        child.result()
    assert not roster_of(name).exists()
