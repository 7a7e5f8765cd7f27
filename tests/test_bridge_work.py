"""How a queue names what is put into it, and what of that is believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventbus import InvalidError
from eventbus.bridge.config import from_dict
from eventbus.bridge.link import Arrived, LinkError, block
from eventbus.bridge.messages import Stamp, headers_of, payload_of
from eventbus.bridge.work import DELIVERIES, MESSAGE_ID, Work, job_of, subject_of
from eventbus.event import Event, loads

STAMP = Stamp("0" * 32, 1, "h1")


def arrived(event: Event, **more: str) -> Arrived:
    """A message of an event in the queue ``q``, as the servers give it out."""
    headers = headers_of(event, STAMP) | {name.replace("_", "-"): value for name, value in more.items()}
    subject = subject_of("main", "q", "h1", event.system, event.kind)
    _, _, rest = block(subject, b"", headers).partition(b"\r\n")
    return Arrived(subject, "$JS.ACK", rest.removesuffix(b"\r\n"), payload_of(event))


@pytest.mark.parametrize("system", ["jobs", "jobs.a-b_c", "jobs.é.x"])
@pytest.mark.parametrize("data", [None, {"a": [1]}, b"\0\xff"])
def test_what_goes_in_comes_out(system: str, data: object) -> None:
    """Names, path, headers and data are as they were; the subject is that of the queue."""
    event = Event(system, "made.new", "/a b", data, 7, 8, 9, headers={"x": "ü"})
    raw = arrived(event)
    assert raw.subject.startswith("ebq.main.q.h1.jobs")
    job = job_of(raw, "main", "q")
    assert job.message.event == (system, "made.new", "/a b", data, {"x": "ü"}, 8, 9)
    assert (job.message.origin, job.carried, job.identity) == ("h1", 0, "")


def test_a_job_that_goes_on() -> None:
    """Given to another host after deliveries for nothing it is a message of its own, with their number."""
    event = Event("jobs", "new", "/", 1, 7, 8, 9)
    job = job_of(arrived(event, **{MESSAGE_ID: "h1/0/7", DELIVERIES: "2"}), "main", "q")
    subject, payload, headers = job.again(3)
    assert (subject, payload) == (job.raw.subject, job.raw.payload)
    assert (headers[MESSAGE_ID], headers[DELIVERIES]) == ("h1/0/7/3", "3")
    assert {name: headers[name] for name in headers_of(event, STAMP)} == headers_of(event, STAMP)


@pytest.mark.parametrize("carried", ["-1", "x", "", "٣", "1" * 10])
def test_deliveries_that_are_none(carried: str) -> None:
    """A count that no bridge wrote makes the message foreign."""
    with pytest.raises(InvalidError, match=DELIVERIES):
        job_of(arrived(Event("jobs", "new", "/", 1, 7, 8, 9), **{DELIVERIES: carried}), "main", "q")


class Recorder:
    """A connection that notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def inbox(self) -> str:
        """Where answers come."""
        return "_INBOX.x"

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        """A question."""
        assert (subject, reply) == ("$JS.API.CONSUMER.MSG.NEXT.EBQ-main-q.hosts", "_INBOX.x")
        self.asked.append(loads(payload)["batch"])


def test_questions_end() -> None:
    """What did not come in time is to be asked for anew; signs of life change nothing; a refusal is an end."""

    async def ask() -> None:
        link: Any = Recorder()
        config = from_dict(
            {"bus": "b", "nats": {"servers": ["nats://h"]}, "queue": [{"name": "q", "systems": ["jobs"]}]}, "the test"
        )
        work = Work(link, config, config.queues[0])
        assert work.came() == []
        await work.ask(3)
        message = arrived(Event("jobs", "new", "/", 1, 7, 8, 9))
        work.receive(message)
        assert (work.asked, work.came(), work.came()) == (2, [message], [])
        for status, left in ((b" 100 Idle Heartbeat", 2), (b" 408 Request Timeout\r\nNats-Pending-Messages: 1", 1)):
            work.receive(message._replace(reply="", headers=b"NATS/1.0" + status + b"\r\n\r\n"))
            assert (work.asked, work.came()) == (left, [])
        work.receive(message._replace(reply="", headers=b"NATS/1.0 409 Consumer Deleted\r\n\r\n"))
        with pytest.raises(LinkError, match="gives nothing: Consumer Deleted"):
            work.came()

    asyncio.run(ask())
