"""A proxy that passes bytes on as a bad network does: late, slowly, changed, not at all, or until it hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
from typing import Any

from proxy import Proxy


@dataclasses.dataclass(frozen=True)
class Late:
    """Passes everything on some seconds later."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Slow:
    """Passes on so many bytes a second on each connection."""

    bytes_per_second: float


@dataclasses.dataclass(frozen=True)
class Hole:
    """Keeps connections, takes new ones, and passes nothing on."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Ends the connections there are, and takes no new ones: with a reset, or in order."""

    reset: bool = True


@dataclasses.dataclass(frozen=True)
class Corrupt:
    """Flips a bit of a share of what is passed on."""

    share: float
    seed: int


NetworkFault = Late | Slow | Hole | Cut | Corrupt

_CHUNK = 1 << 16
_RESET = struct.pack('ii', 1, 0)  # SO_LINGER: what is left is thrown away, and the other side gets a reset


class TcpProxy(Proxy):
    """Listens on an address and forwards to another one; a context manager.

    Args:
      listen: Address and port to listen on.
      upstream: Address and port to forward to.
    """

    def __init__(self, listen: tuple[str, int], upstream: tuple[str, int]) -> None:
        super().__init__(listen, upstream)
        self._fault: NetworkFault | None = None
        self._random = random.Random(0)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    @contextlib.contextmanager
    def faulty(self, fault: NetworkFault) -> Any:
        """Has a fault for the length of the block."""
        self._run(self._set(fault))
        try:
            yield
        finally:
            self._run(self._set(None))

    async def _set(self, fault: NetworkFault | None) -> None:
        if isinstance(self._fault, Hole) or isinstance(fault, Cut):
            # After a hole what was swallowed is missing, so that its connections cannot go on.
            reset = not isinstance(fault, Cut) or fault.reset
            for pair in self._pairs:
                for writer in pair:
                    _end(writer, reset)
        self._fault = fault
        if isinstance(fault, Corrupt):
            self._random = random.Random(fault.seed)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if isinstance(self._fault, Cut):
                _end(writer, self._fault.reset)
                return
            with contextlib.suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection(*self._node)
                pair = (writer, far_writer)
                self._pairs.add(pair)
                try:
                    await self._both(asyncio.ensure_future(self._pump(reader, far_writer)),
                                     asyncio.ensure_future(self._pump(far_reader, writer)))  # fmt: skip
                finally:
                    self._pairs.discard(pair)
                    far_writer.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            fault = self._fault
            if isinstance(fault, Hole):
                continue
            if isinstance(fault, Late):
                await asyncio.sleep(fault.seconds)
            elif isinstance(fault, Slow):
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)
            elif isinstance(fault, Corrupt) and self._random.random() < fault.share:
                place, bit = self._random.randrange(len(chunk)), self._random.randrange(8)
                chunk = chunk[:place] + bytes([chunk[place] ^ 1 << bit]) + chunk[place + 1 :]
            writer.write(chunk)
            await writer.drain()


def _end(writer: asyncio.StreamWriter, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        else:
            writer.close()
