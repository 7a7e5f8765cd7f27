"""A publish/subscribe bus between the processes of one Linux host, without a server."""

from __future__ import annotations

import importlib
import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from eventbus.bus import SEND_TIMEOUT, Bus
from eventbus.core.segment import unlink
from eventbus.errors import (
    ClosedError,
    EventBusError,
    FullError,
    InvalidError,
    PolicyDeniedError,
    RemoteError,
    SegmentError,
    SubscribersFullError,
    UnavailableError,
)
from eventbus.event import Event
from eventbus.patterns import Wanted
from eventbus.request import Request
from eventbus.subscription import Channel, Subscription

if TYPE_CHECKING:
    from eventbus.core.stats import BusStats, SubscriberStats
    from eventbus.fanout import Fanout
    from eventbus.policy import Policy, PolicyLike
    from eventbus.workers.failures import Discard, Retry
    from eventbus.workers.worker import Worker

__all__ = [
    "Bus",
    "BusStats",
    "Channel",
    "ClosedError",
    "Discard",
    "Event",
    "EventBusError",
    "Fanout",
    "FullError",
    "InvalidError",
    "Policy",
    "PolicyDeniedError",
    "RemoteError",
    "Request",
    "Retry",
    "SegmentError",
    "SubscriberStats",
    "SubscribersFullError",
    "Subscription",
    "UnavailableError",
    "Worker",
    "default_bus",
    "open",
    "send",
    "subscribe",
    "unlink",
]

_SELDOM = {
    "BusStats": "eventbus.core.stats",
    "Discard": "eventbus.workers.failures",
    "Fanout": "eventbus.fanout",
    "Policy": "eventbus.policy",
    "Retry": "eventbus.workers.failures",
    "SubscriberStats": "eventbus.core.stats",
    "Worker": "eventbus.workers.worker",
}
"""What most processes never name, and where it is imported from when one does."""

_default: Bus | None = None
_opening = threading.RLock()  # a signal handler or a destructor may send in the middle of it
os.register_at_fork(after_in_child=_opening._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does it


if not TYPE_CHECKING:  # which knows all names, and would take any other for one

    def __getattr__(name: str) -> Any:
        if name not in _SELDOM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_SELDOM[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_SELDOM})


def open(
    name: str,
    *,
    capacity: int | None = None,
    max_subscribers: int | None = None,
    mode: int = 0o600,
    role: Literal["member", "subscriber"] = "member",
    policy: PolicyLike | None = None,
    actor: str | None = None,
    send_timeout: float | None = SEND_TIMEOUT,
    persist: bool = False,
) -> Bus:
    """Attaches to the bus ``name``, or creates it.

    Args:
        name: 1 to 200 ASCII letters, digits, ``.``, ``_`` and ``-``.
        capacity: bytes of the ring, rounded up to a page; 16 MiB for a new bus if left out.
        max_subscribers: subscriber slots, at most 1024; 64 for a new bus if left out.
        mode: 0o600; 0o660 lets the owner's group in; 0o640 lets it subscribe only.
        role: "subscriber" maps the ring read-only: it can receive and never forge.
        policy: a Policy, its table, a path to its file, or any callable ``(actor, action, system) -> bool``; the file
            named by ``EVENTBUS_POLICY`` if left out.
        actor: who asks; ``EVENTBUS_ACTOR``, else ``user:<login>`` if left out.
        send_timeout: seconds that ``send`` waits for room; None for ever.
        persist: the bus outlives its last process.

    Raises:
        InvalidError: a bad argument, or sizes that differ from those of the bus that is there.
        SegmentError: the segment is of another version, damaged, or owned by somebody not trusted.
        OSError: no permission; no space left in shared memory.
    """
    return Bus(
        name,
        capacity=capacity,
        max_subscribers=max_subscribers,
        mode=mode,
        role=role,
        policy=policy,
        actor=actor,
        send_timeout=send_timeout,
        persist=persist,
    )


def default_bus() -> Bus:
    """This process's default bus, named by ``EVENTBUS_NAME``, else ``default-<uid>``; opened on first use."""
    global _default
    bus = _default
    if bus is not None and bus.usable:
        return bus
    with _opening:
        if _default is None or not _default.usable:
            opened = Bus(os.environ.get("EVENTBUS_NAME") or f"default-{os.getuid()}")
            if _default is not None and _default.usable:  # a signal handler was faster
                opened.close()
            else:
                _default = opened
        return _default


def send(system: str, kind: str, path: str, data: Any = None, **options: Any) -> bool:
    """``Bus.send`` on the default bus."""
    return default_bus().send(system, kind, path, data, **options)


def subscribe(system: Wanted, kind: Wanted | None = None, **options: Any) -> Subscription:
    """``Bus.subscribe`` on the default bus."""
    return default_bus().subscribe(system, kind, **options)
