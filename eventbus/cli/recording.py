"""Recordings: the lines of a file or of standard input, compressed or not, and what they say."""

from __future__ import annotations

import base64
import binascii
import gzip
import importlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, cast

from eventbus.cli.feed import Line, batches, parse
from eventbus.cli.streams import standard_input
from eventbus.errors import InvalidError, UnavailableError
from eventbus.event import loads

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what files of these begin with


class Recorded(NamedTuple):
    """What a line says of an event, with its number and time on the bus that it was recorded from."""

    system: str
    kind: str
    path: str
    data: Any
    headers: Mapping[str, str]
    sequence: int
    time: int


def recorded(line: bytes) -> Recorded:
    """The event of a line.

    Raises:
        InvalidError: it is none.
    """
    try:
        fields = loads(line)
    except ValueError:
        fields = parse(line)  # which says what is wrong with it
    if not isinstance(fields, dict):
        raise InvalidError("it is no event")
    for name, kind in _FIELDS.items():
        if not isinstance(value := fields.get(name), kind) or isinstance(value, bool):
            raise InvalidError(f"it is no event: its {name} is {value!r}")
    data = _bytes_of(fields["base64"]) if "base64" in fields else fields.get("data")
    if not isinstance(headers := fields.get("headers", {}), dict):
        raise InvalidError(f"it is no event: its headers are {headers!r}")
    system, kind, path = (fields[name] for name in _NAMES)
    return Recorded(system, kind, path, data, headers, fields["sequence"], fields["time"])


_NAMES = ("system", "kind", "path")
_FIELDS = {**dict.fromkeys(_NAMES, str), "sequence": int, "time": int}


def _bytes_of(text: object) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else b"?", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"its base64 is none: {error}") from error


def lines(name: str) -> Iterator[Line]:
    """As ``handfuls``, one by one."""
    return chain.from_iterable(handfuls(name))


def handfuls(name: str, watch: Callable[[int], object] = lambda _: None) -> Iterator[list[Line]]:
    """The lines that are not empty, with their numbers from 1, as many together as are there.

    Args:
        name: of the file; ``-`` for standard input.
        watch: told before each handful how many bytes have been read of the file as it is.

    Raises:
        InvalidError: what is compressed cannot be decompressed any further; the lines before that came.
        UnavailableError: nothing that decompresses it is installed.
        OSError: it cannot be read.
    """
    number = 0
    with _opened(name) as file, _plain(file) as (source, damages):
        try:
            for batch in batches(source):
                if name != "-":
                    watch(file.tell())
                yield batch
                number = batch[-1][0]
        except damages as error:
            what = "standard input" if name == "-" else repr(name)
            raise InvalidError(f"{what} cannot be decompressed after line {number}: {error}", line=number) from error


@contextmanager
def _opened(name: str) -> Iterator[io.BufferedReader]:
    """Closed afterwards, but for the descriptor of standard input."""
    if name == "-":
        with open(standard_input().fileno(), "rb", closefd=False) as file:
            yield file
    else:
        with open(name, "rb") as file:
            yield file


@contextmanager
def _plain(file: io.BufferedReader) -> Iterator[tuple[io.BufferedReader, tuple[type[Exception], ...]]]:
    """What reads the file, whatever its name is, and the errors that say that it is damaged."""
    begin = file.peek(len(ZSTANDARD))
    if begin.startswith(GZIP):
        with gzip.open(file) as unpacked:
            yield cast("io.BufferedReader", unpacked), (EOFError, zlib.error, gzip.BadGzipFile)
    elif begin.startswith(ZSTANDARD):
        with _zstandard(file) as (unpacked, damage):
            yield unpacked, (EOFError, damage)
    else:
        yield file, ()


@contextmanager
def _zstandard(file: io.BufferedReader) -> Iterator[tuple[Any, type[Exception]]]:
    """By Python's own module, which 3.14 brought, or by the package."""
    for module, reader in (("compression.zstd", _own), ("zstandard", _Frames)):
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in ("compression", module):
                raise
        else:
            yield reader(found, file), found.ZstdError
            return
    raise UnavailableError(
        "it takes zstandard to read it: pip install 'eventbus[zstandard]', or decompress it: zstd -dc"
    )


def _own(module: Any, file: io.BufferedReader) -> Any:
    return module.ZstdFile(file)


class _Frames:
    """Frame by frame as the package decompresses them: its own reader says nothing when the last one is not whole."""

    def __init__(self, module: Any, file: io.BufferedReader) -> None:
        self._begin = module.ZstdDecompressor().decompressobj
        self._file = file
        self._frame: Any = None
        self._rest = b""

    def read1(self, size: int) -> bytes:
        """What there is next; nothing at the end."""
        text = b""
        while not text:
            self._rest = self._rest or self._file.read1(size)
            if not self._rest and self._frame is not None:
                raise EOFError("it ends in the middle of a frame")
            if not self._rest:
                break
            frame = self._frame = self._frame or self._begin()
            text, self._rest = frame.decompress(self._rest), frame.unused_data
            if frame.eof:
                self._frame = None
        return text
