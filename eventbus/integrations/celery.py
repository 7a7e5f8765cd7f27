"""A Celery result backend, ``eventbus://``: results are events of the bus beside the broker's, and waited for there."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from celery import states
from celery._state import task_join_will_block
from celery.backends.asynchronous import AsyncBackendMixin, BaseResultConsumer
from celery.backends.base import BaseKeyValueStoreBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, allow_join_result, result_from_tuple

import eventbus
from eventbus.integrations import celery_logs as logs
from eventbus.integrations.celery_logs import Chord, Chords, Log, Results
from eventbus.integrations.kombu import open_replies

_log = logging.getLogger("eventbus.celery")


class ResultConsumer(BaseResultConsumer):
    """Waits for results in one thread; that of another thread has a log of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._came: deque[eventbus.Event] = deque()
        self._prefix = self.backend.path(self.backend.task_keyprefix)

    def start(self, initial_task_id: str, **options: Any) -> None:
        self.consume_from(initial_task_id)

    def consume_from(self, task_id: str) -> None:
        self.backend.results()

    def cancel_for(self, task_id: str) -> None:
        pass

    def hear(self, event: eventbus.Event) -> None:
        """Keeps what somebody waits for, whatever it was read for."""
        if event.data is not None and self._is_waited_for(event):
            self._came.append(event)

    def recall(self, task_id: str) -> None:
        """Keeps a result that came before anybody waited for it, for the next ``drain_events``: what is told at once
        could complete a set of results that is about to be made, which then waits for ever."""
        results = self.backend.results()
        results.read()
        event = results.values.get(self._prefix + task_id)
        if event is not None:
            self._came.append(event)

    def _is_waited_for(self, event: eventbus.Event) -> bool:
        task = event.path.removeprefix(self._prefix)
        return any(task in pending for pending in self._pending_results)

    def on_wait_for_pending(self, result: Any, **options: Any) -> None:
        for meta in result._iter_meta(**{**options, "interval": 0}):  # what is to come, the bus tells
            if meta is not None:
                self.on_state_change(meta, None)

    def drain_events(self, timeout: float | None = None) -> None:
        results = self.backend.results()
        results.read()
        if not self._came:
            if not results.wait(timeout):
                raise TimeoutError
            results.read()
        while self._came:
            event = self._came.popleft()
            if self._is_waited_for(event):  # and not told by now
                self.on_state_change(self.backend.decode_result(event.data), None)


class Backend(BaseKeyValueStoreBackend, AsyncBackendMixin):
    """Celery's result backend over a bus.

    A result can be had by any process until ``result_expires``, or until the ring of the bus has gone round with later
    ones. Whoever waits is woken by the bus.
    """

    supports_native_join = True
    supports_autoexpire = True
    key_t = staticmethod(lambda text: text.decode() if isinstance(text, bytes) else text)

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url=url, **options)
        self.expires = self.prepare_expires(options.get("expires"), int)
        address = (url or "").partition("://")[2].strip("/")
        self._name = address
        self._bus: eventbus.Bus | None = None
        self._logs: dict[type[Log], Log] = {}
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
        log: Results = self._log(Results, self.result_consumer.hear)
        return log

    def _log(self, kind: Callable[..., Any], *arguments: Any) -> Any:
        log = self._logs.get(kind)  # type: ignore[call-overload]
        if log is None or log.process != os.getpid():
            log = kind(self.bus(), *arguments)
            self._logs[kind] = log  # type: ignore[index]
        return log

    def path(self, key: str) -> str:
        """The path of an event with the value of a key."""
        return f"/{key}"

    def _set_with_state(self, key: str, value: Any, state: str) -> None:
        data = value.encode() if isinstance(value, str) else bytes(value)
        self.bus().send(logs.RESULTS, state, self.path(key), data)

    def set(self, key: str, value: Any) -> None:
        self._set_with_state(key, value, "VALUE")

    def delete(self, key: str) -> None:
        self.bus().send(logs.RESULTS, "deleted", self.path(key), None)

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

    def _add_pending_result(self, task_id: str, result: Any, weak: bool = False) -> None:
        super()._add_pending_result(task_id, result, weak=weak)
        self.result_consumer.recall(task_id)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        if not task_join_will_block():
            self.result_consumer.consume_from(task_id)

    # --- chords ---

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **options: Any) -> None:
        """Tells how the results are nested, if they are."""
        chord, results, *_ = header_result_args
        if isinstance(results, (list, tuple)) and any(isinstance(one, GroupResult) for one in results):
            header = self.encode(self.app.GroupResult(*header_result_args).as_tuple())
            self._tell(chord, logs.HEADER, header.encode() if isinstance(header, str) else header)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        self._tell(group_id, logs.SIZE, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        self._tell(chord_id, logs.MORE, 1)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        """Whoever ends the last task of a chord sends its body: once, unless that process is killed meanwhile."""
        task, chord = request.id, request.group
        if not task or not chord:
            return
        value = self.encode([state, self.encode_result(result, state)])
        self._tell(chord, logs.ENDED, logs.ended(task, request.group_index, value))
        chords: Chords = self._log(Chords)
        chords.read()
        told = chords.values.get(self._chord(chord))
        if told is None or not told.is_over_with(task):
            return
        body = maybe_signature(request.chord, app=self.app)
        try:
            body.delay(self._joined(told))
        except Exception as error:
            _log.exception("the chord %s failed", chord)
            failed = error if isinstance(error, ChordError) else ChordError(f"Join error: {error!r}")
            self.chord_error_from_stack(body, failed)
        finally:
            self._tell(chord, logs.OVER, None)

    def _joined(self, chord: Chord) -> list[Any]:
        if chord.header is None:
            return [self._value(task, value) for task, value in chord.values()]
        header = result_from_tuple(self.decode(chord.header), self.app)
        header.on_ready()  # its tasks have all ended: groups in it are not waited for
        with allow_join_result():
            joined: list[Any] = header.join_native(timeout=self.app.conf.result_chord_join_timeout, propagate=True)
            return joined

    def _value(self, task: str, value: bytes) -> Any:
        state, result = self.decode(value)
        if state in states.EXCEPTION_STATES:
            result = self.exception_to_python(result)
        if state in states.PROPAGATE_STATES:
            raise ChordError(f"Dependency {task} raised {result!r}") from result
        return result

    def _tell(self, chord: str, kind: str, data: Any) -> None:
        self.bus().send(logs.CHORDS, kind, self._chord(chord), data)

    def _chord(self, chord: str) -> str:
        return self.path(self.get_key_for_chord(chord))

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})
