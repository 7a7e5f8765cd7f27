"""The file of a recording as it is written: whole lines, at whatever instant its writer dies, and on behind them.

What is compressed is a row of parts, each of them complete by itself: what a killed writer left unfinished is its last
part, and is cut off before the next writer goes on. A file that is not compressed is cut behind its last line break.
"""

from __future__ import annotations

import fcntl
import gzip
import importlib
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventbus.cli.recording import GZIP, ZSTANDARD, Recorded, recorded
from eventbus.errors import InvalidError, UnavailableError

PART = 1 << 20  # bytes of lines that are compressed together; fewer when no events come
CHUNK = 1 << 18
PLAIN = b'{"system":'  # what a recording begins with, of which a killed writer may have left a part; or, by its name,
BEGINS = {".gz": GZIP, ".zst": ZSTANDARD}
MISSING = "it takes zstandard to write this: pip install 'eventbus[zstandard]', or use a name that ends in .gz"


class Recorder:
    """Lines go into a file that nobody else writes to. Made by ``recorder``.

    Attributes:
        last: the event of the last whole line that was there before; None if there was none.
    """

    def __init__(self, file: io.FileIO, pack: Callable[[bytes], bytes] | None, last: Recorded | None) -> None:
        self._file = file
        self._pack = pack
        self._lines: list[bytes] = []
        self._size = 0
        self.last = last

    @property
    def pending(self) -> bool:
        """Whether lines wait for others to be compressed with."""
        return bool(self._lines)

    def add(self, lines: list[bytes]) -> None:
        """Writes them, or keeps them until there are enough."""
        self._lines += lines
        self._size += sum(map(len, lines))
        if self._pack is None or self._size >= PART:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._lines:
            text = b"\n".join([*self._lines, b""])
            whole = memoryview(text if self._pack is None else self._pack(text))
            self._lines, self._size = [], 0
            while whole:
                whole = whole[self._file.write(whole) :]


@contextmanager
def recorder(name: str) -> Iterator[Recorder]:
    """What writes the recording of this name, behind what is there; whatever ends it, what waits is written.

    Raises:
        InvalidError: what is there is no such recording, or somebody else is writing it.
        UnavailableError: what compresses it is not installed.
        OSError: it cannot be written.
    """
    pack, unpacked = _packing(name)
    with open(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidError(f"somebody else is recording to {name!r}: choose another file") from error
        last = _go_on(file, unpacked, name) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
        made = Recorder(file, pack, last)
        try:
            yield made
        finally:
            made.flush()


def _packing(name: str) -> tuple[Callable[[bytes], bytes] | None, Callable[[], Any] | None]:
    """What makes a part of a text, and what reads one, each by a fresh object with ``decompress``, ``eof`` and
    ``unused_data``."""
    kind = os.path.splitext(name)[1]
    if kind == ".gz":
        return (lambda text: gzip.compress(text, 6)), (lambda: zlib.decompressobj(zlib.MAX_WBITS | 16))
    if kind != ".zst":
        return None, None
    try:
        zstd: Any = importlib.import_module("compression.zstd")
        return zstd.compress, zstd.ZstdDecompressor
    except ModuleNotFoundError:  # Python 3.14 brought it
        pass
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError as error:
        raise UnavailableError(MISSING) from error
    return zstandard.ZstdCompressor().compress, zstandard.ZstdDecompressor().decompressobj


def _go_on(file: io.FileIO, unpacked: Callable[[], Any] | None, name: str) -> Recorded | None:
    """Cuts off what is not whole, of a recording and of nothing else; the last event before that."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        return None
    end, text = _whole_lines(file, size) if unpacked is None else _whole_parts(file, unpacked, name)
    last = text.rstrip(b"\n").rpartition(b"\n")[2]
    begin = BEGINS.get(os.path.splitext(name)[1], PLAIN)
    try:
        event = recorded(last) if last else None
    except InvalidError as error:
        raise InvalidError(f"the last line of {name!r}: {error.message}; choose another file") from error
    if event is None and not begin.startswith(os.pread(file.fileno(), len(begin), 0)):
        raise InvalidError(f"{name!r} is there, and is no recording that could go on: choose another file")
    os.ftruncate(file.fileno(), end)
    file.seek(end)
    return event


def _whole_lines(file: io.FileIO, size: int) -> tuple[int, bytes]:
    """Searched from the end: up to and with the last line break; and the last line."""
    tail = b""
    for begin in range((size - 1) // CHUNK * CHUNK, -1, -CHUNK):
        tail = os.pread(file.fileno(), CHUNK, begin) + tail
        whole = tail[: tail.rfind(b"\n") + 1]
        if whole.count(b"\n", 0, -1) or begin == 0:
            return begin + len(whole), whole
    return 0, b""


def _whole_parts(file: io.FileIO, unpacked: Callable[[], Any], name: str) -> tuple[int, bytes]:
    """Up to and with the last part that is complete; and its text. A killed writer leaves nothing that is wrong."""
    end = position = 0
    part, text, last = unpacked(), [b""], b""
    while chunk := os.pread(file.fileno(), CHUNK, position):
        position += len(chunk)
        while chunk:
            try:
                text.append(part.decompress(chunk))
            except Exception as error:
                if not _is_damage(error):
                    raise
                raise InvalidError(f"{name!r} is damaged after byte {end}: choose another file") from error
            if not part.eof:
                break
            chunk = part.unused_data
            end, last = position - len(chunk), b"".join(text)
            part, text = unpacked(), [b""]
    return end, last


def _is_damage(error: Exception) -> bool:
    return isinstance(error, zlib.error) or type(error).__name__ == "ZstdError"
