"""What no member of a group can read, and requests and replies that nobody can."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, Event, RemoteError, SegmentError, Subscription, Worker
from harness import DEADLINE, Fork, Line, arm, take, until

bad = orjson.Fragment(b"oops")


@pytest.mark.parametrize("prefetch", [1, 3, 64])
@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_group_buries_it_at_once(bus: Bus, prefetch: int, limit: int) -> None:
    """The member that meets it gets one error, a dead letter has its bytes, and the others are handled once."""
    bus.group("g", "a", max_deliveries=3)
    with bus.subscribe("eventbus.dead") as grave, bus.subscribe("a", group="g", prefetch=prefetch) as member:
        bus.send_many([("a", "k", f"/{n}", bad if n in (0, 5, 9) else n) for n in range(10)])
        came: list[Any] = []
        while len(came) < 10:
            try:
                events = member.receive_many(limit, 0) if limit else [take(member)]
                assert events
                came += [event.data for event in events]
            except SegmentError as error:
                came.append(error.details["path"])
        assert came == ["/0", 1, 2, 3, 4, "/5", 6, 7, 8, "/9"]
        assert member.receive(0) is None
        letters = [event.data for event in grave.receive_many(9, 0)]
        (group,) = bus.stats().groups
        assert (group.dead, group.redelivered, group.backlog) == (3, 0, 0)
    assert [(one["path"], one["sequence"], one["deliveries"]) for one in letters] == [
        ("/0", 1, 1),
        ("/5", 6, 1),
        ("/9", 10, 1),
    ]
    assert all(base64.b64decode(one["data"]["base64"]) == b"oops" for one in letters)
    assert all("is no JSON" in one["error"] for one in letters)


def test_what_was_in_hand_before_it_is_done_by_then(bus: Bus) -> None:
    """Whoever leaves by the error has acknowledged what came before it, and gives back what comes after it."""
    member = bus.subscribe("a", group="g", prefetch=64)
    bus.send_many([("a", "k", "/1", 1), ("a", "k", "/2", bad), ("a", "k", "/3", 3)])
    assert take(member).path == "/1"
    with pytest.raises(SegmentError), member:
        member.receive(0)
    with bus.subscribe("a", group="g") as other:
        assert [(event.path, event.deliveries) for event in other.receive_many(9, 0)] == [("/3", 1)]


def test_an_exception_while_it_is_buried(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a signal handler raises before the burial: the event is the next one still, and its error comes."""
    member = bus.subscribe("a", group="g", prefetch=64)
    bus.send_many([("a", "k", "/1", bad), ("a", "k", "/2", 2)])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(member), "_send_dead", interrupted)
        with pytest.raises(KeyboardInterrupt):
            member.receive(0)
    with pytest.raises(SegmentError):
        member.receive(0)
    assert take(member).path == "/2"
    assert bus.stats().groups[0].dead == 1


def die(line: Line, name: str, at: str) -> None:
    """A member that is killed as it buries what it cannot read."""
    with eventbus.open(name).subscribe("a", group="g", prefetch=64) as member:
        take(member)
        with pytest.raises(SegmentError):
            member.receive(DEADLINE)
        arm(at)
        member.receive(DEADLINE)


@pytest.mark.parametrize(
    ("at", "errors", "letters"),
    [
        ("publish_header", ["/bad"], [2]),  # no letter yet
        ("publish_unlocked", ["/bad"], [1, 2]),  # the letter is sent, and it is not buried
        ("dead_counted", [], [1]),
    ],
)
def test_a_member_that_dies_burying_it(fork: Fork, bus: Bus, at: str, errors: list[str], letters: list[int]) -> None:
    """Killed before the burial, another member gets the error, with one delivery more: nothing stops or is lost."""
    grave = bus.subscribe("eventbus.dead")
    bus.group("g", "a")
    bus.send_many([("a", "k", "/1", 1), ("a", "k", "/first", bad), ("a", "k", "/bad", bad), ("a", "k", "/4", 4)])
    fork(die, bus.name, at).killed()
    assert take(grave).path == "/first"
    raised = []
    with bus.subscribe("a", group="g") as member:
        try:
            event = member.receive(DEADLINE)
        except SegmentError as error:
            raised.append(error.details["path"])
            event = member.receive(DEADLINE)
        assert event is not None
        assert event.path == "/4"
    assert raised == errors
    assert [(one.data["path"], one.data["deliveries"]) for one in grave.receive_many(9, 0)] == [
        ("/bad", deliveries) for deliveries in letters
    ]


def work(line: Line, bus: Bus, done: Path) -> None:
    """A worker whose handler writes down what it handles."""
    worker = Worker(bus, group="g", prefetch=4)

    @worker.on("a")
    def note(event: Event) -> None:
        with done.open("a") as file:
            file.write(f"{os.getpid()} {event.path}\n")

    line.say()
    worker.run()


def test_a_worker_goes_on(fork: Fork, bus: Bus, tmp_path: Path) -> None:
    """Its process does not end with what it cannot read."""
    bus.group("g.note", "a")
    bus.send_many([("a", "k", f"/{n}", bad if n == 2 else n) for n in range(6)])
    parent = fork(work, bus, tmp_path / "done")
    parent.hear()
    until(lambda: bus.stats().subscribers, "a process")
    bus.shutdown()
    parent.result()
    lines = [line.split() for line in (tmp_path / "done").read_text().splitlines()]
    assert [path for _, path in lines] == ["/0", "/1", "/3", "/4", "/5"]
    assert len({pid for pid, _ in lines}) == 1


# --- requests ---


def serve(sub: Subscription, errors: list[Any]) -> None:
    """Replies with what was asked, as it is, until the end."""
    while True:
        try:
            event = sub.receive()
        except SegmentError as error:
            errors.append(error.details["path"])
            continue
        if event is None:
            return
        event.reply(orjson.Fragment(event.data))


@pytest.mark.parametrize("group", [None, "g"])
def test_requests_and_replies(bus: Bus, group: str | None) -> None:
    """Who asks with a bad text, or is answered with one, gets an error at once; the next one is answered."""
    errors: list[Any] = []
    sub = bus.subscribe("ask", group=group)
    thread = threading.Thread(target=serve, args=(sub, errors))
    thread.start()
    try:
        with pytest.raises(RemoteError, match=r"'ask' 'k' '/1' failed .* cannot be read") as caught:
            bus.request("ask", "k", "/1", bad, timeout=DEADLINE)
        assert caught.value.details["type"] == "SegmentError"
        with pytest.raises(SegmentError, match="cannot be read"):
            bus.request("ask", "k", "/2", "oops", timeout=DEADLINE)
        assert bus.request("ask", "k", "/3", "[1]", timeout=DEADLINE) == [1]
    finally:
        sub.close()
        thread.join(DEADLINE)
    assert errors == ["/1"]


def test_an_answer_to_somebody_else(bus: Bus) -> None:
    """A reply that cannot be read is an error for whom it is meant for, and nothing to others who wait."""
    sub = bus.subscribe("ask")
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(bus.request("ask", "k", "/", timeout=DEADLINE))
        except SegmentError as error:
            answers.append(type(error))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    first, second = (event for _ in range(2) if (event := sub.receive(DEADLINE)) is not None)
    first.reply(bad)
    until(lambda: answers, "the error")
    second.reply("good")
    for asker in askers:
        asker.join(DEADLINE)
    assert answers == [SegmentError, "good"]


def test_who_may_only_listen_tells_nobody(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A subscriber that cannot answer gets the error all the same, and the log says why nobody was told."""
    with eventbus.open(bus.name, role="subscriber") as reader, reader.subscribe("ask") as sub:
        with pytest.raises(eventbus.UnavailableError):
            bus.request("ask", "k", "/", bad, timeout=0)
        bus.send("ask", "k", "/next")
        with pytest.raises(SegmentError):
            sub.receive(0)
        assert take(sub).path == "/next"
    assert ["cannot be told" in record.message for record in caplog.records] == [True]
