"""Metrics for Prometheus: what is shown of buses, read from outside at each scrape."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import eventbus
from eventbus import Bus, InvalidError, UnavailableError
from eventbus.core.native import lib
from eventbus.observe import dashboard
from eventbus.observe.metrics import METRICS
from eventbus.observe.prometheus import BusCollector
from eventbus.testing.recorder import Recorder
from harness import Fork, Line, ring_of
from jobs import join, send

Figures = dict[tuple[str, frozenset[str]], float]

SPECIFIED = {
    "eventbus_events_sent_total": {"bus", "system", "kind"},
    "eventbus_ring_capacity_bytes": {"bus"},
    "eventbus_ring_used_bytes": {"bus"},
    "eventbus_subscriber_backlog_events": {"bus", "subscriber", "pid"},
    "eventbus_subscriber_lost_total": {"bus", "subscriber", "pid"},
    "eventbus_group_backlog_events": {"bus", "group"},
    "eventbus_group_in_hand_events": {"bus", "group"},
    "eventbus_group_redelivered_total": {"bus", "group"},
    "eventbus_group_dead_total": {"bus", "group"},
}
"""The metrics that are promised, and their labels."""


def scraped(collector: Collector) -> Figures:
    """What Prometheus gets: by name and the values of the labels, but that of the bus."""
    families = text_string_to_metric_families(generate_latest(collector).decode())
    samples = [sample for family in families for sample in family.samples]
    found = {
        (one.name, frozenset(value for name, value in one.labels.items() if name != "bus")): one.value
        for one in samples
    }
    assert len(found) == len(samples)
    return found


def figure(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    """What it is found by."""
    return name, frozenset(labels)


def test_figures(eventbus_bus: Bus, eventbus_recorder: Callable[..., Recorder]) -> None:
    """Each promised metric has its name, its labels, and the value that the bus has."""
    eventbus_recorder("jobs.**")
    with join(eventbus_bus, prefetch=2) as member, eventbus_bus.subscribe("none", name="idle") as idle:
        send(eventbus_bus, 5)
        assert len(member.receive_many(2, 0)) == 2
        member.reject()
        assert len(member.receive_many(1, 0)) == 1
        text = generate_latest(BusCollector([eventbus_bus.name])).decode()
        seen = scraped(BusCollector([eventbus_bus.name]))
        pid = str(eventbus_bus.stats().subscribers[0].pid)
        assert not idle.closed
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, labels in SPECIFIED.items():
        samples = families[name.removesuffix("_total")].samples
        assert samples
        assert {frozenset(sample.labels) for sample in samples} == {frozenset(labels)}, name
    assert seen[figure("eventbus_events_sent_total", "jobs", "job.new")] == 5
    assert seen[figure("eventbus_ring_capacity_bytes")] == eventbus_bus.stats().capacity
    assert seen[figure("eventbus_ring_used_bytes")] == eventbus_bus.stats().used
    assert seen[figure("eventbus_subscriber_backlog_events", "eventbus_recorder", pid)] == 5
    assert seen[figure("eventbus_subscriber_backlog_events", "idle", pid)] == 0
    assert seen[figure("eventbus_group_backlog_events", "g")] == 3
    assert seen[figure("eventbus_group_in_hand_events", "g")] == 2
    assert seen[figure("eventbus_group_returned_events", "g")] == 0
    assert seen[figure("eventbus_group_redelivered_total", "g")] == eventbus_bus.stats().groups[0].redelivered > 0
    assert seen[figure("eventbus_group_members", "g")] == 1
    assert seen[figure("eventbus_bus_state", "live")] == 1
    assert seen[figure("eventbus_bus_attached")] == 1


def test_what_is_lost(eventbus_bus: Bus) -> None:
    """A subscriber that is lapped shows how many it has lost."""
    with eventbus_bus.subscribe("a", overflow="drop", name="slow") as slow:
        for _ in range(20):
            eventbus_bus.send("a", "k", "/", b"x" * 100_000)
        assert slow.receive(0) is not None
        lost = [value for (name, _), value in scraped(BusCollector([eventbus_bus.name])).items() if "lost" in name]
        assert lost == [slow.lost]
        assert slow.lost > 0


def test_requests_are_under_their_own_names(eventbus_bus: Bus, fork: Fork) -> None:
    """Who asks is shown under the kind that was asked, and answers under one system whoever they go to."""

    def answer(line: Line) -> None:
        with eventbus_bus.subscribe("prices") as asked:
            line.say()
            for _ in range(2):
                event = asked.receive()
                assert event is not None
                event.reply(1)

    child = fork(answer)
    child.hear()
    with eventbus.open(eventbus_bus.name) as other:
        assert [bus.request("prices", "price.of", "/") for bus in (eventbus_bus, other)] == [1, 1]
    child.result()
    seen = scraped(BusCollector([eventbus_bus.name]))
    assert seen[figure("eventbus_events_sent_total", "prices", "price.of")] == 2
    assert seen[figure("eventbus_events_sent_total", "eventbus.reply", "reply")] == 2


def test_what_stands_in_no_table(eventbus_bus: Bus) -> None:
    """Events whose topic found the table full stand together, under what no event can be sent to."""
    eventbus_bus.send_many([("a", f"k{number}", "/") for number in range(lib.EB_TOPICS + 3)])
    assert scraped(BusCollector([eventbus_bus.name]))[figure("eventbus_events_sent_total", "*")] == 3


def test_two_of_one_name(eventbus_bus: Bus) -> None:
    """Two subscriptions of one name and process are one figure: a scrape with two is refused as a whole."""
    with eventbus_bus.subscribe("a", name="twin") as one, eventbus_bus.subscribe("a", name="twin"):
        eventbus_bus.send("a", "k", "/")
        pid = str(eventbus_bus.stats().subscribers[0].pid)
        seen = scraped(BusCollector([eventbus_bus.name]))
        assert seen[figure("eventbus_subscriber_backlog_events", "twin", pid)] == 2
        assert one.backlog == 1


def test_any_process_tells_the_same(eventbus_bus: Bus, fork: Fork) -> None:
    """Under prefork each child answers for the whole bus, by a collector that was made before it was forked."""
    collector = BusCollector([eventbus_bus.name])

    def tell(line: Line) -> None:
        eventbus_bus.send("a", "k", "/")
        line.say()
        line.hear()
        line.say(generate_latest(collector))
        line.hear()

    with eventbus_bus.subscribe("a"):
        children = [fork(tell) for _ in range(3)]
        for child in children:
            child.hear()
        for child in children:
            child.say()
        told = {child.hear() for child in children}
        assert told == {generate_latest(collector)}
        for child in children:
            child.say()
            child.result()
    assert b'kind="k",system="a"} 3.0' in told.pop()


def test_nobody_attaches(eventbus_bus: Bus) -> None:
    """A collector, at work or not, is none of those who have the bus open; the last of these removes it."""
    collector = BusCollector()
    assert eventbus_bus.name in generate_latest(collector).decode()
    assert eventbus_bus.stats().attached == 1
    eventbus_bus.close()
    assert eventbus_bus.name not in generate_latest(collector).decode()


def test_buses_come_and_go(eventbus_name: str) -> None:
    """A bus is shown from the first scrape on that finds it, and not after it is gone; then as it is anew."""
    collector = BusCollector([eventbus_name])
    assert scraped(collector) == {}
    for sent in (2, 1):
        with eventbus.open(eventbus_name, capacity=65536) as bus:
            bus.send_many([("a", "k", "/")] * sent)
            assert scraped(collector)[figure("eventbus_events_sent_total", "a", "k")] == sent
        assert scraped(collector) == {}


def test_a_bus_that_cannot_be_read(eventbus_name: str, fork: Fork) -> None:
    """What was left by a crash, or is damaged, has its state for its only figure, and spoils no other bus."""

    def die(line: Line) -> None:
        bus = eventbus.open(eventbus_name, capacity=65536)
        line.say(bus.name)
        line.hear()

    child = fork(die)
    child.hear()
    child.kill(signal.SIGKILL)
    child.killed()
    state = {figure("eventbus_bus_state", "abandoned"): 1, figure("eventbus_bus_attached"): 0}
    assert scraped(BusCollector([eventbus_name])) == state
    with eventbus.open(eventbus_name, capacity=65536):
        ring_of(eventbus_name).write_bytes(b"no ring at all")
        assert scraped(BusCollector([eventbus_name])) == {figure("eventbus_bus_state", "damaged"): 1}


def test_names() -> None:
    """A name that no bus can have is an error at once; a text is one name."""
    with pytest.raises(InvalidError, match="no name for a bus"):
        BusCollector(["no/bus"])
    assert scraped(BusCollector("nobody-has-this-name")) == {}


def test_registering_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry is told the names of the metrics, and refuses another collector of them, without a look at buses."""
    monkeypatch.setattr("eventbus.observe.metrics.read", lambda _: pytest.fail("it was read"))
    registry = CollectorRegistry(auto_describe=True)
    registry.register(BusCollector())
    with pytest.raises(ValueError, match="eventbus_events_sent"):
        registry.register(BusCollector())


def test_promtool(eventbus_bus: Bus) -> None:
    """Prometheus's own tool finds nothing to say against the metrics."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool checks the metrics: apt-get install prometheus")
    with join(eventbus_bus), eventbus_bus.subscribe("a"):
        send(eventbus_bus, 1)
        text = generate_latest(BusCollector([eventbus_bus.name]))
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install without the extra says which one is missing."""
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "eventbus.observe.prometheus")
    with pytest.raises(UnavailableError, match=r"eventbus\[prometheus\]"):
        importlib.import_module("eventbus.observe.prometheus")


DOCS = Path(__file__).resolve().parent.parent / "docs"
DASHBOARD = DOCS / "grafana.json"


def test_the_guide_names_all_metrics() -> None:
    """docs/observing.md has a line for each, with its labels, and for no other."""
    rows = re.findall(r"^\| (`eventbus_.*?`) \| (.*?) \|", (DOCS / "observing.md").read_text(), re.MULTILINE)
    told = {(name, labels) for names, labels in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {(metric.name, ", ".join(f"`{label}`" for label in metric.labels)) for metric in METRICS}


def test_the_dashboard_is_made_of_the_metrics() -> None:
    """docs/grafana.json is what ``python -m eventbus.observe.dashboard`` writes; its lines ask for what there is, and
    each metric has a line."""
    assert DASHBOARD.read_text() == dashboard.text()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        re.sub("_bucket$", "", name)
        for panel in panels
        for line in panel["targets"]
        for name in re.findall(r"eventbus_\w+", line["expr"])
    }
    assert asked == {metric.name for metric in METRICS}
    assert SPECIFIED.keys() <= asked
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
