"""The views of docs/web-servers.md for frameworks of WSGI, as they stand there, in the frameworks themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus
from harness import Fork, Line

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "web-servers.md").read_text()
STREAM = re.compile(r"^```python\n# stream\.py\n(.*?)^```", re.MULTILINE | re.DOTALL)
VIEWS = re.compile(r"^```py\n(.*?)\n\n\n(.*?)^```", re.MULTILINE | re.DOTALL)

Streaming = Callable[[str], Iterator[bytes]]


@pytest.fixture
def stream(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Streaming:
    """The generator of the page, on the bus of the test."""
    found = STREAM.search(PAGE)
    assert found is not None
    monkeypatch.setattr(eventbus, "open", lambda *_, **__: bus)
    names: dict[str, Any] = {}
    exec(found[1], names)
    made: Streaming = names["stream"]
    return made


def view(number: int, **names: Any) -> Any:
    """One of the two views of the page, Django's and Flask's, with what it takes for granted."""
    found = VIEWS.search(PAGE)
    assert found is not None
    exec(found[number], names)
    return names["events"]


def hear(bus: Bus, answer: Iterator[bytes]) -> dict[str, Any]:
    """The id and the data of the next event, which is sent once the answer has begun."""
    assert next(answer) == b"retry: 500\n\n"
    bus.send("orders", "order.created", "/orders/1", {"total": 9})
    lines = next(answer).decode().splitlines()
    return {"id": lines[0].removeprefix("id: "), **json.loads(lines[1].removeprefix("data: "))}


def test_a_view_of_flask(bus: Bus, stream: Streaming) -> None:
    """A page that comes hears what is sent; one that comes again hears what it missed first."""
    flask = pytest.importorskip("flask", reason="flask is not installed: pip install 'eventbus[dev]'")
    app = flask.Flask("shop")
    view(2, app=app, Response=flask.Response, request=flask.request, stream=stream)
    with app.test_client() as client:
        with client.get("/events") as answer:
            assert answer.content_type == "text/event-stream; charset=utf-8"
            heard = hear(bus, answer.iter_encoded())
        assert heard == {"id": f"{bus.identity}-1", "data": {"total": 9}}
        bus.send("orders.eu", "order.created", "/orders/2", "missed")
        with client.get("/events", headers={"Last-Event-ID": heard["id"]}) as again:
            parts = again.iter_encoded()
            assert next(parts) == b"retry: 500\n\n"
            assert f'id: {bus.identity}-2\ndata: {{"data": "missed"}}' in next(parts).decode()
    assert bus.stats().subscribers == ()


def test_a_view_of_django(bus: Bus, stream: Streaming, fork: Fork) -> None:
    """Likewise."""
    pytest.importorskip("django", reason="the extra [channels] is not installed")
    fork(hear_by_django, bus, stream).result()


def hear_by_django(_: Line, bus: Bus, stream: Streaming) -> None:
    """In a process of its own, for which Django is set up."""
    from django.conf import settings
    from django.http import StreamingHttpResponse
    from django.test import RequestFactory

    if not settings.configured:  # by a test before this one
        settings.configure()
    events = view(1, StreamingHttpResponse=StreamingHttpResponse, stream=stream)
    with closing(events(RequestFactory().get("/events"))) as answer:
        assert answer["Content-Type"] == "text/event-stream"
        heard = hear(bus, iter(answer))
    assert heard == {"id": f"{bus.identity}-1", "data": {"total": 9}}
    bus.send("orders.eu", "order.created", "/orders/2", "missed")
    with closing(events(RequestFactory().get("/events", headers={"Last-Event-ID": heard["id"]}))) as again:
        parts = iter(again)
        assert next(parts) == b"retry: 500\n\n"
        assert f'id: {bus.identity}-2\ndata: {{"data": "missed"}}' in next(parts).decode()
    assert bus.stats().subscribers == ()
