"""Statistics.db: how the rows of an SSTable are serialized, and what it holds.

Layouts: org.apache.cassandra.io.sstable.metadata.MetadataSerializer, StatsMetadata and db.SerializationHeader.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from typing import TypeVar

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable.types import fixed_size, parse_type

T = TypeVar('T')
_STATS, _HEADER = 2, 3  # ordinals of MetadataType
_MICROSECONDS, _SECONDS = 1_442_880_000_000_000, 1_442_880_000  # what times of a header are counted from
_POSITION = 12  # bytes of a position in the commit log
_NO_DELETION = (2**31 - 1, 2**32 - 1)  # local deletion times of what is not deleted: nb; oa and da


class Reader:
    """Bytes read from the start; reading past their end raises ReadError.

    Attributes:
      at: Number of bytes that have been read.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._content, self.at, self._name = content, 0, name

    @property
    def ended(self) -> bool:
        """Whether no bytes are left."""
        return self.at == len(self._content)

    def take(self, size: int) -> bytes:
        """Returns the next bytes."""
        if not 0 <= size <= len(self._content) - self.at:
            raise ReadError(f'{self._name}: got {len(self._content)} bytes, rule: {size} more from {self.at} on')
        self.at += size
        return self._content[self.at - size : self.at]

    def number(self, form: str) -> int:
        """Returns the next number, of a form of `struct`."""
        return struct.unpack(f'>{form}', self.take(struct.calcsize(form)))[0]

    def numbers(self, form: str, count: int) -> list[tuple[int, ...]]:
        """Returns the next `count` tuples of numbers."""
        return list(struct.iter_unpack(f'>{form}', self.take(struct.calcsize(f'>{form}') * max(count, -1))))

    def vint(self) -> int:
        """Returns the next unsigned vint."""
        first = self.take(1)[0]
        extra = 8 - (~first & 0xFF).bit_length()
        return int.from_bytes(bytes([first & (0xFF >> extra)]) + self.take(extra), 'big')

    def sized(self) -> bytes:
        """Returns the next bytes, which their length as a vint precedes."""
        return self.take(self.vint())

    def text(self) -> str:
        """Returns the next text, which its length as a vint precedes."""
        return self.sized().decode('utf-8', 'replace')

    def many(self, item: Callable[[], T]) -> list[T]:
        """Returns the next items, which their number as a vint precedes."""
        return [item() for _ in range(self.vint())]


@dataclasses.dataclass(frozen=True)
class Header:
    """How the rows of an SSTable are serialized.

    Attributes:
      min_time: Microseconds since 1970 from which write times are counted.
      min_ends: Seconds since 1970 from which times of expiry and deletion are counted.
      min_ttl: Seconds from which times to live are counted.
      key: Cassandra's name of the partition key's type.
      clustering: Those of the clustering columns' types.
      statics: (column, name of its type) of the static columns, in their order.
      regulars: The same of the regular columns.
    """

    min_time: int
    min_ends: int
    min_ttl: int
    key: str
    clustering: tuple[str, ...]
    statics: tuple[tuple[str, str], ...]
    regulars: tuple[tuple[str, str], ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Cassandra's names of the types of all columns."""
        return (self.key, *self.clustering, *(name for _, name in (*self.statics, *self.regulars)))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What an SSTable holds.

    Attributes:
      header: How its rows are serialized.
      partition_sizes: (bytes, number) of a histogram: partitions of at most so many bytes.
      times: The least and the greatest write time, microseconds since 1970.
      deletions: The least and the greatest local deletion time, seconds since 1970, of expiries too.
        The greatest is None where something lives for ever.
      ttls: The least and the greatest time to live in seconds; 0 for none.
      tombstones: (seconds since 1970, number) of a histogram of deletions and expiries.
      level: Level of a leveled compaction.
      repaired: Milliseconds since 1970 of its last repair; 0 for none.
      cells: Number of cells.
      rows: Number of rows, and of static rows that are not empty.
      first_key, last_key: The serialized keys of the first and the last partition; None in version nb.
      bounds: Values of the first clustering column between which all rows and deletions of ranges are, in the order of
        the clustering; None where there is no bound.
      partitions_deleted: Whether a partition may have been deleted as a whole.
    """

    header: Header
    partition_sizes: tuple[tuple[int, int], ...]
    times: tuple[int, int]
    deletions: tuple[int, int | None]
    ttls: tuple[int, int]
    tombstones: tuple[tuple[int, int], ...]
    level: int
    repaired: int
    cells: int
    rows: int
    first_key: bytes | None
    last_key: bytes | None
    bounds: tuple[bytes | None, bytes | None]
    partitions_deleted: bool


def parse(content: bytes, version: str, name: str) -> Statistics:
    """Parses the bytes of a Statistics.db.

    Args:
      content: The bytes.
      version: Version of the SSTable.
      name: Name of the file, for messages.

    Raises:
      ReadError: They are damaged.
    """
    parts = _components(content, name)
    if not {_STATS, _HEADER} <= set(parts):
        raise ReadError(f'{name}: got parts {sorted(parts)}, rule: those of the statistics (2) and the header (3)')
    header = _header(Reader(parts[_HEADER], name))
    return _statistics(Reader(parts[_STATS], name), header, version != 'nb')


def _components(content: bytes, name: str) -> dict[int, bytes]:
    """Returns the parts of the file by their kinds; a CRC follows the list of parts and each part."""
    reader = Reader(content, name)
    count = reader.number('i')
    _check(content[:4], reader.number('I'), name)
    entries = reader.numbers('ii', count)
    table = content[:4] + content[8 : 8 + 8 * count]
    _check(table, reader.number('I'), name)
    ends = [*(start for _, start in entries[1:]), len(content)]
    parts = {}
    for (kind, start), end in zip(entries, ends, strict=True):
        if not 0 <= start <= end - 4 <= len(content) - 4:
            raise ReadError(f'{name}: got a part from byte {start} to {end}, rule: parts one after the other')
        parts[kind] = content[start : end - 4]
        _check(parts[kind], struct.unpack('>I', content[end - 4 : end])[0], name)
    return parts


def _check(content: bytes, crc: int, name: str) -> None:
    if zlib.crc32(content) != crc:
        raise ReadError(f'{name}: got bytes whose CRC is not theirs, rule: an undamaged file')


def _header(reader: Reader) -> Header:
    min_time, min_ends, min_ttl = reader.vint() + _MICROSECONDS, reader.vint() + _SECONDS, reader.vint()
    # Times before 2015 wrap around.
    min_time = (min_time + 2**63) % 2**64 - 2**63
    key, clustering = reader.text(), tuple(reader.many(reader.text))
    statics, regulars = (tuple(reader.many(lambda: (reader.text(), reader.text()))) for _ in range(2))
    return Header(min_time, min_ends % 2**32, min_ttl, key, clustering, statics, regulars)


def _statistics(reader: Reader, header: Header, wide: bool) -> Statistics:
    sizes = _histogram(reader)
    _histogram(reader)  # cells of a partition
    reader.take(_POSITION)
    times = reader.number('q'), reader.number('q')
    least, most = (reader.number('I' if wide else 'i') for _ in range(2))
    ttls = reader.number('i'), reader.number('i')
    reader.take(8)  # the compression's ratio
    reader.take(4)
    tombstones = reader.numbers('qi' if wide else 'dq', reader.number('i'))
    level, repaired = reader.number('i'), reader.number('q')
    bounds = _bounds(reader, wide)
    reader.take(1)  # whether there are old counters
    cells, rows = reader.number('q'), reader.number('q')
    # Where nothing says so, a partition may have been deleted if anything was.
    deleted, first, last = _rest(reader) if wide else (least not in _NO_DELETION, None, None)
    return Statistics(
        header, tuple(sizes), times, (least, None if most in _NO_DELETION else most), ttls,
        tuple((int(point), int(count)) for point, count in tombstones), level, repaired, cells, rows, first, last,
        bounds, deleted,
    )  # fmt: skip


def _histogram(reader: Reader) -> list[tuple[int, int]]:
    """Returns (largest value, number) of the filled buckets of a histogram."""
    buckets = reader.numbers('qq', reader.number('i'))
    # A bucket's own bound stands beside the next one; the last has none, and holds what is beyond all bounds.
    bounds = [bound for bound, _ in buckets[1:]] + [buckets[-1][0]] if buckets else []
    return [(bound, number) for bound, (_, number) in zip(bounds, buckets, strict=True) if number]


def _bounds(reader: Reader, wide: bool) -> tuple[bytes | None, bytes | None]:
    """Returns the first values of the least and the greatest clustering."""
    fixed = [fixed_size(parse_type(name)) for name in reader.many(reader.text)] if wide else []
    least, greatest = (_clustering(reader, fixed) if wide else _old_clustering(reader) for _ in range(2))
    return least, greatest


def _old_clustering(reader: Reader) -> bytes | None:
    values = [reader.take(reader.number('H')) for _ in range(reader.number('i'))]
    return values[0] if values else None


def _clustering(reader: Reader, fixed: list[int]) -> bytes | None:
    reader.take(1)  # the kind of bound
    values: list[bytes | None] = []
    bits = 0
    for i in range(reader.number('H')):
        bits = bits >> 2 if i % 32 else reader.vint()
        empty, null = bits & 1, bits & 2
        found = b'' if empty or null else reader.take(reader.vint() if fixed[i] < 0 else fixed[i])
        values.append(None if null else found)
    return values[0] if values else None


def _rest(reader: Reader) -> tuple[bool, bytes, bytes]:
    """Returns whether partitions were deleted, and the first and the last key."""
    reader.take(_POSITION)
    reader.take(2 * _POSITION * reader.number('i'))
    for optional in (16, 0, 16):  # a pending repair, whether it is transient, its first node
        reader.take(optional * reader.number('?'))
    return bool(reader.number('?')), reader.sized(), reader.sized()
