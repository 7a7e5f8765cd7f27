"""What a web worker has to tell the pages of all workers: what every peer of the broadcast has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette

App = Starlette
Message = dict[str, Any]


class Hub(ABC):
    """One worker's end, in its event loop."""

    @abstractmethod
    def running(self) -> AbstractAsyncContextManager[None]:
        """Return the life of the worker: connected from its beginning to its end."""

    @abstractmethod
    async def send(self, data: dict[str, Any]) -> None:
        """Tell the pages of all workers, as a handler does."""

    @abstractmethod
    def hear(self) -> AsyncGenerator[Message, None]:
        """Yield what a page of this worker is to be told, for ever."""

    @abstractmethod
    def app(self) -> App:
        """Return the application, whose pages hear at ``/events``; its lifespan is that of the worker."""


class Hubs(Protocol):
    """A medium between web workers.

    Attributes:
        files: a directory of its own.
    """

    files: Path

    def hub(self) -> Hub:
        """Return the end of one worker, in it."""

    def server_seconds(self) -> float:
        """Return the CPU seconds used so far by processes that are not workers."""
