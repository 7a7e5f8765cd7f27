"""One bad text is one bad event: one error, and its neighbours come, in order, as they were sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventbus
from eventbus import Bus, SegmentError, Subscription
from eventbus.cli.tail import follow
from eventbus.event import encode
from harness import take

MEGABYTE = 1 << 20
BAD = {
    "no JSON": b"oops",
    "nothing": b"",
    "more": b"1,2,3",
    "another pair": b'1,"/forged",2',
    "cut short": b'{"a":[1',
    "a string cut short": b'"abc',
    "closed too often": b"1]",
    "another document": b"1] [2",
    "no UTF-8": b'"\xff"',
    "too deep": b"[" * 2000 + b"]" * 2000,
    "too large a number": b"1e999",
    "a line break in a string": b'"a\nb"',
}
Outcome = tuple[str, Any]  # path and data, or "error" and the sequence
Way = Callable[[Subscription], Iterator[Outcome]]

bad = orjson.Fragment  # what orjson sends as it is


def outcomes(step: Callable[[], list[Any]]) -> Iterator[Outcome]:
    """What comes of repeating the step until nothing comes."""
    while True:
        try:
            events = step()
        except SegmentError as error:
            yield "error", error.details["sequence"]
            continue
        if not events:
            return
        yield from ((event.path, event.data) for event in events)


def one_by_one(sub: Subscription) -> Iterator[Outcome]:
    """By ``receive``."""
    return outcomes(lambda: [event] if (event := sub.receive(0)) else [])


def by_channel(sub: Subscription) -> Iterator[Outcome]:
    """By the channel."""
    return outcomes(lambda: [event] if (event := sub.channel().receive(0)[0]) else [])


def many(sub: Subscription) -> Iterator[Outcome]:
    """By ``receive_many``."""
    return outcomes(lambda: sub.receive_many(7, 0))


def by_iterator(sub: Subscription) -> Iterator[Outcome]:
    """By one iterator, which an error does not end."""
    events = iter(sub)
    return outcomes(lambda: [next(events)] if sub.backlog else [])


@pytest.mark.parametrize("way", [one_by_one, by_channel, many, by_iterator])
@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("at", [{0}, {4}, {9}, {3, 4, 8}, set(range(10))], ids=str)
def test_a_bad_text_among_good_ones(bus: Bus, way: Way, text: bytes, at: set[int]) -> None:
    """First, last, between others, several or alone: each bad one is one error in its place."""
    with bus.subscribe("a") as sub:
        for number in range(10):
            bus.send("a", "k", f"/{number}", bad(text) if number in at else {"n": [number]})
        assert list(way(sub)) == [("error", n + 1) if n in at else (f"/{n}", {"n": [n]}) for n in range(10)]
        assert sub.lost == 0


def test_what_comes_before_a_bad_text_is_returned_first(bus: Bus) -> None:
    """``receive_many`` returns what it has, and raises when it is called again; also where a batch ends in between."""
    with bus.subscribe("a") as sub:
        bus.send_many([("a", "k", f"/{n}", n) for n in range(256)])
        bus.send_many([("a", "k", "/bad", bad(b"oops")), ("a", "k", "/last", 1)])
        assert len(sub.receive_many(999, 0)) == 256
        with pytest.raises(SegmentError, match=r"the event 257 'a' 'k' '/bad' of the bus .* is no JSON") as caught:
            sub.receive_many(999, 0)
        assert caught.value.details == {"sequence": 257, "system": "a", "kind": "k", "path": "/bad"}
        assert [event.path for event in sub.receive_many(999, 0)] == ["/last"]


FORGED = [
    (b"[1", b"2],3,4"),
    (b"[1", b'2],"/forged",4'),
    (b'["]"', b'"["],"/forged",4'),
    (b'["]"', b'1],"/forged",4'),
    (b'["\\"]"', b'1],"/forged",4'),
    (b'{"a":1', b'2},"/forged",4'),
    (b'["\\"]"', b'"\\"["],"/forged",4'),
    (b'"a', b'forged",4'),
    (b'[{"k":"' + b"x" * 60 + b'"}', b'1],"/forged",4'),
    (b"[" + b'"\\\\",' * 40 + b"1", b'1],"/forged",4'),
]


@pytest.mark.parametrize("texts", FORGED, ids=str)
@pytest.mark.parametrize("path", ["/p", ",", ",5,", "],[", '\\"[', "ä"])
def test_texts_that_would_be_some_together(bus: Bus, texts: tuple[bytes, bytes], path: str) -> None:
    """Two texts that are no JSON alone are none together, whatever their paths."""
    with bus.subscribe("a") as sub:
        for text in texts:
            bus.send("a", "k", path, bad(text))
        assert list(many(sub)) == [("error", 1), ("error", 2)]


def alone(path: str, text: bytes) -> Outcome:
    """What a text is by itself."""
    try:
        values = orjson.loads(encode(path, bad(text)))
    except orjson.JSONDecodeError:
        return "error", None
    return (values[0], values[1]) if len(values) == 2 else ("error", None)


PIECES = [b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b"1", b'"a"', b"\n", b" ", b"x" * 61, b'"/p"', b"null"]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
    st.recursive(st.sampled_from(["[", "]", '"', "\\", "x" * 62, 1]), st.lists, max_leaves=6).map(orjson.dumps),
    st.sampled_from([text for pair in FORGED for text in pair]),
)


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(["/p", "]", '["', "\\"]), texts), min_size=1, max_size=6))
def test_each_text_is_what_it_is_alone(bus: Bus, sent: list[tuple[str, bytes]]) -> None:
    """Whatever stands beside it in a batch."""
    with bus.subscribe("a") as sub:
        bus.send_many([("a", "k", path, bad(text)) for path, text in sent])
        heard = [(what, None if what == "error" else data) for what, data in many(sub)]
    assert heard == [alone(path, text) for path, text in sent]


def test_a_text_at_the_end_of_the_buffer(name: str) -> None:
    """However little of the buffer a text with arrays leaves, it is what it is."""
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("a") as sub:
        for spare in range(80):
            bus.send("a", "k", "/1", "x" * (65536 - 40 - spare))
            bus.send("a", "k", "/2", [1])
            assert [event.path for event in sub.receive_many(2, 0) + sub.receive_many(2, 0)] == ["/1", "/2"]


def test_beside_raw_data_and_topics_past_the_table(name: str) -> None:
    """Raw data, and names that stand in the record, go with their own events where another one's text is bad."""
    rows = [("late", "k", "/1", b"raw"), ("late", "k", "/2", 2), ("filler", "k1", "/4", 4), ("late", "l", "/5", b"")]
    with eventbus.open(name, capacity=1 << 20) as bus:
        for number in range(4096):
            bus.send("filler", f"k{number}", "/")
        with bus.subscribe("**") as sub:
            bus.send_many([*rows[:2], ("late", "m", "/3", bad(b"oops")), *rows[2:]])
            got = [take(sub) for _ in range(2)]
            with pytest.raises(SegmentError, match="'late' 'm' '/3'"):
                sub.receive(0)
            got += [take(sub) for _ in range(2)]
        assert [event[:4] for event in got] == rows


def test_tail_goes_on(bus: Bus) -> None:
    """``eventbus tail`` says which event it cannot read, and shows the others."""
    shown: list[Any] = []
    warnings: list[str] = []
    with bus.subscribe("a") as sub:
        bus.send_many([("a", "k", f"/{n}", bad(b"oops") if n == 1 else n) for n in range(3)])
        assert follow(sub, shown.extend, warnings.append, 2, lambda: 0) == 2
    assert [event.path for event in shown] == ["/0", "/2"]
    assert [warning[:11] for warning in warnings] == ["the event 2"]


# --- memory ---


# In a process of its own, whose heap nobody has left room in.
IN_LITTLE_MEMORY = """
import os, resource, sys
import eventbus

with eventbus.open(sys.argv[1]) as bus, bus.subscribe("a", start="oldest") as sub:
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + (32 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    for _ in range(3):
        try:
            print(sub.receive(0).path)
        except MemoryError:
            print("no memory")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for event in sub.receive_many(9, 0):
        print(event.path)
"""


@pytest.mark.release
def test_memory_that_does_not_suffice(name: str) -> None:
    """An event that there is no memory for is no bad one: it comes when there is, and so do its neighbours."""
    with eventbus.open(name, capacity=64 * MEGABYTE) as bus:
        for number, data in enumerate(["x", "x" * (4 * MEGABYTE), "x"], 1):
            bus.send("a", "k", f"/{number}", data)
        command = [sys.executable, "-c", IN_LITTLE_MEMORY, name]
        came = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split("\n")
    assert came == ["/1", "no memory", "no memory", "/2", "/3", ""]
