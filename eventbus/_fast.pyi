import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eventbus.core.attachment import Route
from eventbus.core.reader import SubscriptionHandle
from eventbus.event import Event, Headers, Unreadable

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
    unreadable: bool
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
    _manual: bool
    def _begin(self, handle: SubscriptionHandle, /) -> None: ...
    def _unpack(self, handle: SubscriptionHandle, /) -> list[Event | Unreadable]: ...
    def _acknowledge(self, handle: SubscriptionHandle, /) -> None: ...
    def _bury(self, handle: SubscriptionHandle, sequence: int, /) -> int: ...
    def _give_back(self, handle: SubscriptionHandle, delay: int, sequence: int, /) -> int: ...
    def _fill(self, deadline: int, /) -> bool: ...

def is_owner() -> bool: ...
def check_signals() -> None: ...
def bind_send(send: int, send_raw: int, dumps: Callable[..., bytes], options: int, /) -> None: ...
def bind_receive(
    receive: int,
    ack: int,
    bury: int,
    give_back: int,
    reject: int,
    generation: int,
    loads: Callable[[bytes | memoryview], Any],
    event: type[Event],
    headers: type[Headers],
    /,
) -> None: ...
