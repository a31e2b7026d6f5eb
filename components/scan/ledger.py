"""The coverage ledger: proof that a scan read every token range once, and the fingerprint of what it read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.ring import TokenRange


@dataclasses.dataclass(frozen=True)
class RangeRead:
    """One token range that was read to its end.

    Attributes:
      token_range: The range.
      rows: Rows the server returned for it.
      bytes: Size of the results they came in.
      pages: Pages they came in.
      retries: Pages that had to be asked for again.
      checksum: Sum over the rows of a 64-bit hash of each row's bytes, modulo 2^64.
    """

    token_range: TokenRange
    rows: int = 0
    bytes: int = 0
    pages: int = 0
    retries: int = 0
    checksum: int = 0

    def with_page(self, rows: int, size: int, checksum: int) -> RangeRead:
        """Adds a page of `rows` rows and `size` bytes."""
        return dataclasses.replace(
            self,
            rows=self.rows + rows,
            bytes=self.bytes + size,
            pages=self.pages + 1,
            checksum=(self.checksum + checksum) % 2**64,
        )


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What a whole scan read; made by `verified`, so it tiles the ring.

    Attributes:
      ranges: Number of token ranges.
      rows, bytes, pages, retries: Sums over all ranges.
      checksum: Sum over the ranges, modulo 2^64: independent of order and of how the ring was split.
    """

    ranges: int
    rows: int
    bytes: int
    pages: int
    retries: int
    checksum: int

    def fingerprint(self, cql: str, window: str) -> str:
        """Identifies the content read by a statement in a window: equal content gives an equal text."""
        content = f'{cql}\n{window}\n{self.rows}\n{self.checksum:016x}'
        return hashlib.sha256(content.encode()).hexdigest()


def verified(reads: Sequence[RangeRead]) -> Coverage:
    """Adds up the reads of a scan, if their ranges tile the ring exactly once.

    Raises:
      CoverageError: A part of the ring was not read or was read more than once; the message names each such range.
    """
    ranges = [read.token_range for read in reads]
    complaints = [('not read', ring.gaps(ranges)), ('read more than once', ring.overlaps(ranges))]
    found = [f'{what}: {", ".join(map(str, where))}' for what, where in complaints if where]
    if found:
        raise CoverageError(f'token ranges {"; ".join(found)} (rule: the ranges read tile the ring exactly once)')
    sums = {field: sum(getattr(read, field) for read in reads) for field in ('rows', 'bytes', 'pages', 'retries')}
    return Coverage(len(reads), checksum=sum(read.checksum for read in reads) % 2**64, **sums)
