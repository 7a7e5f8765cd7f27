"""A plugin of pytest that writes what becomes of each test, a line of JSON at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

TO = "EVENTBUS_PEERS_OUTCOMES"


def _tell(test: str, became: str, said: object = "") -> None:
    # At once: a run that hangs or dies has told of everything before.
    with Path(os.environ[TO]).open("a") as lines:
        lines.write(json.dumps({"test": test, "became": became, "said": str(said)}) + "\n")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is to run is unfinished until it is told otherwise."""
    for item in session.items:
        _tell(item.nodeid, "unfinished", "the process of the tests ended before or amid it")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has passed when its call has; what fails before or after it fails the test."""
    if report.when == "call" or not report.passed:
        _tell(report.nodeid, report.outcome, report.longrepr or "")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """What cannot be collected has not passed."""
    if not report.passed:
        _tell(report.nodeid, report.outcome, report.longrepr or "")
