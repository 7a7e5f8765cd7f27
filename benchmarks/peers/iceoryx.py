"""iceoryx2: a publish-subscribe service per system, which blocks when a subscriber is full, and an event that wakes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import iceoryx2

from benchmarks.peer import Medium, Publisher, Subscriber, Topology, decoded, encoder

_BUFFER_BYTES = 16 * 2**20
"""As much as a ring of eventbus holds by default, for each subscriber."""
_BUFFER_EVENTS = (16, 8192)
_NUMBERS = 256
"""Numbers in an event grow while it is sent: so many bytes more than its size it may have."""
_COPIED = 4096
"""Up to here a copy of the body costs less than a view of it."""

_prefixes = count(1)


class IceoryxPublisher(Publisher):
    def __init__(self, topology: Topology, services: Services) -> None:
        self._services = services
        self._encode = encoder(topology.raw)
        self._ports = {system: services.sending(system) for system in topology.topics}
        self.send = self._send

    def _send(self, system: str, kind: str, path: str, data: Any) -> None:
        loan, notify = self._ports[system]
        body = self._encode((system, kind, path, data))
        sample = loan(len(body))
        ctypes.memmove(sample.payload_ptr, body, len(body))
        sample.assume_init().send()
        notify()


class IceoryxSubscriber(Subscriber):
    def __init__(self, topology: Topology, system: str, services: Services, views: bool) -> None:
        self._topology = topology
        self._services = services
        self._views = views or not (topology.raw or topology.size <= _COPIED)
        self._subscriber, self._listener = services.receiving(system)

    def received(self) -> Iterator[Any]:
        return decoded(self._bodies(), self._topology.raw)

    def _bodies(self) -> Iterator[Any]:
        receive, wait = self._subscriber.receive, self._listener.blocking_wait
        body_of = _view_of if self._views else _copy_of
        while True:
            sample = receive()
            if sample is None:
                wait()
                continue
            # Decoded, or looked at, before the next one is asked for, so a view is not outlived.
            yield body_of(sample)
            sample.delete()


class Services:
    """One process's node, and the ports that it opens."""

    def __init__(self, topology: Topology, files: Path, prefix: str) -> None:
        config = iceoryx2.config.default()
        config.global_cfg.root_path = iceoryx2.Path.new(f"{files}/")
        config.global_cfg.prefix = iceoryx2.FileName.new(prefix)
        self._node = iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)
        self._topology = topology

    def sending(self, system: str) -> tuple[Callable[[int], Any], Callable[[], object]]:
        """Open the publishing ports of ``system``; returns what loans a sample and what wakes the subscribers."""
        builder = self._events(system).publisher_builder().initial_max_slice_len(self._topology.size + _NUMBERS)
        blocking = builder.backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
        notifier = self._wakes(system).notifier_builder().create()
        return blocking.create().loan_slice_uninit, notifier.notify

    def receiving(self, system: str) -> tuple[Any, Any]:
        """Open the subscribing ports of ``system``: where samples come, and what to wait on when none does."""
        listener = self._wakes(system).listener_builder().create()
        return self._events(system).subscriber_builder().create(), listener

    def _events(self, system: str) -> Any:
        fewest, most = _BUFFER_EVENTS
        kept = min(max(_BUFFER_BYTES // self._topology.size, fewest), most)
        service = self._service(system).publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
        service = service.enable_safe_overflow(False).subscriber_max_buffer_size(kept)
        publishers, subscribers = self._topology.publishers, len(self._topology.systems)
        return service.max_publishers(publishers).max_subscribers(subscribers).open_or_create()

    def _wakes(self, system: str) -> Any:
        return self._service(system).event().open_or_create()

    def _service(self, system: str) -> Any:
        return self._node.service_builder(iceoryx2.ServiceName.new(system))


class IceoryxMedium(Medium):
    views = False

    def open(self, leftovers: ExitStack) -> None:
        self._prefix = f"benchmark-{os.getpid()}-{next(_prefixes)}_"
        leftovers.callback(_remove, self._prefix)

    def publisher(self, _index: int, /) -> IceoryxPublisher:
        return IceoryxPublisher(self.topology, self._services())

    def subscriber(self, index: int, /) -> IceoryxSubscriber:
        return IceoryxSubscriber(self.topology, self.topology.systems[index], self._services(), self.views)

    def _services(self) -> Services:
        return Services(self.topology, self.files, self._prefix)


class LoanMedium(IceoryxMedium):
    """Raw data are looked at where they lie."""

    views = True


def _copy_of(sample: Any) -> bytes:
    return ctypes.string_at(sample.payload_ptr, sample.header.number_of_elements)


def _view_of(sample: Any) -> Any:
    return sample.payload().as_memory_view().cast("B")


def _remove(prefix: str) -> None:
    # Its nodes leave a file of shared memory behind even when they end in order.
    for left in Path("/dev/shm").glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
connect = IceoryxMedium
connect_loans = LoanMedium
