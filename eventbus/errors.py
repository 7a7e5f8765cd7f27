"""The kinds of failure and their classes. Imports nothing, so everything may import it."""

from __future__ import annotations

from typing import Any, ClassVar

INVALID = "INVALID"
UNAVAILABLE = "UNAVAILABLE"
CANCELED = "CANCELED"
INTERNAL = "INTERNAL"


class EventBusError(Exception):
    """The parent of every error that the bus raises itself.

    Failures of the operating system stay ``OSError``.

    Attributes:
        kind: one of this module's constants, the string of its own name.
        retryable: whether the same call may succeed later without any change.
        message: one sentence that names what to change.
        details: the figures and names in the message, by key.
    """

    kind: ClassVar[str] = INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, {key: _plain(value) for key, value in self.details.items()})


_PLAIN = (str, bytes, int, float, bool, type(None))


def _plain(value: object) -> Any:
    """What a process that gets the error by pickle sees of a value: itself, or how it is written."""
    if type(value) in _PLAIN:
        return value
    if type(value) is tuple:
        return tuple(map(_plain, value))
    if type(value) is list:
        return [*map(_plain, value)]
    return repr(value)


def _rebuild(cls: type[EventBusError], message: str, details: dict[str, Any]) -> EventBusError:
    return cls(message, **details)


class InvalidError(EventBusError, ValueError):
    """The caller asked for something that can never work as written."""

    kind = INVALID


class PolicyDeniedError(InvalidError):
    """The policy does not let this actor do this; ``details`` has actor, action and system."""


class UnavailableError(EventBusError):
    """It did not work within the time given, and may work later."""

    kind = UNAVAILABLE
    retryable = True


class FullError(UnavailableError):
    """The ring stayed full; ``details`` names the subscriber that holds it back."""


class SubscribersFullError(UnavailableError):
    """Every subscriber slot is taken; ``details["limit"]`` says how many there are."""


class ClosedError(EventBusError):
    """The bus or the subscription is closed, or belongs to the process this one was forked from."""

    kind = CANCELED


class RemoteError(EventBusError):
    """Whoever handled a request raised an error; ``details`` has its ``type``, ``text`` and ``sender``."""

    kind = INTERNAL


class SegmentError(EventBusError):
    """The shared memory is of another version, damaged, or owned by somebody not trusted.

    With a ``sequence`` in ``details`` it is about that one event, which cannot be read: it was sent with an
    ``orjson.Fragment`` that is no JSON. What comes after it is heard.
    """

    kind = INTERNAL
