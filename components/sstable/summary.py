"""Summary.db: the keys of an SSTable's first and last partition, and the places in Index.db of every 128th.

Layout: org.apache.cassandra.io.sstable.indexsummary.IndexSummary.
"""

from __future__ import annotations

import bisect
import struct

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data
from tfx_cassandra.components.sstable.statistics import Reader


class Summary:
    """A Summary.db.

    Attributes:
      first, last: The serialized keys of the first and the last partition.
      last_position: Where in Index.db the last of its entries is.

    Raises:
      ReadError: It is damaged.
    """

    def __init__(self, content: bytes, name: str) -> None:
        reader = Reader(content, name)
        reader.take(4)  # the interval of its entries
        count, size = reader.number('i'), reader.number('q')  # of the entries, with where each starts
        reader.take(8)  # the level of sampling, and the number of entries without it
        self._entries, self._name = reader.take(size), name
        self.first, self.last = (reader.take(reader.number('i')) for _ in range(2))
        if not 0 < count <= size // 12:
            raise ReadError(f'{name}: got {count} entries in {size} bytes, rule: at least one')
        self._starts = [*(start for (start,) in struct.iter_unpack('<i', self._entries[: 4 * count])), size]
        # The first key stands there twice: a file without a checksum has one that is damaged apart from the other.
        if self._entry(0)[0] != self.first:
            raise ReadError(f'{name}: got two first keys, rule: an undamaged file')
        self.last_position = self._entry(count - 1)[1]

    def position(self, token: int) -> int:
        """Returns where in Index.db to look for the last partition at or below a token."""
        found = bisect.bisect_right(range(len(self._starts) - 1), token, key=lambda i: data.token(self._entry(i)[0]))
        return self._entry(max(found - 1, 0))[1]

    def _entry(self, i: int) -> tuple[bytes, int]:
        start, end = self._starts[i : i + 2]
        if not 0 < start <= end - 8 <= len(self._entries) - 8:
            raise ReadError(f'{self._name}: got an entry from byte {start} to {end}, rule: one after the other')
        return self._entries[start : end - 8], struct.unpack('<q', self._entries[end - 8 : end])[0]
