"""A scan in units that can be read one by one: ranges of tokens of equal width, however the cluster looks.

All readers cut the ring alike, now and later. Within a unit the scan's own plan is followed: which nodes are asked, how
large pages are, where giant partitions are cut; and its own ledger proves that the unit was read exactly once.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from tfx_cassandra.components.scan import ledger, ring
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import Fetches, ReadRequest
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan


class Units:
    """The units of a planned scan.

    Args:
      fetches: What `source.opened` gives.
      request: What is read.
      plan: Its plan.
      count: Number of units.
    """

    def __init__(self, fetches: Callable[[Scan, int], Fetches], request: ReadRequest, plan: Plan, count: int) -> None:
        self._request, self._plan = request, plan
        self._ranges = ring.RING.split(count)
        self._splits = sorted(plan.splits, key=lambda split: split.area.order())
        self._starts = [split.area.tokens.start for split in self._splits]
        self._ends = [split.area.tokens.end for split in self._splits]  # in order, too: they do not overlap
        self._fetches = fetches(plan.scan, plan.page_rows)

    def read(self, unit: int, in_order: bool = False) -> Iterator[pa.RecordBatch | Coverage]:
        """Requests the first rows of a unit; returns its rows, and last what was read.

        Args:
          unit: Its number, from 0.
          in_order: Whether rows come in the same order each time.

        Raises:
          ReadError, CoverageError: (from the iteration) Not all of it could be read once.
        """
        tokens = self._ranges[unit]
        first, last = bisect.bisect_right(self._ends, tokens.start), bisect.bisect_left(self._starts, tokens.end)
        inside = self._splits[first:last]
        splits = [split._replace(area=area) for split in inside if (area := split.area.within(tokens)) is not None]
        wanted = [area for whole in self._plan.wanted if (area := whole.within(tokens)) is not None]
        return self._rows(self._fetches.fetch(splits, in_order=in_order), wanted)

    def _rows(self, pages: Iterator[Any], wanted: list[Area]) -> Iterator[pa.RecordBatch | Coverage]:
        reads: list[RangeRead] = []
        yield from self._request.rows(pages, self._plan.scan, reads)
        yield ledger.verified(reads, wanted)
