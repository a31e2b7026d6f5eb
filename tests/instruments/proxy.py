"""A server between a client and a node, on an event loop in a thread of its own: what all proxies have in common."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_Self = TypeVar('_Self', bound='Proxy')


class Proxy:
    """Listens on an address; a context manager. A subclass has `_accept`, whose tasks it keeps in `_tasks`."""

    def __init__(self, listen: tuple[str, int], node: tuple[str, int]) -> None:
        self._listen, self._node = listen, node
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task] = set()

    def __enter__(self: _Self) -> _Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, *self._listen))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _both(self, *pumps: asyncio.Future) -> None:
        """Runs the two directions of a connection until one of them ends."""
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
