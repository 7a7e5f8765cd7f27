"""What integrations keep beside a bus, in files of their own, which go with it."""

from __future__ import annotations

import os
import re

_PLACE = "/dev/shm"


def list_kept() -> list[str]:
    """The names of buses beside which something is kept, whether they are there or not."""
    found = (re.match(r"eventbus-kombu\.(.+)\Z", file) for file in os.listdir(_PLACE))
    return sorted(match[1] for match in found if match)


def is_kept(name: str) -> bool:
    """Whether there is anything beside a bus of that name."""
    return os.path.lexists(_path(name))


def remove_kept(name: str) -> bool:
    """Removes it, before the bus itself: what is made meanwhile for the old bus, the next one of the name begins anew.

    So it does with a file of another user's, which stays.

    Returns:
        whether there was any that is gone now.

    Raises:
        OSError: what has the name of the file cannot be removed.
    """
    try:
        if is_kept(name):  # where it is not, a file system that is read-only refuses even that
            os.unlink(_path(name))
            return True
    except (FileNotFoundError, PermissionError):
        pass
    return False


def _path(name: str) -> str:
    return f"{_PLACE}/eventbus-kombu.{name}"
