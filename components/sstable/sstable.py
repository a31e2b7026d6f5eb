"""An SSTable of which ranges of tokens can be read: what its small files say of its Data.db."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from tfx_cassandra.components.errors import ReadError, invalid
from tfx_cassandra.components.sstable import chunks, data, index, statistics
from tfx_cassandra.components.sstable.files import Files, Ranges
from tfx_cassandra.components.sstable.layout import RING, Part
from tfx_cassandra.components.sstable.summary import Summary

_SLACK = 1 << 16  # bytes: where a part ends is known about so well
Tokens = tuple[int, int]  # a range of tokens (start, end], start < end


@dataclasses.dataclass(frozen=True)
class SSTable:
    """An SSTable that can be read.

    Attributes:
      files: Its files.
      statistics: What its Statistics.db says.
      first_key: The serialized key of its first partition; None if no file but Data.db says so.
      summed_up: The key of its last partition by Summary.db, and where in Index.db to look for it; None where
        Statistics.db has that key.
    """

    files: Files
    statistics: statistics.Statistics
    first_key: bytes | None
    summed_up: tuple[bytes, int] | None = None

    @property
    def cut(self) -> chunks.Compression:
        """How its Data.db is cut into chunks; raises ReadError where that is damaged.

        It is read when it is needed, and left behind by pickles: it grows with the Data.db.
        """
        # functools.cached_property of Python 3.10 would let only one SSTable at a time read its own.
        if '_cut' not in vars(self):
            vars(self)['_cut'] = chunks.compression(self.files)
        return vars(self)['_cut']

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ('_cut', '_confirmed')}

    @property
    def name(self) -> str:
        """What the names of its files have in common, such as 'nb-1-big'."""
        return self.files.name

    def feed(self, file: Ranges | None = None, start: int = 0, expected_end: int | None = None) -> Iterator[bytes]:
        """Yields the uncompressed bytes of its Data.db from `start` on, in order; see `chunks.uncompressed`."""
        return chunks.uncompressed(self.files, self.cut, file, start, expected_end)

    def concerns(self, start: int, end: int) -> bool:
        """Whether a window needs it: rows with times from `start` to before `end` in the first clustering column.

        An SSTable that does not concern it may be left out: its rows are outside, and it deletes nothing inside.

        Args:
          start: Milliseconds since 1970, of a first clustering column of type timestamp.
          end: The same, not included.
        """
        known = self.statistics
        # A static column belongs to all rows of a partition, and so does the deletion of a partition.
        if known.partitions_deleted or known.header.statics:
            return True
        times = [
            int.from_bytes(value, 'big', signed=True) for value in known.bounds if value is not None and len(value) == 8
        ]
        return len(times) < 2 or (min(times) < end and start <= max(times))

    def part(self, tokens: Tokens, owned: Sequence[Tokens] | None) -> Part | None:
        """Returns what is to be read of it for ranges `(start, end]` of tokens; None for nothing.

        Raises:
          ReadError: Its index is damaged.
        """
        start, end = tokens
        if (self.first_key and data.token(self.first_key) > end) or self._ends(start):
            return None
        ranges = None if owned is None else tuple(ranges_in_order('owned', owned))
        place = None
        if start > RING[0] and (self.first_key is None or data.token(self.first_key) <= start):
            place = index.place_of(self.files, start)
        if place is None:
            return Part(self.first_key, tokens, ranges)
        if place.high > start or not 0 <= place.position < self.cut.size:
            raise ReadError(f'{self.name}: got byte {place.position} for token {start} of its index, rule: undamaged')
        return Part(None, tokens, ranges, place)

    def expected_end(self, part: Part) -> int:
        """Returns the byte of its Data.db where a part of it probably ends, as if its tokens were evenly spaced."""
        size, last = self.files.ranges('Data.db').size, self._last_token()
        start, end = part.tokens
        if last is None or last <= end:
            return size
        if part.place is not None:
            begin, low = self.cut.offsets[part.place.position // self.cut.chunk], part.place.low
        else:
            begin, low = 0, start if self.first_key is None else data.token(self.first_key)
        return begin + (size - begin) * (end - low) // (last - low) + _SLACK

    def _last_token(self) -> int | None:
        """Returns the token of its last partition; None if no file but Data.db says so."""
        last = self.statistics.last_key if self.summed_up is None else self.summed_up[0]
        return None if last is None else data.token(last)

    def _ends(self, token: int) -> bool:
        """Whether no partition is above a token."""
        last = self._last_token()
        if last is None or last > token:
            return False
        return self.summed_up is None or self._ends_with(*self.summed_up)

    def _ends_with(self, last: bytes, position: int) -> bool:
        """True; raises ReadError where Index.db ends with another key than Summary.db: neither has a checksum."""
        if '_confirmed' not in vars(self):
            if index.last_key(self.files, position) != last:
                rule = 'undamaged files'
                raise ReadError(f'{self.name}-Index.db: got another last key than Summary.db has, rule: {rule}')
            vars(self)['_confirmed'] = True
        return True


def open_sstable(files: Files) -> SSTable:
    """Returns an SSTable, given its files.

    Raises:
      ReadError: A file is missing, damaged or of an unknown version.
    """
    name = f'{files.name}-Statistics.db'
    known = statistics.parse(files.content('Statistics.db'), files.version, name)
    if known.first_key is not None or 'Summary.db' not in files:
        return SSTable(files, known, known.first_key)
    summary = Summary(files.content('Summary.db'), f'{files.name}-Summary.db')
    summed_up = (summary.last, summary.last_position) if 'Index.db' in files else None
    return SSTable(files, known, summary.first, summed_up)


def ranges_in_order(name: str, given: Sequence[Tokens]) -> list[Tokens]:
    """Returns ranges (start, end] of tokens in order; raises ValueError for one that is empty, and for overlaps."""
    ranges = sorted((start, end) for start, end in given)
    ends = [RING[0], *(end for _, end in ranges)]
    for (start, end), before in zip(ranges, ends, strict=False):
        if not before <= start < end <= RING[1]:
            raise invalid(name, (start, end), 'ranges (start, end] of tokens, start < end, that do not overlap')
    return ranges
