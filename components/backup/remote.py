"""Files of an object store, read in ranges: what follows is fetched while what came is decoded.

A reader of many files must not fill the memory: all files together that are read at a time hold BUDGET bytes at most,
besides what one read asks for.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from tfx_cassandra.components.errors import ReadError

BUDGET = 256 << 20  # bytes of all files that are read at a time
LARGEST = 8 << 20  # bytes of a request
THREADS = 16  # requests ahead at a time
T = TypeVar('T')

_read: weakref.WeakSet[RemoteFile] = weakref.WeakSet()  # files that hold bytes


class _Store(Protocol):
    """What a file needs of its store; see stores.Store."""

    @property
    def filesystem(self) -> Any: ...

    def path(self, path: str) -> str: ...

    def at(self, path: str) -> str: ...

    def asked(self, path: str, request: Callable[[], T]) -> T: ...


class RemoteFile:
    """A file of an object store. It is pickled to workers: it holds no connection, and leaves its bytes behind.

    A read that goes on where the last one ended gets its bytes from a larger request, and the next such request is on
    its way by then; any other read is a request of its own. So readers at the same time each have their own `in_order`.

    Args:
      store: The store.
      path: Its path in the store.
      size: Number of its bytes.
    """

    def __init__(self, store: _Store, path: str, size: int) -> None:
        self.store, self._path, self.size = store, path, size
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._start, self._bytes = 0, b''  # what has been read ahead
        self._next: tuple[int, int, Future[bytes]] | None = None  # start, length and bytes that are on their way
        self._end, self._block = -1, 0  # where the last read ended, and bytes of the last request
        self._expected = self.size  # where the last read probably ends

    def __getstate__(self) -> tuple[_Store, str, int]:
        return self.store, self._path, self.size

    def __setstate__(self, state: tuple[_Store, str, int]) -> None:
        self.store, self._path, self.size = state
        self._forget()

    def in_order(self, end: int) -> RemoteFile:
        """Returns this file for one reader, which reads it in order, probably up to byte `end`.

        Nothing behind that byte is read ahead. Where the reader goes on, requests begin small and grow anew.
        """
        found = RemoteFile(self.store, self._path, self.size)
        found._expected = min(end, self.size)
        return found

    def read(self, start: int, length: int) -> bytes:
        """Returns the bytes from `start` on: `length` of them, or fewer where the file ends.

        Raises:
          ReadError: The store does not give them, however often it is asked, or the file is shorter than it was.
        """
        length = max(0, min(length, self.size - start))
        with self._lock:
            if start == self._end:
                found = self._sequential(start, length)
            else:
                found = self._fetched(start, length)
                self._let_go()
                self._block = length
            self._end = start + length
        return found

    def _let_go(self) -> None:
        self._bytes, self._next = b'', None
        _read.discard(self)

    def _sequential(self, start: int, length: int) -> bytes:
        """Returns bytes behind the last ones, and asks for those behind them."""
        parts = [self._bytes[start - self._start : start - self._start + length]] if self._bytes else []
        missing = length - sum(map(len, parts))
        while missing:
            at = start + length - missing
            self._start, self._bytes = at, self._taken(at, missing)
            parts.append(self._bytes[:missing])
            missing -= len(parts[-1])
        if start + length >= self.size:
            self._let_go()
        return b''.join(parts)

    def _taken(self, start: int, least: int) -> bytes:
        """Returns the bytes of the request that is on its way, or of a new one, and starts the next."""
        _read.add(self)
        anew = start >= self._expected  # the reader goes on behind its expected end
        if anew:
            self._expected, self._block = self.size, 0
        if self._next is not None and self._next[0] == start:
            _, length, ahead = self._next
            found = ahead.result()
        else:
            length = max(least, self._grown(start))
            found = self._fetched(start, length)
        self._block = length
        following = start + length
        following_length = 0 if anew else self._grown(following)
        self._next = None
        if following_length > 0:
            ahead = _threads(os.getpid()).submit(self._fetched, following, following_length)
            self._next = following, following_length, ahead
        return found

    def _grown(self, start: int) -> int:
        """Returns the bytes of the next request: twice the last ones, to the expected end and as each file may hold."""
        grown = min(2 * self._block, LARGEST, BUDGET // (2 * max(1, len(_read))))
        return min(max(1, grown), self._expected - start)

    def _fetched(self, start: int, length: int) -> bytes:
        def request() -> bytes:
            with self.store.filesystem.open_input_file(self.store.path(self._path)) as file:
                return bytes(file.read_at(length, start))

        if not length:
            return b''
        found = self.store.asked(self._path, request)
        if len(found) != length:
            rule = f'{self.size}, as when the backup was opened'
            raise ReadError(f'{self.store.at(self._path)}: got an end at byte {start + len(found)}, rule: {rule}')
        return found


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Returns the threads of a process that read ahead; a forked child has its own."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix='backup-read-ahead')
