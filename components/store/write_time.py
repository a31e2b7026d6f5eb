"""The write times of this process: no two are the same, and a later one is greater.

Of two writes to one cell Cassandra keeps the one with the greater write time, and of two with the same write time the
greater value. So what is written last wins only where no two writes share a time, as the statements of a batch do that
bring none of their own. Every session of the process takes its write times from here, and so does every row of a batch.

Two processes may still write at the same microsecond: which of two such writes was later, nobody knows.
"""

from __future__ import annotations

import os

from cassandra.timestamps import MonotonicTimestampGenerator

_clock = MonotonicTimestampGenerator()


def write_time() -> int:
    """Returns microseconds since 1970: now, or one more than what was returned last where that is greater."""
    return _clock()


def _continue_in_child() -> None:
    """Goes on from where the parent was, with a lock that no thread of the parent holds."""
    global _clock
    last, _clock = _clock.last, MonotonicTimestampGenerator()
    _clock.last = last


os.register_at_fork(after_in_child=_continue_in_child)
