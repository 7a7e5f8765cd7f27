"""Raw data that tell themselves apart, as the tests of views send and look at them."""

from __future__ import annotations

from eventbus import Bus, Event, Subscription
from harness import take

SIZES = (5, 100_000)  # copied, and looked at in the ring
LARGE = 100_000
CAPACITY = 1 << 20


def payload(number: int, size: int = LARGE) -> bytes:
    """The data of event ``number``: no two of the same size are the same, nor any two parts of one."""
    unit = b"%08d" % number + bytes(range(number % 97, number % 97 + 89))
    return (unit * (size // len(unit) + 1))[:size]


def put(bus: Bus, *numbers: int, size: int = LARGE) -> None:
    """Sends these."""
    for number in numbers:
        bus.send("a", "raw", "/x", payload(number, size))


def seen(event: Event) -> memoryview:
    """What an event looks at, which must be read-only bytes."""
    view = event.data
    assert isinstance(view, memoryview)
    assert view.readonly
    assert (view.format, view.ndim, view.itemsize, view.shape) == ("B", 1, 1, (len(view),))
    return view


def look(sub: Subscription) -> memoryview:
    """What the next event looks at."""
    return seen(take(sub))


def is_released(view: memoryview) -> bool:
    """Whether a use of it is the error that it is to be."""
    try:
        return view.nbytes < 0
    except ValueError as error:
        return "released" in str(error)
