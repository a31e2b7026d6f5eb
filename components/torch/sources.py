"""What an epoch reads: units of rows, each in the same order every time.

`TableSource`: a unit is a range of tokens. The ring is cut into ranges of equal width whatever the cluster looks like,
so that all readers cut it alike. Within a range the scan's own plan is followed: which nodes are asked, how large pages
are, where giant partitions are cut; and its own ledger proves that the range was read exactly once.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.scan import identity, ledger, ring
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered, plan_splits
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.torch.interleave import UnitRead


class Rows(NamedTuple):
    """What is known of a source's rows.

    Attributes:
      version: Names their content as far as it is known: the table's id, or the manifest of a training set.
      required: Columns that hold no nulls.
      decimals: Columns of text that hold decimals.
    """

    version: str
    required: frozenset[str]
    decimals: frozenset[str]


class OpenSource(Protocol):
    """A source while it is read."""

    rows: Rows

    def read(self, unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        """Requests the first rows of a unit; returns its rows, and last its UnitRead."""

    def check(self) -> None:
        """Raises an error if the source is not the one that was opened any more."""


class Source(Protocol):
    """What can be read; it is pickled to workers and holds no connection."""

    @property
    def units(self) -> int:
        """Number of units."""

    @property
    def digest(self) -> str:
        """A hash of what is read: equal for readers that may share an epoch."""

    def open(self) -> contextlib.AbstractContextManager[OpenSource]:
        """Connects for the duration of a `with` block."""

    def describe(self, unit: int) -> str:
        """Returns a unit as messages name it."""

    def selecting(self, columns: tuple[str, ...]) -> Source:
        """Returns the source of other columns of the same rows."""

    def prepare(self) -> None:
        """Does what has to be done once, before any process reads."""


@dataclasses.dataclass(frozen=True)
class TableSource:
    """The rows of a table.

    Attributes:
      request: What is read.
      ranges: Number of token ranges, each a unit.
    """

    request: ReadRequest
    ranges: int

    @property
    def units(self) -> int:
        return self.ranges

    @property
    def digest(self) -> str:
        request = self.request
        table = request.table if '.' in request.table else f'{request.connection.keyspace}.{request.table}'
        parts = (
            table, request.columns, str(request.window), request.time_column, request.filters, request.as_of,
            self.ranges,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def tokens(self, unit: int) -> ring.TokenRange:
        """Returns the token range of a unit."""
        return ring.RING.split(self.ranges)[unit]

    def describe(self, unit: int) -> str:
        return str(self.tokens(unit))

    def selecting(self, columns: tuple[str, ...]) -> TableSource:
        return dataclasses.replace(self, request=dataclasses.replace(self.request, columns=columns))

    def prepare(self) -> None:
        """Does nothing: a table needs no preparation."""

    @contextlib.contextmanager
    def open(self) -> Iterator[_OpenTable]:
        plan = plan_splits(self.request)
        with connections.session(self.request.connection, RawHandler) as session:
            yield _OpenTable(self, plan, session)


class _OpenTable:
    def __init__(self, source: TableSource, plan: Plan, session: Any) -> None:
        self._request, self._plan, self._session = source.request, plan, session
        self._ranges = ring.RING.split(source.ranges)
        self._splits = sorted(plan.splits, key=lambda split: split.area.order())
        self._starts = [split.area.tokens.start for split in self._splits]
        self._ends = [split.area.tokens.end for split in self._splits]  # in order, too: they do not overlap
        self._fetcher = Fetcher(session, plan.scan, self._request.planned(plan.page_rows))
        table = plan.scan.table
        keys = {*table.partition_key, *table.clustering} if not table.has_static else set(table.partition_key)
        self.rows = Rows(
            str(table.identity.id if table.identity else ''),
            frozenset(keys),
            frozenset(name for name in plan.scan.columns if dict(table.types)[name] == 'decimal'),
        )

    def read(self, unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        tokens = self._ranges[unit]
        first, last = bisect.bisect_right(self._ends, tokens.start), bisect.bisect_left(self._starts, tokens.end)
        inside = self._splits[first:last]
        splits = [split._replace(area=area) for split in inside if (area := split.area.within(tokens)) is not None]
        wanted = [area for whole in self._plan.wanted if (area := whole.within(tokens)) is not None]
        return self._rows(unit, self._fetcher.fetch(splits, in_order=True), wanted)

    def _rows(self, unit: int, pages: Iterator[Any], wanted: list[Area]) -> Iterator[pa.RecordBatch | UnitRead]:
        reads, kept, scan = [], 0, self._plan.scan
        for found in pages:
            if isinstance(found, RangeRead):
                reads.append(found)
                continue
            batch = self._request.kept(filtered(found, scan), scan)
            kept += batch.num_rows
            if batch.num_rows:
                yield batch
        coverage = ledger.verified(reads, wanted)
        yield UnitRead(unit, coverage.rows, kept, coverage.bytes, coverage.checksum)

    def check(self) -> None:
        identity.check_unchanged(self._session, self._plan.scan.table)


__all__ = ['OpenSource', 'Rows', 'Source', 'TableSource']
