"""Traces of what is sent and received in calls: which spans there are, how they hang together, what they cost."""

from __future__ import annotations

import gc
import importlib
import pickle
import sys
import threading

import pytest
from opentelemetry import baggage, context, trace

import eventbus
from eventbus import Bus, InvalidError, Subscription, UnavailableError
from eventbus.event import HEADERS_LIMIT
from eventbus.member import Member
from eventbus.observe.opentelemetry import instrument, uninstrument
from harness import DEADLINE, Fork, Line, take
from jobs import join
from tracing import Spans


def current() -> str | None:
    """The identity of the current span."""
    seen = trace.get_current_span().get_span_context()
    return f"{seen.span_id:x}" if seen.is_valid else None


def test_a_span_for_sending_and_one_for_handling(traced: Bus, spans: Spans) -> None:
    """They are of one trace, linked, and say what OpenTelemetry's conventions for messaging ask for."""
    with traced.subscribe("orders") as orders:
        traced.send("orders", "order.new", "/1", 1, headers={"own": "header"})
        event = take(orders)
        assert event.headers["own"] == "header"
        assert "traceparent" in event.headers
        handling = current()
    sent, handled = spans.rows()
    assert (sent["name"], sent["kind"], sent["parent"]) == ("send orders", "PRODUCER", None)
    assert (handled["name"], handled["kind"], handled["parent"]) == ("process orders", "CONSUMER", sent["span"])
    assert handled["span"] == handling
    assert handled["links"] == [sent["span"]]
    assert handled["trace"] == sent["trace"]
    both = {
        "messaging.system": "eventbus",
        "messaging.destination.name": "orders",
        "eventbus.bus": traced.name,
        "eventbus.kind": "order.new",
        "eventbus.path": "/1",
    }
    said = {"messaging.operation.name": "send", "messaging.operation.type": "send"}
    assert sent["attributes"] == both | said
    said = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert handled["attributes"] == both | said | {"messaging.message.id": "1", "eventbus.deliveries": 1}


def test_handling_lasts_until_the_next_is_asked_for(traced: Bus, spans: Spans) -> None:
    """What is done meanwhile is a child of it; with the next, or with the end, it is over, and not the current span."""
    with traced.subscribe("a") as sub:
        for kind in ("first", "second"):
            traced.send("a", kind, "/")
        for _ in range(2):
            take(sub)
            with spans.tracer.start_as_current_span("work"):
                pass
        assert sub.receive(0) is None
        assert current() is None
        rows = spans.rows()
    names = [(one["name"], one["attributes"].get("eventbus.kind")) for one in rows]
    ends = [("work", None), ("process a", "first"), ("work", None), ("process a", "second")]
    assert names == [("send a", "first"), ("send a", "second"), *ends]
    assert [rows[2]["parent"], rows[4]["parent"]] == [rows[3]["span"], rows[5]["span"]]


@pytest.mark.parametrize("grouped", [False, True])
def test_iteration(traced: Bus, spans: Spans, grouped: bool) -> None:
    """Each event of a loop has its span, as long as its turn; a member's says its group."""
    sub = join(traced) if grouped else traced.subscribe("jobs")
    with sub:
        traced.send_many([("jobs", "job", f"/{number}") for number in range(3)])
        seen = []
        for event in sub:
            seen.append(current())
            if event.path == "/2":
                break
    sent, *handled = spans.rows()
    assert [one["span"] for one in handled] == seen
    assert [one["links"] for one in handled] == [[sent["span"]]] * 3
    assert {one["attributes"].get("messaging.consumer.group.name") for one in handled} == {"g" if grouped else None}
    assert sent["attributes"]["messaging.batch.message_count"] == 3
    assert current() is None


def test_several_at_once(traced: Bus, spans: Spans) -> None:
    """They have one span, linked to each sender's, and no sender is its parent."""
    with traced.subscribe("*") as sub:
        traced.send("a", "k", "/")
        traced.send("b", "k", "/")
        assert len(sub.receive_many(9, 0)) == 2
    *sent, handled = spans.rows()
    assert (handled["name"], handled["parent"]) == ("process", None)
    assert handled["links"] == [one["span"] for one in sent]
    assert handled["attributes"]["messaging.batch.message_count"] == 2


def test_within_another_span(traced: Bus, spans: Spans) -> None:
    """Who receives in the middle of something goes on with the trace of that, linked to the sender."""
    with traced.subscribe("a") as sub:
        traced.send("a", "k", "/")
        with spans.tracer.start_as_current_span("page"):
            take(sub)
            sub.receive(0)
    sent, handled, page = spans.rows()
    assert (handled["parent"], handled["links"]) == (page["span"], [sent["span"]])


def test_a_context_that_changed_meanwhile(traced: Bus, spans: Spans) -> None:
    """The end of what is handled takes away no context that became the current one after it."""
    with traced.subscribe("a") as sub:
        traced.send("a", "k", "/")
        take(sub)
        token = context.attach(context.Context({"other": "context"}))
        assert sub.receive(0) is None
        assert context.get_value("other") == "context"
        context.detach(token)
        context.attach(context.Context())


def test_threads_have_their_own(traced: Bus, spans: Spans) -> None:
    """A thread that asks for the next event ends what it handled itself, and no other's; its end is the end of that."""
    with traced.subscribe("a") as sub:
        traced.send_many([("a", "k", "/1"), ("a", "k", "/2")])
        take(sub)
        mine = current()
        thread = threading.Thread(target=take, args=(sub,))
        thread.start()
        thread.join(DEADLINE)
        del thread
        gc.collect()
        assert current() == mine
        assert [one["attributes"].get("eventbus.path") for one in spans.rows()] == [None, "/2"]


def test_baggage(traced: Bus) -> None:
    """It comes along, and whoever handles the event has it."""
    token = context.attach(baggage.set_baggage("customer", "7"))
    with traced.subscribe("a") as sub:
        try:
            traced.send("a", "k", "/")
        finally:
            context.detach(token)
        assert baggage.get_baggage("customer") is None
        assert take(sub).headers["baggage"] == "customer=7"
        assert baggage.get_baggage("customer") == "7"


def test_a_failure(traced: Bus, spans: Spans) -> None:
    """What cannot be sent is an error as ever, and the span says so."""
    with pytest.raises(InvalidError):
        traced.send("a*", "k", "/")
    with pytest.raises(InvalidError, match="each event must be"):
        traced.send_many([("a", "k")])
    with pytest.raises(InvalidError, match="mapping of str to str"):
        traced.send("a", "k", "/", headers=[("a", "b")])  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        traced.request("a", "k", "/", timeout=0)
    rows = spans.rows()
    assert [one["status"] for one in rows] == ["ERROR"] * 4
    assert [one["attributes"]["error.type"] for one in rows] == ["InvalidError"] * 3 + ["UnavailableError"]


def test_headers_that_leave_no_room(traced: Bus) -> None:
    """What fits without traces is sent with them, if need be without its context; what does not is the same error."""
    with traced.subscribe("a") as sub:
        traced.send("a", "k", "/", headers={"h": "x" * (HEADERS_LIMIT - 1)})
        assert [*take(sub).headers] == ["h"]
        with pytest.raises(InvalidError, match=f"{HEADERS_LIMIT + 1} bytes"):
            traced.send("a", "k", "/", headers={"h": "x" * HEADERS_LIMIT})


def test_headers_that_are_passed_on(traced: Bus, spans: Spans) -> None:
    """Sent on with the headers of another event, an event has the context of its own sender."""
    with traced.subscribe("a") as sub:
        traced.send("a", "k", "/", headers={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "x": "y"})
        assert take(sub).headers["x"] == "y"
    sent, handled = spans.rows()
    assert handled["parent"] == sent["span"]


def test_later(traced: Bus, spans: Spans) -> None:
    """What is sent later belongs to the trace of whoever said so."""
    with traced.subscribe("a") as sub:
        traced.send_later("a", "k", "/", delay=0)
        take(sub)
    sent, handled = spans.rows()
    assert (sent["name"], handled["parent"]) == ("send_later a", sent["span"])


def test_a_request(traced: Bus, spans: Spans, fork: Fork) -> None:
    """The span of who asks lasts until the answer; who answers is its child, in another process."""

    def answer(line: Line) -> None:
        with traced.subscribe("prices") as asked:
            line.say()
            take(asked).reply(3)
        line.say(spans.rows())

    child = fork(answer)
    child.hear()
    assert traced.request("prices", "price.of", "/", timeout=DEADLINE) == 3
    (handled,), (asked,) = child.hear(), spans.rows()
    child.result()
    assert (asked["name"], asked["kind"]) == ("request prices", "PRODUCER")
    assert (handled["parent"], handled["trace"]) == (asked["span"], asked["trace"])


def test_subscriptions_that_are_there(bus: Bus, spans: Spans) -> None:
    """Instrumenting a bus counts for those that it has made before, and twice is once."""
    with bus.subscribe("a") as sub:
        instrument(bus, spans.provider)
        instrument(bus, spans.provider)
        bus.send("a", "k", "/")
        take(sub)
    assert [one["name"] for one in spans.rows()] == ["send a", "process a"]


def test_uninstrument(traced: Bus, spans: Spans) -> None:
    """Nothing is left of it: the classes are what they were, what is handled has ended, headers are empty."""
    sub, member = traced.subscribe("a"), join(traced)
    traced.send("a", "k", "/")
    take(sub)
    uninstrument(traced)
    assert (type(traced), type(sub), type(member)) == (Bus, Subscription, Member)
    assert current() is None
    assert len(spans.rows()) == 2
    traced.send("a", "k", "/")
    assert take(sub).headers == {}
    uninstrument(traced)
    assert spans.rows() == []
    sub.close()
    member.close()


def test_a_pickled_bus_is_not_traced(traced: Bus) -> None:
    """Each process says for itself what it traces."""
    with pickle.loads(pickle.dumps(traced)) as other:
        assert type(other) is Bus


def test_what_cannot_be_instrumented(name: str) -> None:
    """A class of one's own, or no bus at all, is an error."""

    class Own(Bus):
        pass

    with Own(name, capacity=65536) as own, pytest.raises(InvalidError, match="of the class Own"):
        instrument(own)
    with pytest.raises(InvalidError, match="of the class str"):
        instrument("bus")  # type: ignore[arg-type]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install without the extra says which one is missing."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "eventbus.observe.spans")
    monkeypatch.delitem(sys.modules, "eventbus.observe.opentelemetry")
    with pytest.raises(UnavailableError, match=r"eventbus\[opentelemetry\]"):
        importlib.import_module("eventbus.observe.opentelemetry")


def test_a_signal_while_a_span_begins(traced: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was received is not lost when a signal handler raises before it is handed out."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with traced.subscribe("a") as sub:
        traced.send("a", "k", "/")
        with monkeypatch.context() as patched:
            patched.setattr("eventbus.observe.traced.sender", interrupt)
            with pytest.raises(KeyboardInterrupt):
                sub.receive(0)
        assert take(sub).sequence == 1


def test_other_buses_pay_nothing(traced: Bus, name: str) -> None:
    """A bus that is not instrumented, beside one that is, is of the class that it was."""
    with eventbus.open(name) as other, other.subscribe("a") as sub:
        assert (type(other), type(sub)) == (Bus, Subscription)
        traced.send("a", "k", "/")
        assert "traceparent" in take(sub).headers
