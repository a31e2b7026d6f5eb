"""The coverage ledger: proof that a scan read every token range once, and the fingerprint of what it read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.ring import TokenRange


@dataclasses.dataclass(frozen=True)
class RangeRead:
    """One token range that was read to its end.

    Attributes:
      token_range: The range.
      rows: Rows the server returned for it.
      pages: Pages they came in.
      checksum: Sum over the rows of `row_checksum`, modulo 2^64.
    """

    token_range: TokenRange
    rows: int
    pages: int
    checksum: int


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What a whole scan read; made by `verified`, so it tiles the ring.

    Attributes:
      ranges: Number of token ranges.
      rows: Rows of all ranges.
      pages: Pages of all ranges.
      checksum: Sum over all rows of `row_checksum`, modulo 2^64: independent of order and of how the ring was split.
    """

    ranges: int
    rows: int
    pages: int
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
    checksum = sum(read.checksum for read in reads) % 2**64
    return Coverage(len(reads), sum(read.rows for read in reads), sum(read.pages for read in reads), checksum)


def rows_checksum(rows: Iterable[tuple]) -> int:
    """Adds up a 64-bit hash of each row, modulo 2^64, so that the order of the rows does not matter."""
    total = 0
    for row in rows:
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), 'little')
    return total % 2**64
