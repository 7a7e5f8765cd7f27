import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eventbus.core.attachment import Route
from eventbus.core.reader import SubscriptionHandle
from eventbus.errors import SegmentError
from eventbus.event import Event, Headers

class Scope:
    def __init__(self, end: int, pointer: int, owner: object) -> None: ...
    def __enter__(self) -> Scope: ...
    def __exit__(self, *error: object) -> None: ...

class Sender:
    _routes: dict[str, dict[str, Route]]
    def send(
        self,
        system: str,
        kind: str,
        path: str,
        data: Any = None,
        *,
        timeout: float | None = ...,
        headers: Mapping[str, str] | None = None,
    ) -> bool: ...

class Hand(Iterator[Event]):
    unfinished: int
    def __next__(self) -> Event: ...
    def __length_hint__(self) -> int: ...
    def take(self, limit: int, into: list[Event], /) -> list[Event]: ...
    def put_back(self, events: list[Event], /) -> None: ...
    def drop(self) -> None: ...

class Receiver:
    _handle: SubscriptionHandle | None
    _ready: Hand
    _names: dict[int, tuple[str, ...]]
    _receiving: threading.RLock
    _limit: int
    _ended: bool
    def _begin(self, handle: SubscriptionHandle, /) -> None: ...
    def _unpack(self, handle: SubscriptionHandle, /) -> list[Event]: ...
    def _acknowledge(self, handle: SubscriptionHandle, /) -> None: ...
    def _bury(self, handle: SubscriptionHandle, /) -> int: ...
    def _give_back(self, handle: SubscriptionHandle, /) -> int: ...
    def _fill(self, deadline: int, /) -> bool: ...

def is_owner() -> bool: ...
def check_signals() -> None: ...
def bind_send(send: int, send_raw: int, dumps: Callable[..., bytes], options: int, /) -> None: ...
def bind_receive(
    receive: int,
    ack: int,
    bury: int,
    give_back: int,
    generation: int,
    loads: Callable[[bytes | memoryview], Any],
    event: type[Event],
    headers: type[Headers],
    segment_error: type[SegmentError],
    /,
) -> None: ...
