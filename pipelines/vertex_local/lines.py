"""What a run writes to the terminal: a line for each task as it ends, and for those that run while they do."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from tfx_cassandra.components.progress import REPEAT_EVERY, REWRITE_EVERY

_WORDS = {'CACHED': 'reused', 'SKIPPED': 'skipped', 'FAILED': 'failed', 'CANCELLED': 'cancelled'}


class Lines:
    """Writes the lines; a context manager, for the one that is rewritten while steps run."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Lines:
        self._ticker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._ticker.join()

    @contextlib.contextmanager
    def running(self, task: str) -> Iterator[None]:
        """Shows a task as running."""
        self._began[task] = time.monotonic()
        try:
            yield
        finally:
            del self._began[task]

    def ended(self, task: str, state: str, seconds: float, error: str = '') -> None:
        """Writes the line of a task that has ended."""
        said = f': {_WORDS[state]}' if state in _WORDS else ''
        self._write(f'{task}{said}{f" ({error})" if error else ""} ... {seconds:.1f} s')

    def note(self, task: str, text: str) -> None:
        """Writes a line on a task that runs on."""
        self._write(f'{task}: {text}')

    def _tick(self) -> None:
        while not self._done.wait(REWRITE_EVERY if self._terminal else REPEAT_EVERY):
            now = time.monotonic()
            running = ', '.join(f'{task} {now - began:.0f} s' for task, began in dict(self._began).items())
            if running:
                self._write(f'running: {running}', stays=not self._terminal)

    def _write(self, line: str, stays: bool = True) -> None:
        with self._lock:
            erase = '\r\x1b[K' if self._terminal else ''
            self._stream.write(f'{erase}{line}' + ('\n' if stays else ''))
            self._stream.flush()
