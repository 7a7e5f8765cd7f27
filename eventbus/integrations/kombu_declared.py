"""What kombu declares on a bus: exchanges, queues, bindings, in a file beside the segments that all share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from eventbus import SegmentError

PLACE = "/dev/shm"
_CHUNK = 1 << 20
_WORDS = {"*": r"[^.]+", "#": r".*"}


def topic(binding: str) -> re.Pattern[str]:
    """What a binding key of a topic exchange hears: ``*`` is one word, ``#`` any number of words, also none."""
    text = r"\.".join(_WORDS.get(word, re.escape(word)) for word in binding.split("."))
    return re.compile(text.replace(r".*\.", r"(?:.*\.)?").replace(r"\..*", r"(?:\..*)?"), re.DOTALL)


class Declared:
    """The declarations of one bus, as of the last ``refresh``.

    The file is a log of JSON lines, of which the first one is the bus's identity. A line is written under a lock and
    counts once it is whole, so whoever is killed in the middle of one has declared nothing.

    Attributes:
        queues: the priorities of each queue that is kept for all, the highest first.
        exchanges: the type of each exchange.
        bindings: for each exchange, pairs of routing key and queue.
    """

    def __init__(self, name: str, identity: str, mode: int) -> None:
        self.path = f"{PLACE}/eventbus-kombu.{name}"
        self._identity = identity
        self._descriptor = self._open(mode)
        self._mode = mode
        self._read_to = 0
        self._forget()
        try:
            with self._locked():
                if self._first() != identity:  # of a bus that is gone
                    os.truncate(self.path, 0)
                    self._append(["bus", identity])
            self.refresh()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file, which stays."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def refresh(self) -> None:
        """Reads what others have declared since; costs one system call where that is nothing."""
        if os.fstat(self._descriptor).st_size == self._read_to:
            return
        if self._first() != self._identity:  # another bus has the name by now: this one goes on with what it knows
            return
        text = b""
        while more := os.pread(self._descriptor, _CHUNK, self._read_to + len(text)):
            text += more
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            self._take(*json.loads(line))

    def add(self, *line: Any) -> None:
        """Declares: ``"queue", name, priority``; ``"exchange", name, type``; ``"bind"`` or ``"unbind", exchange, key,
        queue``; ``"delete", queue``; ``"drop", exchange``. What is there already is not written again."""
        self.refresh()
        if self._knows(line):
            return
        with self._locked():
            self.refresh()
            if not self._knows(line):
                self._append(line)
        self.refresh()

    def routes(self, exchange: str, key: str) -> list[str]:
        """The queues that a message to the exchange goes to."""
        bound = self.bindings.get(exchange)
        if not bound:
            return []
        how = self.exchanges.get(exchange, "direct")
        if how == "fanout":
            return list({queue: None for _, queue in bound})
        if how == "topic":
            return list({queue: None for one, queue in bound if self._topic(one).fullmatch(key)})
        return [queue for one, queue in bound if one == key]

    def _topic(self, binding: str) -> re.Pattern[str]:
        if binding not in self._topics:
            self._topics[binding] = topic(binding)
        return self._topics[binding]

    def _forget(self) -> None:
        self.queues: dict[str, list[int]] = {}
        self.exchanges: dict[str, str] = {}
        self.bindings: dict[str, dict[tuple[str, str], None]] = {}
        self._topics: dict[str, re.Pattern[str]] = {}

    def _knows(self, line: tuple[Any, ...]) -> bool:
        match line:
            case "queue", name, priority:
                return priority in self.queues.get(name, ())
            case "exchange", name, how:
                return bool(self.exchanges.get(name) == how)
            case "bind", exchange, key, queue:
                return (key, queue) in self.bindings.get(exchange, ())
            case "unbind", exchange, key, queue:
                return (key, queue) not in self.bindings.get(exchange, ())
            case "delete", queue:
                return queue not in self.queues
            case "drop", exchange:
                return exchange not in self.exchanges
        raise ValueError(f"{line!r} is no declaration")

    def _take(self, what: str, name: str, *more: Any) -> None:
        if what == "queue":
            self.queues[name] = sorted({*self.queues.get(name, ()), *more}, reverse=True)
        elif what == "exchange":
            self.exchanges[name] = more[0]
        elif what == "bind":
            self.bindings.setdefault(name, {})[more[0], more[1]] = None
        elif what == "unbind":
            self.bindings.get(name, {}).pop((more[0], more[1]), None)
        elif what == "drop":
            self.exchanges.pop(name, None)
            self.bindings.pop(name, None)
        elif what == "delete":
            self.queues.pop(name, None)
            for exchange, bound in self.bindings.items():
                self.bindings[exchange] = {pair: None for pair in bound if pair[1] != name}

    def _open(self, mode: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, mode)
        owner = os.fstat(descriptor).st_uid
        if owner not in (0, os.geteuid()) and mode & 0o077 == 0:
            os.close(descriptor)
            raise SegmentError(f"{self.path} belongs to the user {owner}: remove it, or take another name for the bus")
        return descriptor

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """A description of its own: one that a forked process inherited would share its lock with the parent."""
        with open(self.path, "rb", opener=lambda path, _: os.open(path, os.O_RDWR | os.O_CLOEXEC)) as own:
            fcntl.flock(own, fcntl.LOCK_EX)
            yield

    def _first(self) -> str | None:
        first, newline, _ = os.pread(self._descriptor, 4096, 0).partition(b"\n")
        return str(json.loads(first)[1]) if newline else None

    def _append(self, line: Any) -> None:
        """Behind the last whole line: what somebody left who was killed in the middle of one is overwritten."""
        text = json.dumps(line).encode() + b"\n"
        end = self._read_to if line[0] != "bus" else 0
        os.ftruncate(self._descriptor, end)
        os.pwrite(self._descriptor, text, end)
