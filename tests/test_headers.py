"""Headers and origin: they come with an event in whatever way it is sent, read and delivered again."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
from collections import UserDict
from types import MappingProxyType
from typing import Any

import orjson
import pytest

import eventbus
from commands import command, ended
from eventbus import Bus, Event, InvalidError, Request, SegmentError, Subscription
from eventbus.core.native import INLINE, lib
from eventbus.event import HEADERS_LIMIT, NO_HEADERS
from harness import DEADLINE, take
from serving import serving
from test_cli import tailing

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "a=ä", "empty": ""}


@pytest.mark.parametrize("data", [{"a": 1}, None, b"raw", b""])
@pytest.mark.parametrize("headers", [TRACE, {"n": "v"}, {"\0": "\0\n"}])
def test_they_arrive(bus: Bus, data: Any, headers: dict[str, str]) -> None:
    """However an event is sent, its headers arrive as they were, in their order, and its data beside them."""
    sub = bus.subscribe("a")
    bus.send("a", "k", "/p", data, headers=headers)
    bus.send_many([("a", "k", "/p", data, headers), ("a", "k", "/p", data, None), ("a", "k", "/p", data)])
    events = sub.receive_many(9, 0)
    assert [event[:4] for event in events] == [("a", "k", "/p", data)] * 4
    assert [event.headers for event in events] == [headers, headers, {}, {}]
    assert list(events[0].headers.items()) == list(headers.items())
    assert {event.origin for event in events} == {""}


@pytest.mark.parametrize("kind", [dict, UserDict, MappingProxyType, lambda headers: take_from(headers)])
def test_any_mapping(bus: Bus, kind: Any) -> None:
    """Headers may be any mapping, those of an event that was received, too; none are as good as left out."""
    sub = bus.subscribe("a")
    for headers in (kind(TRACE), kind({})):
        bus.send("a", "k", "/p", headers=headers)
        assert take(sub).headers == dict(headers)


def take_from(headers: dict[str, str]) -> Any:
    """The headers as an event has them."""
    with eventbus.open(f"test-{os.getpid()}-headers") as bus, bus.subscribe("a") as sub:
        bus.send("a", "k", "/p", headers=headers)
        return take(sub).headers


def headed(bus: Bus) -> Event:
    """An event with headers."""
    with bus.subscribe("a") as sub:
        bus.send("a", "k", "/p", 1, headers=TRACE)
        return take(sub)


@pytest.mark.parametrize("headers", [TRACE, None])
def test_nobody_changes_them(bus: Bus, headers: dict[str, str] | None) -> None:
    """Whatever changes a dict is a TypeError; also of the empty ones, which all events without share."""
    with bus.subscribe("a") as sub:
        bus.send("a", "k", "/p", 1, headers=headers)
        got: Any = take(sub).headers
    for change in (
        lambda: got.__setitem__("x", "1"),
        lambda: got.__delitem__("empty"),
        lambda: got.__ior__({"x": "1"}),
        lambda: got.setdefault("x", "1"),
        lambda: got.update(x="1"),
        lambda: got.pop("empty", None),
        got.popitem,
        got.clear,
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert got == (headers or {})
    assert NO_HEADERS == {}


def test_an_event_with_headers_is_a_value(bus: Bus) -> None:
    """It can be shown, hashed, compared, copied, pickled and made JSON of, as one without."""
    event = headed(bus)
    assert "headers={'traceparent': " in repr(event)
    assert hash(event) == hash(event._replace())
    assert event != event._replace(headers=NO_HEADERS)
    for same in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event)), Event(**event._asdict())):
        assert same == event
        assert list(same.headers.items()) == list(TRACE.items())
    assert json.loads(json.dumps(event._asdict()))["headers"] == TRACE
    assert orjson.loads(orjson.dumps(event._asdict()))["headers"] == TRACE
    assert type(copy.deepcopy(event.headers)) is type(event.headers)


BAD: dict[str, tuple[Any, str]] = {
    "a list": ([("a", "b")], "mapping of str to str"),
    "a str": ("a=b", "mapping of str to str"),
    "a number": (0, "mapping of str to str"),
    "a name that is no str": ({1: "b"}, "name of a header must be a str"),
    "a name of bytes": ({b"a": "b"}, "name of a header must be a str"),
    "an empty name": ({"": "b"}, "at least one character"),
    "a value that is no str": ({"a": 1}, "header 'a' must be a str, not int"),
    "a value that is None": ({"a": None}, "header 'a' must be a str, not NoneType"),
    "a surrogate in a name": ({"\ud800": "b"}, "cannot be encoded as UTF-8"),
    "a surrogate in a value": ({"a": "\udfff"}, "header 'a' cannot be encoded as UTF-8"),
    "too long a value": ({"a": "x" * HEADERS_LIMIT}, "have 4097 bytes, the limit is 4096"),
    "too many": ({f"{number:04}": "" for number in range(1025)}, "have 4100 bytes, the limit is 4096"),
    "too many bytes": ({"a": "ä" * (HEADERS_LIMIT // 2)}, "have 4097 bytes, the limit is 4096"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("data", [1, b"raw"])
def test_what_is_no_header(bus: Bus, what: str, data: Any) -> None:
    """Bad headers are an error that says what to change, and nothing is sent, nor what was to be sent with it."""
    headers, sentence = BAD[what]
    with pytest.raises(InvalidError, match=sentence):
        bus.send("a", "k", "/p", data, headers=headers)
    with pytest.raises(InvalidError, match="headers a mapping" if "mapping" in sentence else sentence):
        bus.send_many([("a", "k", "/p", data), ("a", "k", "/p", data, headers)])
    with pytest.raises(InvalidError, match=sentence):
        bus.request("a", "k", "/p", data, headers=headers)
    assert bus.stats().sent == 0


@pytest.mark.parametrize("data", [1, b"raw"])
def test_the_longest(bus: Bus, data: Any) -> None:
    """4096 bytes fit, be they of one header or of as many as can be: names of one character each."""
    many = dict.fromkeys(map(chr, range(2090)), "")
    assert HEADERS_LIMIT - sum(len(name.encode()) for name in many) == 2
    with bus.subscribe("a") as sub:
        for headers in ({"a": "x" * (HEADERS_LIMIT - 1)}, many):
            bus.send("a", "k", "/p", data, headers=headers)
            event = take(sub)
            assert (event.headers, event.data) == (headers, data)
    assert lib.EB_LABEL_LIMIT + 3 * HEADERS_LIMIT < lib.EB_EXTENSION_LIMIT


def test_a_batch_with_and_without(bus: Bus) -> None:
    """In one batch each event has its own headers, whatever its data are, and however much of it there is."""
    rows = [
        ("a", f"k{i % 3}", f"/{i}", b"raw" * i if i % 2 else {"n": "x" * i}, {"n": str(i)} if i % 5 else None)
        for i in range(200)
    ]
    with bus.subscribe("a") as sub:
        bus.send_many(rows)
        events = sub.receive_many(300, 0)
    assert [event[:4] for event in events] == [row[:4] for row in rows]
    assert [event.headers for event in events] == [row[4] or {} for row in rows]


def test_lapped(name: str) -> None:
    """A subscription that drops has the headers of what it gets, also where the ring has gone round."""
    with eventbus.open(name, capacity=8192) as small, small.subscribe("a", overflow="drop") as sub:
        for number in range(500):
            small.send("a", "k", "/p", number, headers={"n": str(number)})
        events = sub.receive_many(500, 0)
        assert sub.lost > 0
        assert [event.headers for event in events] == [{"n": str(event.data)} for event in events]


def test_topics_past_the_table(name: str) -> None:
    """Where records carry their names, headers stand behind them."""
    with eventbus.open(name) as bus:
        bus.send_many([("a", f"k{number}", "/") for number in range(lib.EB_TOPICS)])
        with bus.subscribe("b") as sub:
            for data in (1, b"raw"):
                bus.send("b", "new", "/p", data, headers=TRACE)
                bus.send("b", "new", "/p", data)
                for headers in (TRACE, {}):
                    event = take(sub)
                    assert (event[:4], event.headers) == (("b", "new", "/p", data), headers)


def test_an_event_larger_than_the_buffer(name: str) -> None:
    """Headers of an event that needs a buffer of its own are with it."""
    with eventbus.open(name, capacity=1 << 22) as bus, bus.subscribe("a") as sub:
        for data in ("x" * 900_000, b"x" * 900_000):
            bus.send("a", "k", "/p", data, headers=TRACE)
            event = take(sub)
            assert (event.data, event.headers) == (data, TRACE)


# --- requests, groups ---


@pytest.mark.parametrize("data", [1, b"raw"])
def test_a_request_has_them(bus: Bus, data: Any) -> None:
    """Who answers sees the headers of the question."""
    with serving(bus.subscribe("sum"), lambda request: request.reply(dict(request.headers))) as heard:
        assert bus.request("sum", "add", "/p", data, headers=TRACE, timeout=DEADLINE) == TRACE
        assert bus.request("sum", "add", "/p", data, timeout=DEADLINE) == {}
    assert [isinstance(one, Request) and one._replace(path="/q").headers for one in heard] == [TRACE, {}]


@pytest.mark.parametrize("data", [1, b"raw"])
def test_an_event_that_is_delivered_again(bus: Bus, data: Any) -> None:
    """It has its headers each time, and so has its dead letter, in what it tells and as its own."""
    bus.group("g", "jobs", max_deliveries=2)
    grave = bus.subscribe("eventbus.dead")
    bus.send("jobs", "job", "/p", data, headers=TRACE)
    bus.send("jobs", "job", "/q", data)
    with bus.subscribe("jobs", group="g") as member:
        for headers in (TRACE, {}):
            for deliveries in (1, 2):
                event = take(member)
                assert (event.deliveries, event.headers) == (deliveries, headers)
                member.reject()
        assert member.receive(0) is None
    first, second = take(grave), take(grave)
    assert (first.path, first.headers, first.data["headers"]) == ("/p", TRACE, TRACE)
    assert (second.path, second.headers) == ("/q", {})
    assert "headers" not in second.data
    assert "origin" not in second.data


# --- origin ---


def brought(bus: Bus, *events: tuple[Any, ...]) -> None:
    """Sends events as a bridge does that brought them from the bus "far"."""
    bus._publish(((*event, None, None)[:5] for event in events), 0, origin="far")


def heard(sub: Subscription) -> list[tuple[Any, str]]:
    """Data and origin of all that waits."""
    return [(event.data, event.origin) for event in sub.receive_many(99, 0)]


def test_what_a_bridge_brought(bus: Bus) -> None:
    """It says where it came from, with headers and without; a subscription that is for what was sent here has none."""
    with (
        bus.subscribe("a") as every,
        bus.subscribe("a", _local=True) as local,
        bus.subscribe("a", overflow="drop", _local=True) as dropping,
        bus.subscribe("a", group="g", _local=True) as member,
    ):
        bus.send("a", "k", "/p", 1)
        brought(bus, ("a", "k", "/p", 2, TRACE), ("a", "k", "/p", b"3"))
        bus.send("a", "k", "/p", 4, headers=TRACE)
        assert (local.backlog, dropping.backlog, every.backlog, member.backlog) == (2, 2, 4, 2)
        assert heard(every) == [(1, ""), (2, "far"), (b"3", "far"), (4, "")]
        assert heard(local) == heard(dropping) == [(1, ""), (4, "")]
        assert [take(member).data for _ in range(2)] == [1, 4]
        assert member.receive(0) is None
        assert (local.lost, dropping.lost) == (0, 0)


def test_what_a_bridge_brought_past_the_table(name: str) -> None:
    """The same where records carry their names."""
    with eventbus.open(name) as bus:
        bus.send_many([("a", f"k{number}", "/") for number in range(lib.EB_TOPICS)])
        with bus.subscribe("b") as every, bus.subscribe("b", _local=True) as local:
            brought(bus, ("b", "new", "/p", 1), ("b", "new", "/p", b"2", TRACE))
            bus.send("b", "new", "/p", 3)
            assert (every.backlog, local.backlog) == (3, 1)
            assert heard(every) == [(1, "far"), (b"2", "far"), (3, "")]
            assert heard(local) == [(3, "")]


def test_the_dead_letter_of_what_a_bridge_brought(bus: Bus) -> None:
    """It tells where the event came from, and was itself sent here."""
    bus.group("g", "a", max_deliveries=1)
    grave = bus.subscribe("eventbus.dead", _local=True)
    brought(bus, ("a", "k", "/p", 1))
    with bus.subscribe("a", group="g") as member:
        assert take(member).origin == "far"
        member.reject()
        assert member.receive(0) is None
    letter = take(grave)
    assert (letter.data["origin"], letter.origin) == ("far", "")


# --- damage ---


@pytest.mark.parametrize("bytes_", [b"\xff\xc3\xffv", b"\xffname", b"\xc3\x28", b"\xffn\xffv\xff"])
@pytest.mark.parametrize("topic", [None, INLINE])
def test_an_extension_that_is_none(bus: Bus, bytes_: bytes, topic: int | None) -> None:
    """Bytes that are no texts, or a name without a value, are an error of whoever reads them."""
    handle = bus._open_handle()
    number, names = (handle.topic(b"a", b"k", 0), b"") if topic is None else (topic, b"ak")
    lengths = (number, len(names) // 2, len(names) // 2, len(bytes_), 0, 5)
    with bus.subscribe("a") as sub:
        assert handle.send_batch(struct.pack("=6I", *lengths), 1, names + bytes_ + b"[1,2]", 0) == 0
        with pytest.raises(SegmentError, match="its headers are not what was sent"):
            sub.receive(0)
        bus.send("a", "k", "/p", headers=TRACE)
        assert take(sub).headers == TRACE


def test_an_extension_that_is_too_long_for_a_record(bus: Bus) -> None:
    """C bounds it where Python did not."""
    handle = bus._open_handle()
    length = lib.EB_EXTENSION_LIMIT + 1
    row = struct.pack("=6I", handle.topic(b"a", b"k", 0), 0, 0, length, 0, 5)
    assert handle.send_batch(row, 1, b"x" * length + b"[1,2]", 0) == lib.EB_TOO_LARGE
    assert bus.stats().sent == 0


# --- the command line ---


@pytest.mark.release
def test_send_and_tail(name: str) -> None:
    """What ``send --header`` sends ``tail --json`` shows; of an event that has none it shows none."""
    with eventbus.open(name) as bus, tailing(bus, "--json", "--count", "4") as tail:
        for arguments, stdin in ((("1",), ""), (("-",), "2\n3\n")):
            sent = command("send", name, "a", "k", "/p", *arguments, "--header", "n=v=w", "--header", "e=", stdin=stdin)
            assert sent.returncode == 0
        bus.send("a", "k", "/p", 4)
        code, out, _ = ended(tail)
    assert code == 0
    shown = [json.loads(line) for line in out.splitlines()]
    assert [one["data"] for one in shown] == [1, 2, 3, 4]
    assert [one.get("headers") for one in shown] == [{"n": "v=w", "e": ""}] * 3 + [None]


@pytest.mark.release
@pytest.mark.parametrize("headers", [["n"], ["=v"], ["n=1", "n=2"], ["n=" + "x" * HEADERS_LIMIT]])
def test_send_what_is_no_header(bus: Bus, headers: list[str]) -> None:
    """What is no header, or one too many, is one line on standard error, and nothing is sent."""
    options = [part for header in headers for part in ("--header", header)]
    sent = command("send", bus.name, "a", "k", "/p", "1", *options)
    assert (sent.returncode, sent.stdout, "header" in sent.stderr.splitlines()[-1]) == (1, "", True)
    assert bus.stats().sent == 0
