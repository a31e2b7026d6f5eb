"""Progress of steps: one line for each, with its duration, on a terminal or in a log.

    with step('ingest weather') as s:
        s.update('12,000 rows')

ends as `ingest weather: 12,000 rows ... 3.1 s`. Steps cannot be nested.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

SHOW_AFTER = 2.0  # seconds before a running step is shown on a terminal
REWRITE_EVERY = 0.5  # seconds between updates of the line on a terminal
REPEAT_EVERY = 10.0  # seconds between lines where a line cannot be rewritten, as in a log


class Step:
    """A running step: its label, its latest detail and its duration."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._detail = ''
        self._started = time.monotonic()

    def update(self, detail: str) -> None:
        """Sets the latest detail, such as a count; the last one is shown in the step's final line."""
        self._detail = detail

    @property
    def seconds(self) -> float:
        """Returns the seconds since the step began."""
        return time.monotonic() - self._started

    def __str__(self) -> str:
        return f'{self._label}: {self._detail}' if self._detail else self._label


@contextmanager
def step(label: str, stream: TextIO | None = None) -> Iterator[Step]:
    """Runs a block as one step and writes its line with its duration to a stream.

    Args:
        label: what the step does, without a line break.
        stream: where the line is written; by default the current standard error stream.

    Yields:
        The running step; its `update` sets the detail.
    """
    out = sys.stderr if stream is None else stream
    running, done = Step(label), threading.Event()
    ticker = threading.Thread(target=_show_progress, args=(running, out, done), daemon=True)
    ticker.start()
    outcome = 'failed after '
    try:
        yield running
        outcome = ''
    finally:
        done.set()
        ticker.join()
        erase = '\r\x1b[K' if out.isatty() else ''
        out.write(f'{erase}{running} ... {outcome}{running.seconds:.1f} s\n')
        out.flush()


def _show_progress(running: Step, out: TextIO, done: threading.Event) -> None:
    terminal = out.isatty()
    pause = SHOW_AFTER if terminal else REPEAT_EVERY
    while not done.wait(pause):
        line = f'{running} ... {running.seconds:.0f} s'
        # A line wider than the terminal would wrap, and only its last row could be rewritten.
        out.write(f'\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K' if terminal else f'{line}\n')
        out.flush()
        pause = REWRITE_EVERY if terminal else REPEAT_EVERY
