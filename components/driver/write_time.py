"""The write times of this process: no two are the same, and a later one is greater.

Of two writes to one cell Cassandra keeps the one with the greater write time, and of two with the same write time the
greater value. So what is written last wins only where no two writes share a time, as the statements of a batch do that
bring none of their own. Every session of the process takes its write times from here, and so does every row of a batch.

Two processes may still write at the same microsecond: which of two such writes was later, nobody knows.
"""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def write_time() -> int:
    """Returns microseconds since 1970: now, or one more than what was returned last where that is greater."""
    global _last
    with _lock:
        _last = max(time.time_ns() // 1000, _last + 1)
        return _last


def _unlock() -> None:
    """Goes on from where the parent was, in a forked child, which has no thread that holds the parent's lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)
