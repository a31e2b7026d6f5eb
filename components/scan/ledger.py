"""The coverage ledger: proves that a scan read every area exactly once, and fingerprints what it read."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import area as areas
from tfx_cassandra.components.scan.area import ALL_TIMES, WHOLE, Area
from tfx_cassandra.components.scan.ring import TokenRange


@dataclasses.dataclass(frozen=True)
class RangeRead:
    """One area, a token range or a slice of one, that was read completely.

    Attributes:
      area: What was read.
      rows: Rows the server returned for it.
      bytes: Size of these results.
      pages: Number of pages.
      retries: Requests for pages that were repeated.
      checksum: Sum over the rows of a 64-bit hash of each row's bytes, modulo 2^64.
      coordinator: The node that answered the last page, `address:port`.
      files: Of a backup: the rows that were read of each SSTable, those included that others have replaced.
    """

    area: Area
    rows: int = 0
    bytes: int = 0
    pages: int = 0
    retries: int = 0
    checksum: int = 0
    coordinator: str = ''
    files: tuple[int, ...] = ()

    @property
    def token_range(self) -> TokenRange:
        """The tokens of the area."""
        return self.area.tokens

    def with_page(self, rows: int, size: int, checksum: int) -> RangeRead:
        """Returns the entry with a page of `rows` rows and `size` bytes added."""
        return dataclasses.replace(
            self,
            rows=self.rows + rows,
            bytes=self.bytes + size,
            pages=self.pages + 1,
            checksum=(self.checksum + checksum) % 2**64,
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the entry as coverage.json has it: tokens `(start, end]`, times `[start, end)` in ms or null."""
        times = self.area.times
        return {
            'tokens': [self.area.tokens.start, self.area.tokens.end],
            'times': None if times == ALL_TIMES else [times.start, times.end],
            'rows': self.rows,
            'bytes': self.bytes,
            'pages': self.pages,
            'retries': self.retries,
            'checksum': f'{self.checksum:016x}',
            'coordinator': self.coordinator,
        }


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What a whole scan read; created by `verified`, so its areas tile the scan exactly once.

    Attributes:
      reads: The entries, in ring order.
      rows, bytes, pages, retries: Sums over all entries.
      checksum: Sum over the entries, modulo 2^64: independent of the order and of how the scan was split.
      backup: Of a backup: its name, digest and moment, and the rows that were read of each of its SSTables.
    """

    reads: tuple[RangeRead, ...]
    rows: int
    bytes: int
    pages: int
    retries: int
    checksum: int
    backup: Mapping[str, Any] | None = None

    @property
    def ranges(self) -> int:
        """Number of areas."""
        return len(self.reads)

    def fingerprint(self, cql: str, window: str) -> str:
        """Returns a hash of the statement, the window and the content read; equal content gives the same hash."""
        content = f'{cql}\n{window}\n{self.rows}\n{self.checksum:016x}'
        return hashlib.sha256(content.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Returns sums and entries as coverage.json has them."""
        return {
            'ranges': self.ranges,
            'rows': self.rows,
            'bytes': self.bytes,
            'pages': self.pages,
            'retries': self.retries,
            'checksum': f'{self.checksum:016x}',
            **({} if self.backup is None else {'backup': dict(self.backup)}),
            'reads': [read.as_json() for read in self.reads],
        }


def merged(reads: Sequence[RangeRead], planned: Sequence[Area]) -> list[RangeRead]:
    """Merges the entries of what a planned area was cut into while it was read, so that the ledger stays as small.

    Args:
      reads: The entries of areas inside the planned ones.
      planned: Areas that do not overlap.

    Returns:
      One entry for each planned area that its entries tile exactly once; all other entries as they are.
    """
    ordered = sorted(planned)
    starts = [area.tokens.start for area in ordered]
    pieces: dict[Area | None, list[RangeRead]] = {}
    for read in reads:
        # Areas of one range, of a giant partition, differ in their times.
        at = bisect.bisect_right(starts, read.area.tokens.start) - 1
        while at > 0 and starts[at - 1] == starts[at] and ordered[at].times.start > read.area.times.start:
            at -= 1
        pieces.setdefault(ordered[at] if at >= 0 else None, []).append(read)
    entries: list[RangeRead] = []
    for area, parts in pieces.items():
        if area is None or any(areas.faults([part.area for part in parts], [area])):
            entries += parts
        else:
            entries.append(_added(area, parts))
    return entries


def _added(area: Area, reads: Sequence[RangeRead]) -> RangeRead:
    """Adds the entries of an area's pieces up."""
    sums = {field: sum(getattr(read, field) for read in reads) for field in ('rows', 'bytes', 'pages', 'retries')}
    checksum = sum(read.checksum for read in reads) % 2**64
    files = tuple(map(sum, zip(*(read.files for read in reads), strict=True)))
    return RangeRead(area, checksum=checksum, coordinator=reads[-1].coordinator, files=files, **sums)


def verified(reads: Sequence[RangeRead], wanted: Sequence[Area] = (WHOLE,)) -> Coverage:
    """Sums the reads of a scan, after checking that their areas tile the wanted areas exactly once.

    Args:
      reads: One entry per area, in any order.
      wanted: What should have been read; the whole ring, unless only some partitions or a window were requested.

    Raises:
      CoverageError: An area was not read, was read more than once or was not requested; the message names each.
    """
    found = areas.faults([read.area for read in reads], wanted)
    problems = [
        ('not read', found.missing),
        ('read more than once', found.doubled),
        ('read but not asked for', found.outside),
    ]
    texts = [f'{what}: {", ".join(map(str, where))}' for what, where in problems if where]
    if texts:
        raise CoverageError(
            f'token ranges {"; ".join(texts)} (rule: the areas read tile what was asked for exactly once)'
        )
    sums = {field: sum(getattr(read, field) for read in reads) for field in ('rows', 'bytes', 'pages', 'retries')}
    checksum = sum(read.checksum for read in reads) % 2**64
    return Coverage(tuple(sorted(reads, key=lambda read: read.area)), checksum=checksum, **sums)
