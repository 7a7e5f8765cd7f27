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
    written = BytesIO()
    pickler = pickle.Pickler(written, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _WAYS
    pickler.dump(obj)
    return written.getvalue()


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
