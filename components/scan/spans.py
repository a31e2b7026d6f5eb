"""The spans of a scan: one of all that a worker reads at once, and in it one of each area."""

from __future__ import annotations

from types import TracebackType

from tfx_cassandra.components import tracing
from tfx_cassandra.components.scan.reading import Reading
from tfx_cassandra.components.tracing import Span


class ScanSpans:
    """Spans that begin when they are made, and end with the block, however it ends.

    Args:
      table: Names the table.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._scan = tracing.begin('scan', table)
        self._areas: dict[int, tuple[Reading, Span]] = {}
        self._rows = self._bytes = 0

    def __enter__(self) -> ScanSpans:
        return self

    def begin(self, reading: Reading) -> None:
        """Begins the span of an area, unless it has begun."""
        if id(reading) not in self._areas:
            self._areas[id(reading)] = reading, tracing.begin('read_split', self._table, self._scan)

    def end(self, reading: Reading, error: BaseException | None = None) -> None:
        """Ends the span of an area that is read, or cannot be."""
        _, span = self._areas.pop(id(reading))
        read = reading.read
        self._rows, self._bytes = self._rows + read.rows, self._bytes + read.bytes
        span.set(tokens=str(read.area.tokens), rows=read.rows, bytes=read.bytes, pages=read.pages, retries=read.retries)
        span.end(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reading, _ in list(self._areas.values()):
            self.end(reading, error)
        self._scan.set(rows=self._rows, bytes=self._bytes)
        self._scan.end(error)
