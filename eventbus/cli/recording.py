"""Recordings: the lines of a file or of standard input, compressed or not."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from eventbus.cli.feed import Line, batches
from eventbus.cli.streams import standard_input
from eventbus.errors import InvalidError, UnavailableError

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what files of these begin with


def lines(name: str) -> Iterator[Line]:
    """The lines that are not empty, with their numbers from 1.

    Args:
        name: of the file; ``-`` for standard input.

    Raises:
        InvalidError: what is compressed cannot be decompressed any further; the lines before that came.
        UnavailableError: nothing that decompresses it is installed.
        OSError: it cannot be read.
    """
    number = 0
    with _opened(name) as file, _plain(file) as (source, damages):
        try:
            for batch in batches(source):
                for number, line in batch:
                    yield number, line
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
    for module, reader in (("compression.zstd", "ZstdFile"), ("zstandard", "open")):
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in ("compression", module):
                raise
        else:
            with getattr(found, reader)(file) as unpacked:
                yield unpacked, found.ZstdError
            return
    raise UnavailableError("it is compressed by zstandard: pip install zstandard, or decompress it before: zstd -dc")
