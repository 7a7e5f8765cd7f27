"""Loop: the event loop of a process of a worker, made when the first handler needs it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any


class Loop:
    """All that is awaited in the process runs in it; at the end, what is still under way is cancelled."""

    def __init__(self) -> None:
        self._loop: Any = None

    def done(self, result: object) -> Any:
        """The result, once it is there if it has to be awaited."""
        if not isinstance(result, Awaitable):
            return result
        if self._loop is None:
            import asyncio  # takes longer to import than all of eventbus, and few need it

            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(result)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is None:
            return
        import asyncio

        try:
            if under_way := asyncio.all_tasks(self._loop):  # nothing gathered would be of another loop
                for task in under_way:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*under_way, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
