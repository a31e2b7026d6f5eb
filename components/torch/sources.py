"""What an epoch reads: units of rows, each in the same order every time.

`TableSource`: a unit is a range of tokens, cut alike by all readers; see scan/units.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import pyarrow as pa

from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.ledger import Coverage
from tfx_cassandra.components.scan.options import Fetches, ReadRequest
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.source import check_unchanged, opened, plan_splits
from tfx_cassandra.components.scan.units import Units
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
        parts = (
            request.full_table, request.columns, str(request.window), request.time_column, request.filters,
            request.as_of, self.ranges,
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
        with opened(self.request) as fetches:
            yield _OpenTable(self, plan, fetches)


class _OpenTable:
    def __init__(self, source: TableSource, plan: Plan, fetches: Callable[[Scan, int], Fetches]) -> None:
        self._request, self._plan = source.request, plan
        self._units = Units(fetches, source.request, plan, source.ranges)
        table = plan.scan.table
        keys = {*table.partition_key, *table.clustering} if not table.has_static else set(table.partition_key)
        self.rows = Rows(
            str(table.identity.id if table.identity else ''),
            frozenset(keys),
            frozenset(name for name in plan.scan.columns if dict(table.types)[name] == 'decimal'),
        )

    def read(self, unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        return self._rows(unit, self._units.read(unit, in_order=True))

    def _rows(self, unit: int, found: Iterator[pa.RecordBatch | Coverage]) -> Iterator[pa.RecordBatch | UnitRead]:
        kept = 0
        for item in found:
            if isinstance(item, Coverage):
                yield UnitRead(unit, item.rows, kept, item.bytes, item.checksum)
            else:
                kept += item.num_rows
                yield item

    def check(self) -> None:
        check_unchanged(self._request, self._plan)


__all__ = ['OpenSource', 'Rows', 'Source', 'TableSource']
