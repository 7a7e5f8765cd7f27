import threading
from collections.abc import Callable, Iterator
from typing import Any

from eventbus.core.native import Route
from eventbus.core.reader import SubscriptionHandle
from eventbus.errors import SegmentError
from eventbus.event import Event

class Sender:
    _routes: dict[str, dict[str, Route]]
    def send(self, system: str, kind: str, path: str, data: Any = None, *, timeout: float | None = ...) -> bool: ...

class Receiver:
    _handle: SubscriptionHandle | None
    _ready: Iterator[Event]
    _names: dict[int, tuple[str, str]]
    _receiving: threading.RLock
    _taken: int
    _limit: int
    _in_hand: int
    _asked: bool
    _ended: bool
    def _unpack(self, handle: SubscriptionHandle, /) -> Iterator[Event]: ...
    def _acknowledge(self, handle: SubscriptionHandle, /) -> None: ...
    def _fill(self, deadline: int, /) -> bool: ...

def bind_send(send: int, send_raw: int, dumps: Callable[..., bytes], options: int, /) -> None: ...
def bind_receive(
    receive: int,
    ack: int,
    loads: Callable[[bytes | memoryview], Any],
    event: type[Event],
    segment_error: type[SegmentError],
    /,
) -> None: ...
