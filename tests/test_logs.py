"""Logs over a bus: the records of all processes come to one, whole, and none is lost in silence."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, InvalidError
from eventbus.observe.logs import BusHandler, BusListener
from eventbus.testing.recorder import Recorder
from harness import DEADLINE, Fork, Line, until
from keeping import Kept


@contextlib.contextmanager
def logger_to(handler: logging.Handler, name: str = "test.app") -> Iterator[logging.Logger]:
    """A logger whose records all go to the handler, and nowhere else."""
    logger = logging.getLogger(name)
    before = logger.level, logger.propagate
    logger.setLevel(1)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def log_some(line: Line, bus: Bus, number: int, count: int) -> None:
    """A process that logs."""
    with logger_to(BusHandler(bus)) as logger:
        for text in range(count):
            logger.info("%d %d", number, text)


def log_all(logger: logging.Logger, texts: list[str]) -> None:
    """One after the other."""
    for text in texts:
        logger.info(text)


SPAWNED = """
import logging, sys
import eventbus
from eventbus.observe.logs import BusHandler
with eventbus.open(sys.argv[1]) as bus:
    logging.basicConfig(handlers=[BusHandler(bus)], level="INFO")
    logging.info("spawned")
"""


def test_all_processes_to_one(eventbus_bus: Bus, fork: Fork) -> None:
    """What forked processes log is handled in the one that listens: every record once, of each process in its order,
    all that was logged before ``stop``."""
    kept, count = Kept(), 300
    with BusListener(eventbus_bus, kept):
        children = [fork(log_some, eventbus_bus, number, count) for number in range(3)]
        for child in children:
            child.result()
    for number, child in enumerate(children):
        mine = [record for record in kept.records if record.process == child.pid]
        assert [record.getMessage() for record in mine] == [f"{number} {text}" for text in range(count)]
    assert len(kept.records) == 3 * count


@pytest.mark.release
def test_a_process_that_shares_nothing(eventbus_bus: Bus) -> None:
    """One that was spawned, or started by hand, logs by the name of the bus."""
    kept = Kept()
    with BusListener(eventbus_bus, kept):
        subprocess.run([sys.executable, "-c", SPAWNED, eventbus_bus.name], check=True, timeout=DEADLINE)
    assert kept.texts() == ["spawned"]
    assert kept.records[0].process != os.getpid()


def test_a_record_is_whole(eventbus_bus: Bus) -> None:
    """Level, place, process, thread, exception, stack and what is beside it come along; the original stays whole."""
    kept, here = Kept(), Kept()
    with BusListener(eventbus_bus, kept), logger_to(BusHandler(eventbus_bus)) as logger:
        logger.addHandler(here)
        try:
            raise ValueError("no such customer")
        except ValueError:
            logger.error("failed: %s", "x", exc_info=True, stack_info=True, extra={"customer": {"id": 7}, "odd": {1j}})
        logger.removeHandler(here)
    (record,), (original,) = kept.records, here.records
    same = ("name", "levelno", "levelname", "pathname", "lineno", "funcName", "created", "process", "threadName")
    assert [getattr(record, name) for name in same] == [getattr(original, name) for name in same]
    assert record.getMessage() == "failed: x"
    text = logging.Formatter().format(record)
    assert text == logging.Formatter().format(original)
    assert "no such customer" in text
    assert "test_a_record_is_whole" in text
    assert vars(record)["customer"] == {"id": 7}
    assert vars(record)["odd"] == "{1j}"
    assert original.args == ("x",)
    assert original.exc_info is not None


def test_events(eventbus_bus: Bus, eventbus_recorder: Callable[..., Recorder]) -> None:
    """The kind of an event is the level, its path the logger, so that one can subscribe to what one wants."""
    errors, rest = eventbus_recorder("logs", "error"), eventbus_recorder("logs", ["info", "level15"])
    with logger_to(BusHandler(eventbus_bus)) as logger:
        logger.error("one")
        logger.info("two")
        logger.log(15, "three")
    assert [(event.path, event.data["msg"]) for event in errors.events] == [("test.app", "one")]
    assert [(event.kind, event.data["msg"]) for event in rest.events] == [("info", "two"), ("level15", "three")]


def test_another_system(eventbus_bus: Bus) -> None:
    """A system of one's own, which a listener may hear by a pattern; what cannot be one is an error at once."""
    kept = Kept()
    with BusListener(eventbus_bus, kept, system="app.**"), logger_to(BusHandler(eventbus_bus, "app.logs")) as logger:
        logger.info("heard")
        eventbus_bus.send("logs", "info", "/", "not heard")
    assert kept.texts() == ["heard"]
    with pytest.raises(InvalidError, match="pattern"):
        BusHandler(eventbus_bus, "app.*")


def test_levels(eventbus_bus: Bus) -> None:
    """A handler has the records of its level, if that is asked for; else all, as QueueListener does it."""
    every, high = Kept(), Kept()
    high.setLevel(logging.ERROR)
    for respected, texts in ((True, ["b"]), (False, ["b", "a", "b"])):
        with (
            BusListener(eventbus_bus, every, high, respect_handler_level=respected),
            logger_to(BusHandler(eventbus_bus)) as logger,
        ):
            logger.info("a")
            logger.error("b")
        assert high.texts() == texts
    assert every.texts() == ["a", "b"] * 2


def test_filters(eventbus_bus: Bus) -> None:
    """A handler's own level and filters hold as ever."""
    kept, handler = Kept(), BusHandler(eventbus_bus)
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    with BusListener(eventbus_bus, kept), logger_to(handler) as logger:
        logger.info("low")
        logger.error("secret")
        logger.error("said")
    assert kept.texts() == ["said"]


def test_what_is_no_text(eventbus_bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that UTF-8 has not arrives with escapes; a message that cannot be made is told, and counted."""
    kept, handler = Kept(), BusHandler(eventbus_bus)
    with BusListener(eventbus_bus, kept), logger_to(handler) as logger:
        logger.info("odd \udc80")
        logger.info("%d", "no number")
    assert kept.texts() == ["odd \\udc80"]
    assert handler.unsent == 1
    assert "no number" in capsys.readouterr().err


def test_a_closed_bus(eventbus_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged after the end of the bus goes to standard error, and the caller goes on."""
    bus = eventbus.open(eventbus_name, capacity=65536)
    handler = BusHandler(bus)
    with logger_to(handler) as logger:
        logger.info("before")
        bus.shutdown()
        logger.info("while it is shut down")
        bus.close()
        logger.info("after")
    err = capsys.readouterr().err
    assert handler.unsent == 2
    assert [text in err for text in ("'before'", "'while it is shut down'", "'after'")] == [False, True, True]


def test_a_full_ring(eventbus_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that logs waits for room as long as the bus does; then the record is told, and counted, and not lost in
    silence."""
    with (
        eventbus.open(eventbus_name, capacity=65536, send_timeout=0.01) as bus,
        bus.subscribe("logs"),
        logger_to(handler := BusHandler(bus)) as logger,
    ):
        count = 0
        while not handler.unsent:
            logger.info("record %d %s", count, "x" * 1000)
            count += 1
        assert bus.stats().sent == count - 1
        assert f"'record %d %s'\nArguments: ({count - 1}, " in capsys.readouterr().err


def test_waiting_for_room(eventbus_name: str) -> None:
    """Who logs more than fits waits for the listener, and no record is lost."""
    release, kept = threading.Event(), Kept()
    kept.addFilter(lambda _: release.wait(DEADLINE))
    with eventbus.open(eventbus_name, capacity=65536, send_timeout=None) as bus:
        with BusListener(bus, kept), logger_to(BusHandler(bus)) as logger:
            texts = [f"{number} {'x' * 1000}" for number in range(200)]
            thread = threading.Thread(target=log_all, args=(logger, texts))
            thread.start()
            until(lambda: bus.stats().subscribers[0].backlog > 10, "a backlog")
            release.set()
            thread.join(DEADLINE)
        assert kept.texts() == texts


def test_a_signal_handler_that_logs(eventbus_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it logs in the middle of a record that is being sent comes after that one, and both do come."""
    kept, sending = Kept(), eventbus_bus.send

    def interrupted(*arguments: Any) -> bool:
        if "first" in arguments[3]["msg"]:
            signal.raise_signal(signal.SIGUSR1)
        return sending(*arguments)

    with BusListener(eventbus_bus, kept), logger_to(BusHandler(eventbus_bus)) as logger:
        before = signal.signal(signal.SIGUSR1, lambda *_: logger.info("of the handler"))
        try:
            monkeypatch.setattr(eventbus_bus, "send", interrupted, raising=False)
            logger.info("first")
            logger.info("second")
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert kept.texts() == ["first", "of the handler", "second"]


def test_a_signal_handler_that_raises(eventbus_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose sending is interrupted so is sent with the next one."""
    kept, handler = Kept(), BusHandler(eventbus_bus)

    def interrupted(*_: Any) -> bool:
        raise KeyboardInterrupt

    with BusListener(eventbus_bus, kept), logger_to(handler) as logger:
        with monkeypatch.context() as patched:
            patched.setattr(eventbus_bus, "send", interrupted, raising=False)
            with pytest.raises(KeyboardInterrupt):
                logger.info("first")
        logger.info("second")
    assert kept.texts() == ["first", "second"]
    assert handler.unsent == 0


def test_no_circle(eventbus_bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the bus logs while it sends a record is no reason to send another one; at other times it is a record."""
    kept, handler, sending = Kept(), BusHandler(eventbus_bus), eventbus_bus.send

    def telling(*arguments: Any) -> bool:
        logging.getLogger("eventbus").warning("the bus says something")
        return sending(*arguments)

    with BusListener(eventbus_bus, kept), logger_to(handler) as logger, logger_to(handler, "eventbus") as own:
        own.warning("by itself")
        monkeypatch.setattr(eventbus_bus, "send", telling, raising=False)
        logger.info("first")
    assert kept.texts() == ["by itself", "first"]
    assert capsys.readouterr().err == "the bus says something\n"


def test_start_and_stop(eventbus_bus: Bus, fork: Fork) -> None:
    """It hears from one ``start`` to the next ``stop``, both as often as one likes; a forked child stops nothing."""
    kept = Kept()
    listener = BusListener(eventbus_bus, kept)
    listener.stop()
    with logger_to(BusHandler(eventbus_bus)) as logger:
        for text in ("first", "second"):
            logger.info("not heard")
            listener.start()
            with pytest.raises(RuntimeError, match="stop it first"):
                listener.start()
            fork(lambda line: listener.stop()).result()
            logger.info(text)
            listener.stop()
            assert eventbus_bus.stats().subscribers == ()
    assert kept.texts() == ["first", "second"]


def test_the_end_of_the_bus(eventbus_name: str) -> None:
    """A bus that is shut down ends the listener, with all that was logged; stopping it is still in order."""
    kept = Kept()
    with eventbus.open(eventbus_name, capacity=65536) as bus:
        listener = BusListener(bus, kept)
        listener.start()
        with logger_to(BusHandler(bus)) as logger:
            logger.info("said")
        bus.shutdown()
        until(lambda: not bus.stats().subscribers, "the end of the listener")
        listener.stop()
    assert kept.texts() == ["said"]


def test_what_is_no_record(eventbus_bus: Bus) -> None:
    """An event that somebody else sends to the system is shown by what it has."""
    kept = Kept()
    with BusListener(eventbus_bus, kept):
        eventbus_bus.send("logs", "error", "elsewhere", {"temperature": 7})
        eventbus_bus.send("logs", "odd", "elsewhere", b"\0")
    assert [(one.name, one.levelname, one.getMessage()) for one in kept.records] == [
        ("elsewhere", "ERROR", "{'temperature': 7}"),
        ("elsewhere", "INFO", r"b'\x00'"),
    ]


def test_a_handler_that_fails(eventbus_bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    """What a filter raises is told, and takes no other record along; so does an event that cannot be read."""
    kept = Kept()

    def refuse(record: logging.LogRecord) -> bool:
        if record.getMessage() == "bad":
            raise LookupError("no such thing")
        return True

    kept.addFilter(refuse)
    with BusListener(eventbus_bus, kept), logger_to(BusHandler(eventbus_bus)) as logger:
        logger.info("bad")
        eventbus_bus.send("logs", "info", "/", orjson.Fragment("{"))
        logger.info("good")
    assert kept.texts() == ["good"]
    err = capsys.readouterr().err
    assert "LookupError: no such thing" in err
    assert "SegmentError" in err


def test_threads(eventbus_bus: Bus) -> None:
    """Any number of threads log by one handler."""
    kept = Kept()
    with BusListener(eventbus_bus, kept), logger_to(BusHandler(eventbus_bus)) as logger:
        threads = [
            threading.Thread(target=log_all, args=(logger, [f"{one} {text}" for text in range(100)]))
            for one in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert sorted(kept.texts()) == sorted(f"{one} {text}" for one in range(4) for text in range(100))
