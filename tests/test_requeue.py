"""``requeue``: dead letters of the ring are sent again, each once, and what cannot be sent is told."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

import eventbus
from eventbus import Bus, Event, Subscription, Worker
from eventbus.cli import app as cli
from eventbus.cli import graveyard
from eventbus.cli.graveyard import MARK
from eventbus.cli.requeue import moment
from eventbus.core.inspection import list_names
from eventbus.errors import InvalidError
from eventbus.letters import identity_of, letter_of, original_of
from graves import again, bury, die, requeue
from harness import Fork, take, until
from jobs import join
from pools import running

Capture = pytest.CaptureFixture[str]
SENT = "eventbus: {} dead letters were sent again, {} skipped{}\n"


@pytest.fixture
def heard(bus: Bus) -> Subscription:
    """What comes to the system in which events die; it may lose some, so nobody is warned of it."""
    return bus.subscribe("jobs", overflow="drop")


DATA = [1, None, "text", b"\x00\xff", b"", {"base64": "AP8="}, {"base64": 7}, [{"a": 1.5}]]


def test_it_comes_as_it_was(bus: Bus, capsys: Capture) -> None:
    """System, kind, path, data and headers are those that were sent, raw bytes too and what only looks like them."""
    died = die(bus, *DATA, trace="7")
    with bus.subscribe("**") as everything:
        assert requeue(bus) == 0
        came = everything.receive_many(99, 0)
    assert capsys.readouterr() == (
        "",
        "eventbus: they are heard by others too: the subscriber "
        f"'**@{os.getpid()}' of process {os.getpid()}\n" + SENT.format(8, 0, ""),
    )
    assert [event[:4] for event in came] == [event[:4] for event in died]
    assert [type(event.data) for event in came] == [type(data) for data in DATA]
    assert [event.headers for event in came] == [{"trace": "7", MARK: identity_of(event)} for event in died]


def test_once_for_each_death(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """The second time nothing is sent; what dies again is sent again; what comes of it later too, and never twice."""
    die(bus, 0, 1)
    heard.receive_many(9, 0)
    with join(bus) as member:
        for _ in range(3):
            assert requeue(bus) == requeue(bus) == 0
            assert again(heard) == [0, 1]
            assert requeue(bus, "--dry-run") == 0
            bury(member, 2)
    said = capsys.readouterr().err
    assert SENT.format(0, 6, ": 6 already sent again") in said
    assert said.count("eventbus: 2 dead letters were sent again") == 3


def test_what_a_handler_hands_on_is_its_own(bus: Bus, heard: Subscription) -> None:
    """A handler that sends on the headers that it got hides no letter of what it sent."""
    die(bus, 0)
    with join(bus) as member:
        requeue(bus)
        bus.send("jobs", "job.next", "/next", 1, headers=dict(take(member).headers))
        bury(member, 1)
    heard.receive_many(9, 0)
    assert requeue(bus) == 0
    assert again(heard) == [1]


def test_of_a_worker(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """What a handler failed on is handled once the fault is mended."""
    worker = Worker(bus, max_deliveries=1)
    grave = bus.subscribe("eventbus.dead")

    @worker.on("jobs")
    def handle(event: Event) -> None:
        if MARK not in event.headers:
            raise ConnectionError("the database is away")
        bus.send("done", "handled", event.path, event.data)

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send_many([("jobs", "job", f"/{number}", number) for number in range(3)])
        assert all("the database is away" in take(grave).data["traceback"] for _ in range(3))
        assert requeue(bus) == 0
        assert [take(done).data for _ in range(3)] == [0, 1, 2]


def test_only_of_a_group(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """--group leaves the letters of others where they are."""
    with bus.subscribe("jobs", group="h") as other:
        die(bus, 0)
        other.receive(0)
    die(bus, 1)
    with bus.subscribe("jobs", group="h") as other:
        bury(other, 1)
    heard.receive_many(9, 0)
    bus.remove_group("g")
    assert requeue(bus, "--group", "h") == 0
    assert again(heard) == [1]
    assert capsys.readouterr().err == SENT.format(1, 2, ": 2 not asked for")


def test_what_died_in_two_groups_is_sent_once(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """Both groups hear it, so neither is named as somebody else who does."""
    with bus.subscribe("jobs", group="h") as other:
        died = die(bus, 0)
        assert bury(other, 1) == died
    heard.receive_many(9, 0)
    assert requeue(bus) == 0
    assert again(heard) == [0]
    assert requeue(bus, "--group", "h") == 0
    assert capsys.readouterr().err == (
        SENT.format(1, 1, ": 1 already sent again") + SENT.format(0, 2, ": 1 already sent again, 1 not asked for")
    )


def test_a_dry_run(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """--dry-run writes what would be sent as ``tail`` writes events, and sends nothing."""
    die(bus, {"a": 1}, b"\xff")
    heard.receive_many(9, 0)
    sent = bus.stats().sent
    assert requeue(bus, "--dry-run") == 0
    out, errors = capsys.readouterr()
    assert [line.split(" ", 2)[2] for line in out.splitlines()] == [
        'jobs job.new /0 {"a": 1}',
        "jobs job.new /1 b'\\xff'",
    ]
    assert errors == "eventbus: 2 dead letters would be sent again, 0 skipped\n"
    assert requeue(bus, "--dry-run", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["sequence"], line.get("data"), line.get("base64")) for line in lines] == [
        (1, {"a": 1}, None),
        (2, None, "/w=="),
    ]
    assert bus.stats().sent == sent


def test_no_dead_letters(bus: Bus, capsys: Capture) -> None:
    """Nothing to send is no error."""
    bus.send("jobs", "job.new", "/")
    assert requeue(bus) == 0
    assert capsys.readouterr().err == SENT.format(0, 0, "")


def test_where_it_came_from(bus: Bus, heard: Subscription) -> None:
    """What a bridge brought comes again as from there, in its place between the others."""
    with join(bus) as member:
        for number, origin in enumerate(("", "far", "far", "near", "")):
            bus._bring(origin, [("jobs", "job.new", "/", number)], None)
        bury(member, 5)
    heard.receive_many(9, 0)
    assert requeue(bus) == 0
    assert [(event.data, event.origin) for event in heard.receive_many(9, 0)] == [
        *enumerate(("", "far", "far", "near", ""))
    ]


# --- who hears it ---


def test_others_who_hear_it_are_named(bus: Bus, capsys: Capture) -> None:
    """Groups in which it did not die, and lossless subscribers; not who hears something else, or may lose events."""
    die(bus, 0)
    bus.group("h", "jobs.**", "*.new")
    bus.group("elsewhere", ["users", "orders"])
    bus.group("other kinds", "jobs", "job.old")
    with bus.subscribe(["jobs", "users"], name="audit"), bus.subscribe("**", overflow="drop"):
        assert requeue(bus, "--dry-run") == requeue(bus) == 0
    line = f"they are heard by others too: the group 'h', the subscriber 'audit' of process {os.getpid()}\n"
    assert capsys.readouterr().err.count(line) == 2


def test_a_group_that_is_gone_is_named(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """Who expects its group to get it is told that there is none; it is sent all the same."""
    die(bus, 0)
    heard.receive_many(9, 0)
    bus.remove_group("g")
    assert requeue(bus) == 0
    assert again(heard) == [0]
    assert "eventbus: there is no group 'g' on the bus any more: it does not get what died in it\n" in (
        capsys.readouterr().err
    )


# --- since ---

NOW = 1_800_000_000_123_456_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0s", NOW),
        ("30s", NOW - 30 * 10**9),
        ("10m", NOW - 600 * 10**9),
        ("2h", NOW - 7200 * 10**9),
        ("1d", NOW - 86400 * 10**9),
        ("2w", NOW - 14 * 86400 * 10**9),
        ("2026-11-26T14:00:00Z", 1_795_701_600 * 10**9),
        ("2026-11-26T14:00:00.000001+00:00", 1_795_701_600 * 10**9 + 1000),
        ("2026-11-26T16:30:00+02:30", 1_795_701_600 * 10**9),
        ("2026-11-26T15:00", 1_795_701_600 * 10**9),
        ("2026-11-26", 1_795_647_600 * 10**9),
    ],
)
def test_since_when(text: str, nanoseconds: int, zone_of_berlin: None) -> None:
    """A time with its zone, a local one, a day, or an age."""
    assert moment(text, NOW) == nanoseconds


@pytest.fixture
def zone_of_berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An hour east of Greenwich, without a file of zones."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "10", "10y", "-10m", "1.5h", "2026-13-01", "0001-01-01", "99999999999w"]
)
def test_what_is_no_moment(text: str, name: str, capsys: Capture) -> None:
    """Wrong usage, in one line, before anything is opened."""
    with pytest.raises(typer.BadParameter):
        moment(text, NOW)
    assert cli.run(["requeue", name, f"--since={text}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- what cannot be sent ---

LETTER = letter_of(Event("jobs", "job.new", "/9", 9, 9, 9, 9), "g")


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (None, "no letter"),
        ([LETTER], "no letter"),
        ({**LETTER, "system": None}, "its system is None"),
        ({**LETTER, "group": 1}, "its group is 1"),
        ({**LETTER, "sequence": "9"}, "its sequence is '9'"),
        ({**LETTER, "time": True}, "its time is True"),
        ({**LETTER, "headers": ["a"]}, "its headers"),
        ({**LETTER, "origin": 7}, "its origin 7"),
        ({**LETTER, "error": "its text is no JSON"}, "could not be read: its text is no JSON"),
        ({key: LETTER[key] for key in LETTER if key != "data"}, "without the data"),
        ({**LETTER, "data": {"base64": "A"}}, "base64"),
        ({**LETTER, "data": {"base64": 7}}, "base64"),
    ],
)
def test_what_is_no_letter(letter: Any, why: str) -> None:
    """What lacks anything that the event had makes no event."""
    with pytest.raises(InvalidError, match=re.escape(why)):
        original_of(letter)


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        ("hello", "it is no letter of a member"),
        ({**LETTER, "system": "jobs.*"}, "system 'jobs.*' must not contain"),
        ({**LETTER, "path": ""}, "path must not be empty"),
        ({**LETTER, "headers": {"a": 1}}, "the header 'a' must be a str"),
        ({**LETTER, "headers": {"a": "x" * 4090}}, "the limit is 4096"),
    ],
)
def test_one_of_many_cannot_be_sent(bus: Bus, heard: Subscription, letter: Any, why: str, capsys: Capture) -> None:
    """It is told with its sequence, the others are sent, and the exit code says that there was one."""
    die(bus, 0)
    bus.send("eventbus.dead", "exhausted", "/", letter)
    die(bus, 1)
    heard.receive_many(9, 0)
    assert requeue(bus) == 1
    assert again(heard) == [0, 1]
    line, last = capsys.readouterr().err.splitlines()
    assert line.startswith("eventbus: dead letter 3: ")
    assert why in line
    assert last + "\n" == SENT.format(2, 1, ": 1 cannot be sent")


def test_what_could_not_be_read(bus: Bus, heard: Subscription, capsys: Capture) -> None:
    """An event that was no JSON, a letter that is none, and one that was too large with its data: each is told."""
    with join(bus) as member:
        bus.send("jobs", "job.new", "/", orjson.Fragment(b"oops"))
        with pytest.raises(eventbus.SegmentError):
            member.receive(0)
    bus.send("eventbus.dead", "exhausted", "/", orjson.Fragment(b"oops"))
    die(bus, "x" * (bus.stats().capacity // 4 - 100))
    die(bus, 3)
    heard.close()
    with bus.subscribe("jobs", overflow="drop") as heard:
        assert requeue(bus) == 1
        assert again(heard) == [3]
    *lines, last = capsys.readouterr().err.splitlines()
    assert [re.sub("dead letter [0-9]+: ", "", line)[:53] for line in lines] == [
        "eventbus: its event could not be read: its text is no",
        "eventbus: the event 3 'eventbus.dead' 'exhausted' '/'",
        "eventbus: it is without the data of its event, with w",
    ]
    assert last + "\n" == SENT.format(1, 3, ": 3 cannot be sent")


def test_the_policy_holds(
    bus: Bus, heard: Subscription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Whoever may read dead letters and send what died needs no more; what may not be sent is told."""
    policy = tmp_path / "policy.toml"
    rule = '[[rule]]\neffect = "allow"\nactions = ["{}"]\nresources = ["{}"]\n'
    monkeypatch.setenv("EVENTBUS_POLICY", str(policy))
    die(bus, 0)
    heard.receive_many(9, 0)
    policy.write_text('default = "deny"\n')
    assert requeue(bus) == 1
    policy.write_text(policy.read_text() + rule.format("events.subscribe", "eventbus.dead"))
    assert requeue(bus) == 1
    assert again(heard) == []
    first, second, last = capsys.readouterr().err.splitlines()
    assert "eventbus.dead" in first
    assert second.startswith("eventbus: dead letter 2: ")
    assert "jobs" in second
    assert last + "\n" == SENT.format(0, 1, ": 1 cannot be sent")
    policy.write_text(policy.read_text() + rule.format("events.send", "jobs"))
    assert requeue(bus) == 0
    assert again(heard) == [0]


def test_the_ring_goes_on_while_it_is_read(bus: Bus, capsys: Capture) -> None:
    """What it lost meanwhile is counted and told: there may have been letters among it."""
    die(bus, 0)
    said: list[str] = []
    with bus.subscribe("eventbus.dead", overflow="drop", start="oldest") as grave, bus.subscribe("a", overflow="drop"):
        bus.remove_group("g")
        for _ in range(2000):
            bus.send("a", "b", "/", "x" * 100)
        found = [*graveyard.in_ring(grave, bus.stats().sent, graveyard.Tally(said.append))]
        assert found == []
        assert said == [f"lost {grave.lost} events: the ring went on while dead letters were read"]
        assert grave.lost >= 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "BUS"), (["shop", "--json"], "--json"), (["shop", "--timeout", "-1"], "--timeout"), (["shop", "g"], "g")],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: Capture) -> None:
    """One line that names what is wrong, and exit code 2."""
    assert cli.run(["requeue", *arguments]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1


def test_no_such_bus(name: str, capsys: Capture) -> None:
    """A bus is not made for it: it would have no letters, and nobody to hear them."""
    assert cli.run(["requeue", name]) == 1
    assert capsys.readouterr().err.startswith(f"eventbus: there is no bus named {name!r}")
    assert name not in list_names()
