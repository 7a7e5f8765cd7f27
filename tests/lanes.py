"""The suite in several processes beside each other, `pytest --lanes 3`: each a fork of the one that has collected.

A lane runs one file of tests after the other and tells the reports; the first process hands the files out, longest
first, and shows what comes as if it had run all of it itself. A lane has one thread: tests that fork need that.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterable
from itertools import groupby, zip_longest
from multiprocessing import connection
from typing import Any, NoReturn

import pytest

from harness import Child, Line

# What takes longest comes first, so that no lane is left alone with it at the end.
LONGEST = ["test_models", "test_kill_matrix", "test_c", "test_model", "test_loop_storm", "test_limits", "test_cli"]
LONGEST += ["test_bridge_matrix", "test_demo_hosts", "test_bridge_soak", "test_replay", "test_drill", "test_demo"]
LONGEST += ["test_examples", "test_fast"]
PATIENCE = 10.0  # seconds that a lane which is to stop may take to clean up

File = list[pytest.Item]
Told = tuple[str, dict[str, Any]]  # a hook of pytest, and what it was called with
IDLE: Told = ("", {})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Registers the options."""
    parser.addoption("--lanes", type=int, default=1, metavar="N", help="run N files of tests beside each other")
    parser.addoption("--cpus", type=int, metavar="N", help="run on N of the CPUs only")


def pytest_configure(config: pytest.Config) -> None:
    """Keeps all that is run to so many CPUs."""
    wanted, usable = config.option.cpus, sorted(os.sched_getaffinity(0))
    if wanted is None:
        return
    if not 1 <= wanted <= len(usable):
        raise pytest.UsageError(f"--cpus must be 1 to {len(usable)}, the CPUs that this process may use, not {wanted}")
    os.sched_setaffinity(0, usable[:wanted])


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Runs the tests in lanes, if there is to be more than one; otherwise pytest does."""
    lanes, options = session.config.option.lanes, session.config.option
    if lanes < 2 or options.collectonly or session.testsfailed:
        return None
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # one for all, which this one clears
    files = _by_file(session.items)
    working = [Lane(session, files) for _ in range(min(lanes, len(files)))]
    try:
        _hand_out(session, list(range(len(files))), working)
    finally:
        for lane in working:
            lane.stop()
    return True


def _by_file(items: Iterable[pytest.Item]) -> list[File]:
    """The tests of each file, those that take longest first."""
    files = [list(group) for _, group in groupby(items, lambda item: item.path)]
    rank = {name: place for place, name in enumerate(LONGEST)}
    return sorted(files, key=lambda file: rank.get(file[0].path.stem, len(LONGEST)))


def _hand_out(session: pytest.Session, waiting: list[int], lanes: list[Lane]) -> None:
    """Gives every lane that has nothing to do the next file, until all are done."""
    working = list(lanes)
    while working:
        ready = connection.wait([end for lane in working for end in lane.ends])
        for lane in [lane for lane in working if not set(ready).isdisjoint(lane.ends)]:
            idle = lane.listen()
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            if idle and waiting:
                lane.run(waiting.pop(0))
            elif idle:
                lane.finish()
                working.remove(lane)


class Lane:
    """A lane as the first process sees it."""

    def __init__(self, session: pytest.Session, files: list[File]) -> None:
        self._session = session
        self._child = Child(_run_files, session, files)
        self.ends = (self._child.fileno(), self._child.end)  # one of them is readable when there is news
        self._told: list[Told] = []

    def run(self, file: int) -> None:
        """Lets it run this file."""
        self._child.say(file)

    def finish(self) -> None:
        """Lets it end: there is nothing more to run."""
        self._child.say(None)
        self._child.result()

    def listen(self) -> bool:
        """Takes what it has told by now, and shows a file that is over; whether it waits for the next one.

        Raises:
            pytest.Session.Interrupted: it is dead; the test in which it died has failed.
        """
        dead = not self._child.running()  # looked at before the rest: a dead one tells no more than what is there
        self._told += self._child.said()
        if dead:
            self._bury()
        if self._told[-1:] != [IDLE]:
            return False
        self._show(self._told[:-1])
        return True

    def stop(self) -> None:
        """Ends it if it still runs, and gives it the time to clean up."""
        self._child.kill(signal.SIGINT)
        connection.wait([self._child.end], PATIENCE)
        self._child.release()

    def _show(self, told: list[Told]) -> None:
        hook = self._session.config.hook
        for name, what in told:
            if name == "pytest_runtest_logreport":
                what = {"report": hook.pytest_report_from_serializable(config=self._session.config, data=what)}
            getattr(hook, name)(**what)
        self._told.clear()

    def _bury(self) -> NoReturn:
        begun = [what for name, what in self._told if name == "pytest_runtest_logstart"]
        how = f"the process that ran this file ended with {self._child.wait()}"
        self._show(self._told)
        if begun:
            self._session.config.hook.pytest_runtest_logreport(
                report=pytest.TestReport(**begun[-1], keywords={}, outcome="failed", longrepr=how, when="call")
            )
        raise self._session.Interrupted(how)


def _run_files(line: Line, session: pytest.Session, files: list[File]) -> None:
    """The life of a lane: all is as in a process that was started for these files, but that it tells what comes."""
    faulthandler.unregister(signal.SIGUSR1)
    plugins, hook = session.config.pluginmanager, session.config.hook
    plugins.unregister(name="terminalreporter")
    plugins.register(Teller(session.config, line))
    capture = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()  # into a file that all lanes would share
    capture.start_global_capturing()
    line.say(IDLE)
    try:
        while (number := line.hear()) is not None:
            for item, following in zip_longest(files[number], files[number][1:]):
                hook.pytest_runtest_protocol(item=item, nextitem=following)
            line.say(IDLE)
    finally:
        plugins.getplugin("runner").pytest_sessionfinish(session)  # what an interrupted test has set up is torn down


class Teller:
    """What a lane has in the place of a terminal: it tells the first process."""

    def __init__(self, config: pytest.Config, line: Line) -> None:
        self._config = config
        self._line = line

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tells it."""
        self._line.say(("pytest_runtest_logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Tells it."""
        self._line.say(("pytest_runtest_logfinish", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tells it."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._line.say(("pytest_runtest_logreport", data))
