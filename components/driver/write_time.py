"""Unique, increasing write times for all writes of this process.

Of two writes to one cell Cassandra keeps the one with the greater write time, and with equal write times the one with
the greater value. So the last write wins only if no two writes have the same time, as statements of a batch without
their own times have. Every session of the process takes its write times from here, and so does every row of a batch.

Two processes may still write in the same microsecond; then the order of their writes is undefined.
"""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def write_time() -> int:
    """Returns microseconds since 1970: now, or the last returned value plus one if that is greater."""
    global _last
    with _lock:
        _last = max(time.time_ns() // 1000, _last + 1)
        return _last


def write_times(count: int) -> int:
    """Reserves `count` write times that follow one another; returns the first: the last is now, or later if it must."""
    global _last
    with _lock:
        first = max(time.time_ns() // 1000 - count + 1, _last + 1)
        _last = max(_last, first + count - 1)
        return first


def _replace_lock() -> None:
    """Replaces the lock in a forked child, where the thread that may hold it does not exist."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_replace_lock)
