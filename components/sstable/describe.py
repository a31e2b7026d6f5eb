"""What an SSTable holds, from its small files alone: version, compression, rows, tombstones, ranges of times."""

from __future__ import annotations

import dataclasses
import datetime
import heapq
import itertools
from collections.abc import Iterator

from cassandra import cqltypes

from tfx_cassandra.components.sstable import data
from tfx_cassandra.components.sstable.files import Files
from tfx_cassandra.components.sstable.index import entries
from tfx_cassandra.components.sstable.sstable import open_sstable
from tfx_cassandra.components.sstable.statistics import Reader
from tfx_cassandra.components.sstable.summary import Summary
from tfx_cassandra.components.window import EPOCH

_READ = 1 << 20  # bytes of Index.db that are read at once
_PROTOCOL = 4


@dataclasses.dataclass(frozen=True)
class Partition:
    """A partition: its key as text, and its bytes in Data.db, uncompressed."""

    key: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Description:
    """What an SSTable holds.

    Attributes:
      name: What its files' names have in common.
      version: Version of the format, such as 'nb'.
      compression: Name of the compressor, or None.
      chunk_kib: KiB of a chunk, uncompressed.
      bytes: Bytes of Data.db.
      uncompressed: The same without compression.
      partitions, rows, cells: Numbers; `rows` has static rows that are not empty too.
      tombstones: Number of deletions and of cells that expire.
      written: The least and the greatest write time.
      deleted: The least and the greatest time of deletion or expiry; None without any.
      ttls: The least and the greatest time to live in seconds; None without any.
      tokens: The tokens of the first and the last partition; None where no small file names them.
      level: Level of a leveled compaction.
      repaired: When it was repaired last; None for never.
      largest_partition: Bytes that no partition exceeds: a bound of a histogram, so up to a fifth too large.
      widest: The partitions with the most bytes, the widest first; empty in version da, which has no index of all.
    """

    name: str
    version: str
    compression: str | None
    chunk_kib: float
    bytes: int
    uncompressed: int
    partitions: int
    rows: int
    cells: int
    tombstones: int
    written: tuple[datetime.datetime | int, datetime.datetime | int]
    deleted: tuple[datetime.datetime | int, datetime.datetime | int] | None
    ttls: tuple[int, int] | None
    tokens: tuple[int, int] | None
    level: int
    repaired: datetime.datetime | int | None
    largest_partition: int
    widest: tuple[Partition, ...]


def describe(files: Files, widest: int = 3) -> Description:
    """Returns what an SSTable holds.

    Args:
      files: Its files.
      widest: Number of partitions to name.

    Raises:
      ReadError: A file is missing, damaged or of an unknown version.
    """
    sstable = open_sstable(files)
    known, cut = sstable.statistics, sstable.cut
    least, most = known.deletions
    return Description(
        name=files.name,
        version=files.version,
        compression=cut.codec,
        chunk_kib=cut.chunk / 1024,
        bytes=files.ranges('Data.db').size,
        uncompressed=cut.size,
        partitions=sum(count for _, count in known.partition_sizes),
        rows=known.rows,
        cells=known.cells,
        tombstones=sum(count for _, count in known.tombstones),
        written=(_moment(known.times[0]), _moment(known.times[1])),
        deleted=(_moment(least * 10**6), _moment((least if most is None else most) * 10**6))
        if known.tombstones
        else None,
        ttls=known.ttls if known.ttls[1] else None,
        tokens=_tokens(sstable.files, known.first_key, known.last_key),
        level=known.level,
        repaired=_moment(known.repaired * 1000) if known.repaired else None,
        largest_partition=known.partition_sizes[-1][0] if known.partition_sizes else 0,
        widest=tuple(_widest(files, known.header.key, cut.size, widest)) if 'Index.db' in files else (),
    )


def _moment(microseconds: int) -> datetime.datetime | int:
    """Returns a time; one that Python's datetime cannot hold stays a number of microseconds since 1970."""
    try:
        return EPOCH + datetime.timedelta(microseconds=microseconds)
    except OverflowError:
        return microseconds


def _tokens(files: Files, first: bytes | None, last: bytes | None) -> tuple[int, int] | None:
    if (first is None or last is None) and 'Summary.db' in files:
        summary = Summary(files.content('Summary.db'), f'{files.name}-Summary.db')
        first, last = summary.first, summary.last
    return None if first is None or last is None else (data.token(first), data.token(last))


def _widest(files: Files, key: str, size: int, count: int) -> Iterator[Partition]:
    """Yields the partitions with the most bytes; `size` is that of all partitions."""

    def sized() -> Iterator[tuple[int, bytes]]:
        before: tuple[bytes, int] | None = None
        found = entries(files.ranges('Index.db'), f'{files.name}-Index.db', size=_READ)
        for entry in itertools.chain(found, [(b'', size)]):
            if before is not None:
                yield entry[1] - before[1], before[0]
            before = entry

    for found, serialized in heapq.nlargest(count, sized()):
        yield Partition(_text(key, serialized), found)


def _text(key: str, serialized: bytes) -> str:
    """Returns a partition key as text, its columns separated by colons."""
    kind = cqltypes.lookup_casstype(key)
    if issubclass(kind, cqltypes.CompositeType):
        reader, parts = Reader(serialized, 'key'), []
        for part in kind.subtypes:
            parts.append(str(part.from_binary(reader.take(reader.number('H')), _PROTOCOL)))
            reader.take(1)
        return ':'.join(parts)
    return str(kind.from_binary(serialized, _PROTOCOL))
