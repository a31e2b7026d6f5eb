"""Runs an iterator a few items ahead of its consumer, in a thread: rows are parsed while others are written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar('T')
_END = object()
_PATIENCE = 5.0  # seconds until a thread is left that waits for standard input


def ahead(items: Iterable[T], most: int = 2) -> Generator[T, None, None]:
    """Yields the items, at most `most` of which are made ahead; an exception is raised where it would have been.

    The thread ends with the generator, which the consumer closes.
    """
    found: queue.Queue[Any] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: Any) -> None:
        while not stopped.is_set():
            try:
                found.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((_END, None))
        except BaseException as error:
            put((_END, error))

    thread = threading.Thread(target=run, name='ingest-reader', daemon=True)
    thread.start()
    try:
        while True:
            item, error = found.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join(_PATIENCE)
