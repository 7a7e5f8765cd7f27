"""Items of queues as bytes: pickled as multiprocessing does it, and read so that no signal loses one."""

from __future__ import annotations

import pickle
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from typing import Any

from eventbus import Event


class Broken(Exception):
    """An item that cannot be unpickled, for the reason that is its cause."""


def dumps(obj: object) -> bytes:
    """Connections, sockets and locks go by multiprocessing's own ways; what is none of Python's own types is asked."""
    if type(obj) in _PLAIN:
        return pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)
    try:
        pen = _PENS.pop()
    except IndexError:
        pen = _Pen()
    pen.dump(obj)
    data = pen.written.getvalue()
    if len(data) < _REUSED_BYTES:
        pen.written.seek(0)
        pen.written.truncate()
        pen.forget()
        _PENS.append(pen)
    return data


class _Pen:
    """A pickler and what it writes to. Whoever uses it has it alone, also amid another's use in the same thread."""

    __slots__ = ("dump", "forget", "written")

    def __init__(self) -> None:
        self.written = BytesIO()
        pickler = pickle.Pickler(self.written, pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table = _WAYS
        self.dump, self.forget = pickler.dump, pickler.clear_memo


_PENS: list[_Pen] = []
_REUSED_BYTES = 65536  # of one that wrote more, what it remembers would cost all that follow
_PLAIN = frozenset((int, float, str, bytes, bool, type(None)))
_WAYS = ForkingPickler(BytesIO()).dispatch_table  # a view of what is registered, also later


def loaded(event: Event) -> Any:
    """The item of an event.

    Raises:
        Broken: it fails at the second try too; else what it raised was a signal handler's, and it is to come again.
    """
    try:
        return pickle.loads(event.data)
    except Exception as error:
        try:
            pickle.loads(event.data)
        except Exception:
            raise Broken from error
        raise


def loaded_or_broken(event: Event) -> Any:
    """The same, with the error in place of the item."""
    try:
        return pickle.loads(event.data)
    except Exception:
        try:
            return loaded(event)
        except Broken as broken:
            return broken
