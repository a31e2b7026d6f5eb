"""Gathers small record batches into larger ones: what a batch costs, whatever its size, is then paid less often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

GATHER_ROWS = 50_000
GATHER_BYTES = 64 << 20  # so that wide rows are not held by the thousands


class Held:
    """Batches that wait to be combined, up to `rows` rows and `size` bytes."""

    def __init__(self, rows: int = GATHER_ROWS, size: int = GATHER_BYTES) -> None:
        self._most_rows, self._most_bytes = rows, size
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Holds a batch; yields those before it, combined, if they are too many with it."""
        if self._rows + batch.num_rows > self._most_rows or self._bytes + batch.nbytes > self._most_bytes:
            yield from self.combined()
        if batch.num_rows:
            self._batches.append(batch)
            self._rows, self._bytes = self._rows + batch.num_rows, self._bytes + batch.nbytes

    def combined(self) -> Iterator[pa.RecordBatch]:
        """Yields what is held as one batch, if there is any, and holds nothing."""
        if self._batches:
            yield pa.Table.from_batches(self._batches).combine_chunks().to_batches()[0]
        self._batches, self._rows, self._bytes = [], 0, 0


def gathered(
    batches: Iterable[pa.RecordBatch], rows: int = GATHER_ROWS, size: int = GATHER_BYTES
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of batches in their order, in batches of up to `rows` rows and `size` bytes.

    A batch is never cut: one that is larger by itself stays as it is. Batches without rows are left out.
    """
    held = Held(rows, size)
    for batch in batches:
        yield from held.add(batch)
    yield from held.combined()


__all__ = ['GATHER_BYTES', 'GATHER_ROWS', 'Held', 'gathered']
