"""What every test stands on: the core with test points, a bus name of its own, and nothing left behind."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracing import Spans

TESTS = Path(__file__).resolve().parent
BUILD = TESTS.parent / os.environ.get("EVENTBUS_BUILD", "build/testing")

sys.path.insert(0, str(TESTS))

import core  # noqa: E402  after the tests' own modules can be found


def _load_core() -> None:
    """Puts the build with test points where ``eventbus`` will look for its compiled module."""
    built = core.built(BUILD)
    if not built.exists():
        raise pytest.UsageError(f"there is no {built}: build the core with test points by 'make test'")
    if "eventbus" in sys.modules:
        raise pytest.UsageError("eventbus was imported before tests/conftest.py could choose its compiled module")
    core.load(built)


_load_core()

import eventbus  # noqa: E402  after the core is in place
import loops  # noqa: E402
from eventbus import Bus, Fanout, Subscription  # noqa: E402
from eventbus.core import bell  # noqa: E402
from harness import SHARED_MEMORY, Child, Fork, Job  # noqa: E402
from nats_server import ABSENT, NatsServer, programs, version_of  # noqa: E402

pytest_plugins = ["lanes"]


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker of tests that run the released build; and gives Ctrl-C back its meaning, which a shell takes
    from what it runs in the background, and from all that this starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "release: runs the release build, in a process of its own or as a file, or what hangs in a sanitizer"
    )


def pytest_collection_finish() -> None:
    """What is there before the first test stays: no collection looks at it again, or copies it into every fork.

    Hypothesis asks the collector who refers to trio's generator of random numbers, and fails where nobody is seen to.
    """
    if "trio" in sys.modules:
        import hypothesis  # noqa: F401  its plugin does at the end, if nobody has
    gc.collect()
    gc.freeze()


PACKAGES = re.compile(r"\W*apt-get install ((?:[a-z0-9][a-z0-9.+-]* ?)+)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in one line what was skipped, if anything was."""
    skipped = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ())]
    if skipped:
        terminalreporter.write_line(_in_one_line(skipped), yellow=True)


def _in_one_line(skipped: Sequence[str]) -> str:
    """How many tests, each reason once, and the packages that the reasons name, with how many tests they bring."""
    reasons: Counter[str] = Counter()
    packages: dict[str, None] = {}
    brought = 0
    for text in skipped:
        reason = " ".join(text.split())
        if found := PACKAGES.search(reason):
            packages.update(dict.fromkeys(found[1].split()))
            brought += 1
            reason = reason[: found.start()]
        reasons[reason] += 1
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    line = f"{len(skipped)} test{'s' * (len(skipped) > 1)} skipped: {why}"
    return f"{line}. For {brought} of them: apt-get install {' '.join(packages)}" if packages else line


def _segments() -> set[str]:
    """Those that this run made: the pid is in their names, so another run beside it is left alone."""
    return {path.name for path in SHARED_MEMORY.glob(f"eventbus.*-{os.getpid()}-*")}


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test: no segment, no descriptor and no process that was not there before."""
    segments, descriptors = _segments(), _descriptors()
    yield
    children = _has_children()
    if set(_descriptors()) - set(descriptors):
        gc.collect()
    opened = {fd: target for fd, target in _descriptors().items() if fd not in descriptors}
    left = _segments() - segments
    for segment in left:
        (SHARED_MEMORY / segment).unlink(missing_ok=True)
    assert not children, "a child process is left"
    assert not left, f"segments are left: {sorted(left)}"
    assert not opened, f"descriptors are left open: {opened}"


@pytest.fixture
def name() -> str:
    """A bus name that nobody else has."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def bus(name: str) -> Iterator[Bus]:
    """A small bus of its own, closed after the test."""
    with eventbus.open(name, capacity=64 * 1024) as opened:
        yield opened


@pytest.fixture
def done(bus: Bus) -> Subscription:
    """What the handlers of a worker have done."""
    return bus.subscribe("done")


@pytest.fixture
def fanout(bus: Bus) -> Iterator[Fanout]:
    """What is sent to ``a``, ten events at most for each listener."""
    with Fanout(bus, "a", limit=10) as made:
        yield made


@pytest.fixture
def spans() -> Spans:
    """Where spans are kept."""
    from tracing import Spans  # few need it, and it takes longer to import than all of eventbus

    return Spans()


@pytest.fixture
def traced(bus: Bus, spans: Spans) -> Bus:
    """The bus, instrumented."""
    from eventbus.observe.opentelemetry import instrument

    instrument(bus, spans.provider)
    return bus


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a worker logs."""
    return tmp_path / "log"


@pytest.fixture(params=loops.KINDS)
def new_loop(request: pytest.FixtureRequest) -> loops.NewLoop:
    """Makes event loops, of each kind in turn."""
    return loops.maker(request.param)


@pytest.fixture(params=["socket", "thread"])
def doorbell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event loops are woken by a socket, and by threads as where none can be made."""
    monkeypatch.setattr(bell, "SILENT", request.param == "thread")


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Forks children; those that still run when the test is over are killed."""
    children: list[Child] = []

    def start(job: Job, *args: object) -> Child:
        children.append(Child(job, *args))
        return children[-1]

    yield start
    for child in children:
        child.release()


def _nats_server(program: Path | None, directory: Path) -> Iterator[NatsServer]:
    if program is None:
        pytest.skip(ABSENT)
    server = NatsServer(program, directory)
    yield server
    server.close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of the test's own: the oldest of this host."""
    yield from _nats_server(next(iter(programs()), None), tmp_path / "nats")


_SERVERS: list[Path | None] = [*programs()] or [None]


@pytest.fixture(params=_SERVERS, ids=lambda program: version_of(program) if program else "absent")
def each_nats(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of the test's own, of each version that is on this host in turn."""
    yield from _nats_server(request.param, tmp_path / "nats")
