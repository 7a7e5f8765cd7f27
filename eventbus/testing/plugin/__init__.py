"""The door of pytest to ``eventbus.testing``: fixtures, which import nothing of it before a test asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eventbus import Bus
    from eventbus.testing.recorder import Recorder


@pytest.fixture
def eventbus_name() -> Iterator[str]:
    """A name that no bus has; whatever has it when the test is over is removed."""
    from eventbus.testing import buses

    name = buses.new_name()
    yield name
    buses.remove(name)


@pytest.fixture
def eventbus_bus(eventbus_name: str, request: pytest.FixtureRequest) -> Iterator[Bus]:
    """A bus of a mebibyte under that name, closed when the test is over.

    A test that passed fails then if it has left a subscription, a process that has the bus open, or a segment.
    """
    from eventbus.testing import buses

    failed = request.session.testsfailed
    bus = buses.opened(eventbus_name)
    yield bus
    left = buses.close(bus)
    if left and request.session.testsfailed == failed:
        pytest.fail("; ".join(left), pytrace=False)


@pytest.fixture
def eventbus_recorder(eventbus_bus: Bus) -> Iterator[Callable[..., Recorder]]:
    """Makes recorders of what is sent on ``eventbus_bus``: ``recorder = eventbus_recorder("orders.**")``."""
    from eventbus.testing.recorder import Recorder

    made: list[Recorder] = []

    def record(system: str | list[str] = "**", kind: str | list[str] | None = None) -> Recorder:
        made.append(Recorder(eventbus_bus, system, kind))
        return made[-1]

    yield record
    for recorder in made:
        recorder.close()
