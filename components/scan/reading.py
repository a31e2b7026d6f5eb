"""One area being read, and how it recovers from a failure: backoff, another replica, a smaller page, a smaller area.

UNREACHABLE  no node answers              -> the next replica, after a backoff
SLOW         a node answers too late      -> the same, with half the page; from the fourth time on, with half the area
REFUSED      a node refuses the read      -> half the page and half the area at once: waiting does not help
a page arrives                            -> the failures are forgotten; after several pages, the page grows again

page_size.py decides how many rows a page may have by the bytes of earlier pages.
"""

from __future__ import annotations

import dataclasses
import enum
import random

from tfx_cassandra.components.metrics import Request
from tfx_cassandra.components.scan.area import Area, Position, cut
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.page_size import PAGE_BYTES, PageSize
from tfx_cassandra.components.scan.plan import SPLIT_BYTES, Split
from tfx_cassandra.components.scan.query import Scan

MAX_RETRIES = 6  # of one page, where nodes cannot be reached
MAX_SPLIT_FAILURES = 64  # of a split and everything it was cut into, without a page in between
_MAX_UNCUT_FAILURES = 12  # of one page of an area that cannot be cut any further
_MAX_HALVINGS = 3  # of the page before the area is cut
_OVERSIZED_BYTES = 2 * SPLIT_BYTES
_RECOVERY_PAGES = 8  # without a failure, after which the page doubles
_FIRST_BACKOFF, _MAX_BACKOFF = 0.1, 5.0  # seconds


class Failure(enum.Enum):
    """Why a page did not arrive."""

    UNREACHABLE = 'no node, or too few, can be reached'
    SLOW = 'a node did not answer in time, or is overloaded'
    REFUSED = 'a node refuses the read, because of too many tombstones for example'


@dataclasses.dataclass
class SharedFailures:
    """The number of failures since the last page of a split or of anything it was cut into."""

    count: int = 0


@dataclasses.dataclass
class Reading:
    """One area being read.

    Attributes:
      read: Its ledger entry so far.
      replicas: Nodes that hold the area; empty to leave the choice to the driver.
      page_size: Size of its pages, by the bytes of earlier ones.
      max_rows: Rows of a page at most, because larger pages have failed.
      shared_failures: Shared with everything that its split was cut into.
      paging_state: Where the next page begins; None for the first.
      position: How far it has read; None before the first row.
      replica_index: Which of the replicas is asked next, modulo their number.
      failures: Failures since the last page.
      pages_since_failure: Pages since the last failure.
      bytes_since_cut: Bytes read since it was last cut.
      request: The last request of a page.
    """

    read: RangeRead
    replicas: tuple[str, ...]
    page_size: PageSize
    max_rows: int
    shared_failures: SharedFailures = dataclasses.field(default_factory=SharedFailures)
    paging_state: bytes | None = None
    position: Position | None = None
    replica_index: int = 0
    failures: int = 0
    pages_since_failure: int = 0
    bytes_since_cut: int = 0
    request: Request = dataclasses.field(init=False, repr=False, compare=False)

    @classmethod
    def of(cls, split: Split, page_rows: int, page_bytes: int = PAGE_BYTES) -> Reading:
        """Begins a split, with pages of at most `page_rows` rows and a target size of `page_bytes` bytes."""
        page_size = PageSize(page_rows, split.first_rows or page_rows, page_bytes, split.row_bytes)
        return cls(RangeRead(split.area), split.replicas, page_size, page_size.max_rows)

    @property
    def area(self) -> Area:
        """What is read."""
        return self.read.area

    @property
    def node(self) -> str:
        """The node that is asked next, `address:port`, or '' for the driver's choice."""
        return self.replicas[self.replica_index % len(self.replicas)] if self.replicas else ''

    @property
    def next_rows(self) -> int:
        """Rows to request for the next page."""
        return min(self.page_size.rows, self.max_rows)

    @property
    def oversized(self) -> bool:
        """Whether the area is much larger than planned; this depends on the rows alone, so it is reproducible."""
        return self.bytes_since_cut > _OVERSIZED_BYTES

    def record_page(self, rows: int, size: int, paging_state: bytes | None) -> None:
        """Records a page of `rows` rows and `size` bytes, after which the read continues at `paging_state`."""
        self.paging_state = paging_state
        self.failures = self.shared_failures.count = 0
        self.pages_since_failure += 1
        self.bytes_since_cut += size
        if self.pages_since_failure % _RECOVERY_PAGES == 0:
            self.max_rows = min(self.max_rows * 2, self.page_size.max_rows)
        self.page_size.record_page(rows, size)

    def record_position(self, last: Position | None, descending: bool) -> None:
        """Records how far a page has read; None for a page without rows."""
        if last is not None:
            self.position = self.position.then(last, descending) if self.position else last

    def record_failure(self, failure: Failure) -> bool:
        """Records a failure and chooses the next replica; returns whether the read may be retried."""
        self.failures += 1
        self.shared_failures.count += 1
        self.pages_since_failure = 0
        self.replica_index += 1
        self.read = dataclasses.replace(self.read, retries=self.read.retries + 1)
        if failure is Failure.UNREACHABLE:
            return self.failures <= MAX_RETRIES
        # An area that has been cut already had a smaller page then, which shrinks further.
        smaller = self.next_rows // 2 if self.failures > _MAX_HALVINGS else self.page_size.rows >> self.failures
        self.max_rows = max(1, min(self.max_rows, smaller))
        return self.failures <= _MAX_UNCUT_FAILURES and self.shared_failures.count <= MAX_SPLIT_FAILURES

    def backoff(self, failure: Failure) -> float:
        """Returns the seconds to wait before a retry: exponential and random, so that readers do not retry at once."""
        if failure is Failure.REFUSED:
            return 0.0
        longest = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2**self.failures)
        # Half of it at least: MAX_RETRIES such pauses outlast the seconds that a driver takes to reconnect.
        return random.uniform(longest / 2, longest)

    def split_after_failure(self, scan: Scan, failure: Failure) -> tuple[RangeRead | None, list[Reading]]:
        """Cuts the unread part into smaller reads, if smaller pages have not helped or cannot help.

        Returns:
          (ledger entry of what has been read completely, or None; the reads that continue: this one and the new ones)
        """
        if failure is Failure.UNREACHABLE or (failure is Failure.SLOW and self.failures <= _MAX_HALVINGS):
            return None, [self]
        return self._split(scan, failures=_MAX_HALVINGS)

    def split_oversized(self, scan: Scan) -> tuple[RangeRead | None, list[Reading]]:
        """Cuts the unread part of an oversized area, to read the pieces in parallel; see `split_after_failure`."""
        self.bytes_since_cut = 0
        return self._split(scan, failures=0)

    def _split(self, scan: Scan, failures: int) -> tuple[RangeRead | None, list[Reading]]:
        if self.paging_state is not None and self.position is None:  # it is unknown how far the pages have read
            return None, [self]
        pieces = cut(self.area, self.position, scan.sliced_column is not None, scan.table.descending)
        if pieces is None:
            return None, [self]
        fresh = [
            Reading(
                RangeRead(area), self.replicas, dataclasses.replace(self.page_size), self.max_rows,
                self.shared_failures, failures=failures,
            )
            for area in pieces.fresh
        ]  # fmt: skip
        done = None
        if pieces.done is not None:
            # This entry also counts the rows read of the partition that the read continues in; only sums matter.
            done, self.read = dataclasses.replace(self.read, area=pieces.done), RangeRead(pieces.rest)
        self.read, self.failures = dataclasses.replace(self.read, area=pieces.rest), failures
        return done, [self, *fresh]
