"""``send -``: lines of JSON, sent in batches as they arrive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, NoReturn

from eventbus.bus import Bus
from eventbus.errors import EventBusError, InvalidError

BATCH = 256
CHUNK = 1 << 16

Line = tuple[int, bytes]  # its number, from 1


@dataclass
class Feed:
    """Sends one event per line, all with the same system, kind, path and headers; ``sent`` counts them."""

    bus: Bus
    system: str
    kind: str
    path: str
    headers: Mapping[str, str]
    sent: int = 0

    def run(self, source: BufferedReader, advance: Callable[[int, int], None]) -> None:
        """Sends until the source ends.

        Args:
            source: lines of JSON; empty ones are skipped.
            advance: told after each batch how many bytes it was and how many events have been sent.

        Raises:
            As ``Bus.send``, with the number of events sent before; InvalidError names the line.
        """
        try:
            for batch in batches(source):
                self._send(batch)
                advance(sum(len(line) + 1 for _, line in batch), self.sent)
        except EventBusError as error:
            raise type(error)(f"{error.message} ({self.sent} events were sent)", **error.details) from error

    def _send(self, batch: list[Line]) -> None:
        try:
            self.sent += self.bus.send_many([self._event(line) for _, line in batch])
        except InvalidError:  # then nothing of the batch was sent: find the line, and send those before it
            for number, line in batch:
                self._send_alone(number, line)

    def _send_alone(self, number: int, line: bytes) -> None:
        try:
            self.sent += self.bus.send_many([self._event(line)])
        except InvalidError as error:
            raise type(error)(f"line {number}: {error.message}", **error.details, line=number) from error

    def _event(self, line: bytes) -> tuple[str, str, str, Any, Mapping[str, str]]:
        return self.system, self.kind, self.path, parse(line), self.headers


def parse(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidError: it is none.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise InvalidError(f"the data is not JSON: {error.msg} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the data is not JSON: {error}") from error


def parse_headers(texts: list[str]) -> dict[str, str]:
    """The headers of ``name=value`` each.

    Raises:
        InvalidError: one of them is not that, or a name comes twice.
    """
    headers: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise InvalidError(f"the header {text!r} is not NAME=VALUE", header=text)
        if name in headers:
            raise InvalidError(f"the header {name!r} was given twice: an event has one of each name", header=name)
        headers[name] = value
    return headers


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


def batches(source: BufferedReader) -> Iterator[list[Line]]:
    """The lines that are not empty, as many together as are there: none waits for the next one to be written."""
    number = 0
    for lines in _whole_lines(source):
        numbered = [(number + i, line) for i, line in enumerate(lines, 1) if line.strip()]
        number += len(lines)
        yield from (numbered[i : i + BATCH] for i in range(0, len(numbered), BATCH))


def _whole_lines(source: BufferedReader) -> Iterator[list[bytes]]:
    parts: list[bytes] = []
    while chunk := source.read1(CHUNK):
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield b"".join([*parts, whole]).split(b"\n")
            parts = []
        parts.append(rest)
    if any(parts):
        yield [b"".join(parts)]
