"""Summary.db of the version nb: the keys of an SSTable's first and last partition.

Layout: org.apache.cassandra.io.sstable.indexsummary.IndexSummary.
"""

from __future__ import annotations

from tfx_cassandra.components.sstable.statistics import Reader


def first_key(content: bytes, name: str) -> bytes:
    """Returns the serialized key of the first partition; raises ReadError for damaged bytes."""
    return ends(content, name)[0]


def ends(content: bytes, name: str) -> tuple[bytes, bytes]:
    """Returns the serialized keys of the first and the last partition; raises ReadError for damaged bytes."""
    reader = Reader(content, name)
    reader.take(4)  # the interval of its entries
    reader.take(4)  # their number
    size = reader.number('q')  # of the entries and their offsets
    reader.take(8)  # the level of sampling, and the number of entries without it
    reader.take(size)
    first, last = (reader.take(reader.number('i')) for _ in range(2))
    return first, last
