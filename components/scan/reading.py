"""One area being read, and what a failure calls for: a pause, the next replica, a smaller page, a smaller area.

UNREACHED  no node answers              -> the next replica, after a pause
SLOW       a node answers too late      -> that, with half the page; from the fourth time on, with half the area
TOO_MUCH   a node refuses what it read  -> half the page and half the area at once: waiting does not help
a page comes                            -> all is forgiven; after some more, the page grows again

How many rows a page may have by the bytes of those before it, page_size.py says.
"""

from __future__ import annotations

import dataclasses
import enum
import random

from tfx_cassandra.components.scan.area import Area, Position, cut
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.page_size import PAGE_BYTES, PageSize
from tfx_cassandra.components.scan.plan import SPLIT_BYTES, Split
from tfx_cassandra.components.scan.query import Scan

RETRIES = 6  # of one page, where nodes cannot be reached
BUDGET = 64  # failures of a split and all it was cut into, without a page in between
_UNCUT = 12  # failures of one page of an area that no cut is left for
_HALVINGS = 3  # of the page before the area is cut
_OVERSIZED = 2 * SPLIT_BYTES
_RECOVERY = 8  # pages without a failure, after which the page doubles
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds


class Trouble(enum.Enum):
    """Why a page did not come."""

    UNREACHED = 'no node, or too few, can be reached'
    SLOW = 'a node did not answer in time, or is overloaded'
    TOO_MUCH = 'a node will not answer: too many tombstones, say'


@dataclasses.dataclass
class Budget:
    """Failures since the last page of a split or of anything it was cut into."""

    failures: int = 0


@dataclasses.dataclass
class Reading:
    """One area being read.

    Attributes:
      read: Its entry in the ledger so far.
      replicas: Nodes that hold it; empty to leave the choice to the driver.
      pages: How large its pages may be by what has come.
      limit: Rows of a page at most, because larger ones have failed.
      budget: Shared with all that its split was cut into.
      paging_state: Where the next page begins; None for the first.
      position: How far it has come; None before the first row.
      turn: Which of the replicas is asked.
      failures: Failures since the last page.
      good: Pages since the last failure.
      since_cut: Bytes read since it was last cut.
    """

    read: RangeRead
    replicas: tuple[str, ...]
    pages: PageSize
    limit: int
    budget: Budget = dataclasses.field(default_factory=Budget)
    paging_state: bytes | None = None
    position: Position | None = None
    turn: int = 0
    failures: int = 0
    good: int = 0
    since_cut: int = 0

    @classmethod
    def of(cls, split: Split, page_rows: int, page_bytes: int = PAGE_BYTES) -> Reading:
        """Begins a split, with pages of at most `page_rows` rows that aim at `page_bytes` bytes."""
        pages = PageSize(page_rows, split.first_rows or page_rows, page_bytes, split.row_bytes)
        return cls(RangeRead(split.area), split.replicas, pages, pages.most)

    @property
    def area(self) -> Area:
        return self.read.area

    @property
    def node(self) -> str:
        """The node that is asked next, `address:port`, or '' for the driver's choice."""
        return self.replicas[self.turn % len(self.replicas)] if self.replicas else ''

    @property
    def size(self) -> int:
        """Rows of the next page."""
        return min(self.pages.rows, self.limit)

    @property
    def oversized(self) -> bool:
        """Whether it has turned out much larger than planned; that depends on the rows alone, so it repeats."""
        return self.since_cut > _OVERSIZED

    def came(self, rows: int, size: int, paging_state: bytes | None) -> None:
        """Notes a page of `rows` rows and `size` bytes, after which the read goes on at `paging_state`."""
        self.paging_state = paging_state
        self.failures = self.budget.failures = 0
        self.good += 1
        self.since_cut += size
        if self.good % _RECOVERY == 0:
            self.limit = min(self.limit * 2, self.pages.most)
        self.pages.came(rows, size)

    def reached(self, last: Position | None, descending: bool) -> None:
        """Notes how far a page has come; None for a page without a row."""
        if last is not None:
            self.position = self.position.then(last, descending) if self.position else last

    def failed(self, trouble: Trouble) -> bool:
        """Notes a failure; returns whether the read may go on."""
        self.failures += 1
        self.budget.failures += 1
        self.good = 0
        self.turn += 1
        self.read = dataclasses.replace(self.read, retries=self.read.retries + 1)
        if trouble is Trouble.UNREACHED:
            return self.failures <= RETRIES
        # Pages that were smaller already when the area was cut get smaller still.
        smaller = self.size // 2 if self.failures > _HALVINGS else self.pages.rows >> self.failures
        self.limit = max(1, min(self.limit, smaller))
        return self.failures <= _UNCUT and self.budget.failures <= BUDGET

    def pause(self, trouble: Trouble) -> float:
        """Returns the seconds to wait after a failure: random, so that readers do not come back all at once."""
        if trouble is Trouble.TOO_MUCH:
            return 0.0
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self.failures)
        # At least half: RETRIES such pauses outlast the seconds that a driver takes to connect again.
        return random.uniform(longest / 2, longest)

    def divided(self, scan: Scan, trouble: Trouble) -> tuple[RangeRead | None, list[Reading]]:
        """Cuts what is left into smaller reads, where smaller pages have not helped or cannot.

        Returns:
          (the ledger's entry of what is done already, if anything; the reads that go on, of one area or more)
        """
        if trouble is Trouble.UNREACHED or (trouble is Trouble.SLOW and self.failures <= _HALVINGS):
            return None, [self]
        return self._cut(scan, failures=_HALVINGS)

    def shared(self, scan: Scan) -> tuple[RangeRead | None, list[Reading]]:
        """Cuts what is left of an oversized read, so that it is read at once; returns what `divided` returns."""
        self.since_cut = 0
        return self._cut(scan, failures=0)

    def _learned(self) -> PageSize:
        return dataclasses.replace(self.pages)

    def _cut(self, scan: Scan, failures: int) -> tuple[RangeRead | None, list[Reading]]:
        if self.paging_state is not None and self.position is None:  # whose place is unknown can only go on
            return None, [self]
        pieces = cut(self.area, self.position, scan.sliced_column is not None, scan.table.descending)
        if pieces is None:
            return None, [self]
        fresh = [
            Reading(RangeRead(area), self.replicas, self._learned(), self.limit, self.budget, failures=failures)
            for area in pieces.fresh
        ]
        done = None
        if pieces.done is not None:
            # What it read of the partition it stands in is counted here too: the sums over all areas are what counts.
            done, self.read = dataclasses.replace(self.read, area=pieces.done), RangeRead(pieces.rest)
        self.read, self.failures = dataclasses.replace(self.read, area=pieces.rest), failures
        return done, [self, *fresh]
