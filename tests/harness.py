"""Processes of a test: forked children with a line to it, deadlines that show where one hangs, test points."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
import traceback
import zlib
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any, NoReturn

import pytest
from eventbus._eventbus import ffi, lib

from eventbus import Event, Subscription

DEADLINE = 60.0  # seconds; nobody waits that long unless something hangs
SHARED_MEMORY = Path("/dev/shm")

Job = Callable[..., Any]


class Line:
    """A child's end of the line to its test."""

    def __init__(self, pipe: connection.Connection[Any, Any]) -> None:
        self._pipe = pipe

    def say(self, value: object = None) -> None:
        """Tells the test something; it gets it from ``Child.hear``."""
        self._pipe.send(("said", value))

    def hear(self) -> Any:
        """Waits for what the test says next."""
        if not self._pipe.poll(DEADLINE):
            raise TimeoutError("the test said nothing")
        return self._pipe.recv()

    def told(self) -> bool:
        """Whether the test has said something that ``hear`` would return at once."""
        return self._pipe.poll(0)

    def fileno(self) -> int:
        """What ``select`` waits on: readable when the test has said something."""
        return self._pipe.fileno()

    def finish(self, how: str, value: object) -> None:
        """The last word: what the job returned or raised."""
        self._pipe.send((how, value))


class Child:
    """A forked process that runs ``job(line, *args)`` and tells what came of it."""

    def __init__(self, job: Job, *args: object) -> None:
        mine, theirs = connection.Pipe()
        self._log = os.memfd_create("traceback")
        self.pid = os.fork()
        if self.pid == 0:
            mine.close()
            _work(Line(theirs), self._log, job, args)
        theirs.close()
        self._pipe = mine
        self._pidfd = os.pidfd_open(self.pid)
        self._status: int | None = None

    def say(self, value: object = None) -> None:
        """Tells the child something."""
        self._pipe.send(value)

    def hear(self, seconds: float = DEADLINE) -> Any:
        """What the child says next; fails with its traceback when it raises, dies or says nothing for so long."""
        return self._read("said", seconds)

    def said(self) -> list[Any]:
        """All that it has said and nobody has heard yet; of one that stands still or is dead, all there ever was."""
        heard = []
        try:
            while self._pipe.poll(0):
                how, value = self._pipe.recv()
                assert how == "said", f"child {self.pid} {how}:\n{value}"
                heard.append(value)
        except (EOFError, ConnectionResetError):
            pass  # it is dead, and this was the last
        return heard

    def hear_or_end(self) -> Any:
        """What the child says next; None once it has been killed."""
        if connection.wait([self._pipe, self._pidfd], DEADLINE) == [self._pipe] or self.running():
            try:
                return self._pipe.recv()[1]
            except (EOFError, ConnectionResetError):
                pass
        self.killed()
        return None

    def result(self, seconds: float = DEADLINE) -> Any:
        """What the job returned, once the process has gone; fails when it does not end within ``seconds``."""
        value = self._read("returned", seconds)
        assert self.wait() == 0
        return value

    def wait(self) -> int:
        """Waits for the end: 0, or minus the signal that it died of."""
        if self._status is None:
            if not connection.wait([self._pidfd], DEADLINE):
                self._fail_hanging()
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def last_word(self) -> str | None:
        """How its job ended: "" when it returned, else the traceback or its death; None while it is at work."""
        if not connection.wait([self._pipe, self._pidfd], 0):
            return None
        try:
            how, value = self._pipe.recv() if self._pipe.poll(0) else ("ended", None)
        except (EOFError, ConnectionResetError):
            how, value = "ended", None
        self.wait()
        return {"returned": "", "raised": str(value)}.get(how, f"it {how} with {self._status}\n{self._logged()}")

    def killed(self) -> None:
        """Waits for its death by SIGKILL; fails with what it said last when it ends otherwise."""
        if self.wait() == -signal.SIGKILL:
            return
        while self._pipe.poll(0):
            how, value = self._pipe.recv()
            if how != "said":
                pytest.fail(f"child {self.pid} was to be killed and {how}:\n{value}")
        pytest.fail(f"child {self.pid} was to be killed and ended with {self._status}\n{self._logged()}")

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._status is None and not connection.wait([self._pidfd], 0)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends it a signal, and waits for its end if that is SIGKILL."""
        if self._status is None:
            signal.pidfd_send_signal(self._pidfd, number)
            if number == signal.SIGKILL:
                self.wait()

    def stop(self) -> None:
        """Stops it, and waits until the kernel says that it stands still."""
        self.kill(signal.SIGSTOP)
        self.wait_stopped()

    def wait_stopped(self) -> None:
        """Waits until it stands still."""
        until(self.stands_still, f"process {self.pid} to be stopped")

    def stands_still(self) -> bool:
        """Whether the kernel says that it is stopped."""
        return _state(self.pid) == "T"

    def go_on(self) -> None:
        """Lets a stopped child run again."""
        self.kill(signal.SIGCONT)

    def release(self) -> None:
        """Ends it if it still runs, and gives its descriptors back."""
        self.kill()
        self._pipe.close()
        os.close(self._pidfd)
        os.close(self._log)

    def fileno(self) -> int:
        """What ``connection.wait`` waits on: readable when it has said something or is dead."""
        return self._pipe.fileno()

    @property
    def end(self) -> int:
        """A descriptor that is readable once it is dead, even where a child of its own has the line too."""
        return self._pidfd

    def _read(self, wanted: str, seconds: float = DEADLINE) -> Any:
        if not connection.wait([self._pipe, self._pidfd], seconds):
            self._fail_hanging()
        try:
            how, value = self._pipe.recv() if self._pipe.poll(0) else ("gone", None)
        except (EOFError, ConnectionResetError):
            how, value = "gone", None
        if how == wanted:
            return value
        if how == "gone":
            pytest.fail(f"child {self.pid} ended with {self.wait()}\n{self._logged()}")
        pytest.fail(f"child {self.pid} {how}:\n{value}")

    def where(self) -> str:
        """The traceback of one that hangs."""
        self.go_on()
        self.kill(signal.SIGUSR1)
        until(lambda: os.fstat(self._log).st_size > 0, "the traceback of a child that hangs", 5)
        return self._logged()

    def _fail_hanging(self) -> NoReturn:
        where = self.where()
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        pytest.fail(f"child {self.pid} hangs:\n{where}")

    def _logged(self) -> str:
        return os.pread(self._log, 1 << 16, 0).decode(errors="replace")


Fork = Callable[..., Child]


def _work(line: Line, log: int, job: Job, args: tuple[object, ...]) -> NoReturn:
    """The life of a child: nothing of the test's own ending, its fixtures or its reports, runs here."""
    try:
        faulthandler.register(signal.SIGUSR1, log)
        line.finish("returned", job(line, *args))
    except BaseException:
        line.finish("raised", traceback.format_exc())
    finally:
        lib.eb_test_flush()
        os._exit(0)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Looks until the condition holds; fails when it does not within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.001)


def patiently(attempt: Callable[[float], object], seconds: float) -> None:
    """Makes the attempt with ever more seconds until it was in time: on a host that stands still, any number may
    be over before the next step. Fails when none is enough."""
    while not attempt(seconds):
        seconds *= 4
        assert seconds < DEADLINE, "it was never in time"


def points() -> dict[str, int]:
    """The test points of the core, by name."""
    return {ffi.string(lib.eb_test_point_name(i)).decode(): i for i in range(lib.eb_test_point_count())}


def arm(point: str, number: int = signal.SIGKILL, passes: int = 1) -> None:
    """This process gets the signal when it comes to the test point for the ``passes``-th time from now."""
    lib.eb_test_arm(points()[point], number, passes)


def ring_of(name: str) -> Path:
    """The file behind the ring."""
    return SHARED_MEMORY / f"eventbus.{name}.ring"


def roster_of(name: str) -> Path:
    """The file behind the roster."""
    return SHARED_MEMORY / f"eventbus.{name}.roster"


def sealed(publisher: int, number: int) -> dict[str, Any]:
    """Data that shows by itself whether it is whole."""
    text = f"{publisher}:{number};" * (number % 17 + 1)
    return {"publisher": publisher, "number": number, "text": text, "sum": zlib.crc32(text.encode())}


def unsealed(event: Event | None) -> tuple[int, int]:
    """Publisher and number of an event with sealed data, which must be whole."""
    assert event is not None, "no event came"
    publisher, number = event.data["publisher"], event.data["number"]
    assert event.data == sealed(publisher, number)
    return publisher, number


def take(sub: Subscription) -> Event:
    """The next event, which must come."""
    event = sub.receive(DEADLINE)
    assert event is not None, "no event came"
    return event
