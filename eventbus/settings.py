"""Settings: what a TOML file says, every key and value of it known, or a sentence that names it. Pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import Any, Final

from eventbus.errors import InvalidError

_BYTES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        OSError: the file cannot be read.
        InvalidError: it is not TOML.
    """
    if sys.version_info >= (3, 11):  # here and not above: most processes read no file
        import tomllib
    else:
        import tomli as tomllib
    source = os.fspath(path)
    with open(source, "rb") as file:
        try:
            return tomllib.load(file)
        except (ValueError, RecursionError) as error:  # also of numbers too long and lists too deep for it
            raise InvalidError(f"{source}: must be valid TOML: {error}", source=source) from error


def check_keys(table: Mapping[str, object], known: Collection[str], where: str) -> None:
    """Raises InvalidError unless all keys of a table are known."""
    for key in table:
        one_of(key, known, f"{where}: a key")


def one_of(value: object, known: Collection[str], what: str) -> str:
    """The value if it is known; else an InvalidError with what is, and with the nearest."""
    if isinstance(value, str) and value in known:
        return value
    from difflib import get_close_matches  # for refusals only

    close = get_close_matches(value, known, n=1) if isinstance(value, str) else []
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    raise InvalidError(f"{what} must be {' or '.join(map(repr, known))}, not {value!r}{guess}")


def strings(value: object, what: str) -> tuple[str, ...]:
    """A list of at least one string, none of which is empty; else an InvalidError."""
    if not isinstance(value, (list, tuple)) or not value:
        raise InvalidError(f"{what} must be a list of at least one string, not {value!r}")
    for item in value:
        if not isinstance(item, str) or not item:
            raise InvalidError(f"{what} must have non-empty strings only, not {item!r}")
    return tuple(value)


def tables(value: object, key: str, source: str) -> list[Mapping[str, object]]:
    """The tables of a key that may be written several times; else an InvalidError."""
    if not isinstance(value, (list, tuple)):
        raise InvalidError(f"{source}: {key!r} must be a list of tables: write [[{key}]] above each")
    for number, one in enumerate(value, 1):
        if not isinstance(one, Mapping):
            raise InvalidError(f"{source}, {key} {number}: must be a table, not {one!r}: write [[{key}]] above each")
    return list(value)


def size(text: str) -> int:
    """The bytes that ``200M`` and the like mean.

    Raises:
        InvalidError: it means none.
    """
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _BYTES:
        raise InvalidError(f"{text!r} is no size: write bytes, or a number with K, M or G")
    return int(number) * _BYTES[unit]


def seconds(text: str) -> float:
    """The seconds that ``90s``, ``15m``, ``36h`` and ``7d`` mean.

    Raises:
        InvalidError: it means none.
    """
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _SECONDS:
        raise InvalidError(f"{text!r} is no time: write seconds, or a number with s, m, h or d")
    return float(int(number) * _SECONDS[unit])
