"""A Celery result backend, ``eventbus://``: results are events of the bus beside the broker's, and waited for there."""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from celery import states
from celery._state import task_join_will_block
from celery.backends.asynchronous import AsyncBackendMixin, BaseResultConsumer
from celery.backends.base import BaseKeyValueStoreBackend

import eventbus
from eventbus.integrations.kombu import open_replies

RESULTS = "celery.result"
PARTS = "celery.part"
_BATCH = 256


class Log:
    """What one process has read of a system of the bus, from the oldest event that this keeps.

    Attributes:
        values: what was sent last by path; the bytes of all together are no more than the ring's.
    """

    def __init__(self, bus: eventbus.Bus, system: str) -> None:
        self._subscription = bus.subscribe(system, overflow="drop", start="oldest", name=system)
        self.process = os.getpid()
        self._limit = bus.stats().capacity
        self._bytes = 0
        self.values: OrderedDict[str, Any] = OrderedDict()
        self.lock = threading.RLock()

    def read(self, heard: Callable[[eventbus.Event], None] | None = None) -> None:
        """Takes what there is by now."""
        with self.lock:
            while events := self._subscription.receive_many(_BATCH, 0):
                for event in events:
                    self._take(event)
                    if heard is not None:
                        heard(event)

    def _take(self, event: eventbus.Event) -> None:
        raise NotImplementedError

    def _drop(self, path: str) -> None:
        gone = self.values.pop(path, None)
        if gone is not None:
            self._bytes -= len(gone.data)

    def wait(self, seconds: float | None) -> bool:
        """Whether something came in time."""
        if not self._subscription.arm():
            return True
        poll = select.poll()
        poll.register(self._subscription.fileno(), select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def close(self) -> None:
        """Hears nothing any more."""
        self._subscription.close()


class Results(Log):
    """The results that there are; of a task that has succeeded none is taken any more, as everywhere in Celery."""

    def __init__(self, bus: eventbus.Bus) -> None:
        super().__init__(bus, RESULTS)

    def _take(self, event: eventbus.Event) -> None:
        before = self.values.get(event.path)
        if event.data is None:
            self._drop(event.path)
        elif before is None or before.kind != states.SUCCESS:
            self._drop(event.path)
            self.values[event.path] = event
            self._bytes += len(event.data)
            while self._bytes > self._limit:
                self._drop(next(iter(self.values)))


class Parts(Log):
    """Which tasks of a chord have ended, in the order of the bus, that is the same for all."""

    def __init__(self, bus: eventbus.Bus) -> None:
        super().__init__(bus, PARTS)

    def _take(self, event: eventbus.Event) -> None:
        if event.data is None:
            self.values.pop(event.path, None)
        else:
            self.values.setdefault(event.path, {})[event.data] = None

    def rank(self, chord: str, task: str) -> int:
        """Which one the task was to end, from 1 on."""
        self.read()
        return list(self.values.get(chord, ())).index(task) + 1


class ResultConsumer(BaseResultConsumer):
    """Waits for results in one thread; that of another thread has a log of its own."""

    def start(self, initial_task_id: str, **options: Any) -> None:
        self.consume_from(initial_task_id)

    def consume_from(self, task_id: str) -> None:
        self.backend.results()

    def cancel_for(self, task_id: str) -> None:
        pass

    def on_wait_for_pending(self, result: Any, **options: Any) -> None:
        for meta in result._iter_meta(**options):
            if meta is not None:
                self.on_state_change(meta, None)

    def drain_events(self, timeout: float | None = None) -> None:
        results = self.backend.results()
        came: deque[eventbus.Event] = deque()
        results.read(came.append)
        if not came:
            if not results.wait(timeout):
                raise TimeoutError
            results.read(came.append)
        wanted = {self.backend.path(self.backend.get_key_for_task(one)) for all in self._pending_results for one in all}
        for event in came:
            if event.data is not None and event.path in wanted:
                self.on_state_change(self.backend.decode_result(event.data), None)


class Backend(BaseKeyValueStoreBackend, AsyncBackendMixin):
    """Celery's result backend over a bus.

    A result can be had by any process until ``result_expires``, or until the ring of the bus has gone round with later
    ones. Whoever waits is woken by the bus.
    """

    supports_native_join = True
    supports_autoexpire = True
    implements_incr = True
    key_t = staticmethod(lambda text: text.decode() if isinstance(text, bytes) else text)

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url=url, **options)
        self.expires = self.prepare_expires(options.get("expires"), int)
        address = (url or "").partition("://")[2].strip("/")
        self._name = address
        self._bus: eventbus.Bus | None = None
        self._logs: dict[type[Log], Log] = {}
        self._part: str | None = None
        self.result_consumer = ResultConsumer(
            self, self.app, self.accept, self._pending_results, self._pending_messages
        )

    def bus(self) -> eventbus.Bus:
        """The bus of the results, in whatever process this is."""
        if self._bus is None:
            self._bus = open_replies(self._name, self.app.conf.result_backend_transport_options or {})
            weakref.finalize(self, self._bus.close)
        return self._bus

    def results(self) -> Results:
        """The log of results of this process."""
        log: Results = self._log(Results)
        return log

    def _log(self, kind: Callable[[eventbus.Bus], Any]) -> Any:
        log = self._logs.get(kind)  # type: ignore[call-overload]
        if log is None or log.process != os.getpid():
            log = kind(self.bus())
            self._logs[kind] = log  # type: ignore[index]
        return log

    def path(self, key: str) -> str:
        """The path of an event with the value of a key."""
        return f"/{key}"

    def _set_with_state(self, key: str, value: Any, state: str) -> None:
        data = value.encode() if isinstance(value, str) else bytes(value)
        self.bus().send(RESULTS, state, self.path(key), data)

    def set(self, key: str, value: Any) -> None:
        self._set_with_state(key, value, "VALUE")

    def delete(self, key: str) -> None:
        self.bus().send(RESULTS, "deleted", self.path(key), None)
        if key.startswith(self.chord_keyprefix):
            self.bus().send(PARTS, "deleted", self.path(key), None)

    def get(self, key: str) -> bytes | None:
        results = self.results()
        results.read()
        return self._fresh(results, key)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        results = self.results()
        results.read()
        return [self._fresh(results, key) for key in keys]

    def _fresh(self, results: Results, key: str) -> bytes | None:
        event = results.values.get(self.path(key))
        if event is None or (self.expires and time.time() - event.time / 1e9 > self.expires):
            return None
        data: bytes = event.data
        return data

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        """Nobody looks before: who reads takes none for a task that has succeeded."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        self._set_with_state(self.get_key_for_task(task_id), self.encode(meta), state)
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        if not task_join_will_block():
            self.result_consumer.consume_from(task_id)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        self._part = request.id
        super().on_chord_part_return(request, state, result, **options)

    def incr(self, key: str) -> int:
        """Counts a task of a chord that has ended: one that ran twice, as a process was killed, counts once."""
        parts: Parts = self._log(Parts)
        self.bus().send(PARTS, "ended", self.path(key), self._part)
        return parts.rank(self.path(key), str(self._part))

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})
