"""Where in a Data.db the partitions above a token start: Summary.db and Index.db (nb, oa), or Partitions.db (da).

These files have no checksums, so a place comes with the tokens that the partition there may have: where Data.db, which
has them, says the same, no partition behind it is missed.

Layouts: org.apache.cassandra.io.sstable.indexsummary.IndexSummary, format.big.RowIndexEntry, format.bti.PartitionIndex,
io.tries.TrieNode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data
from tfx_cassandra.components.sstable.files import Files, Ranges
from tfx_cassandra.components.sstable.statistics import Reader
from tfx_cassandra.components.sstable.summary import Summary

_READ = 1 << 16  # bytes of an index that are read at once
_LONGEST = 1 << 16  # bytes of a serialized key at most
_NODE = 3 + 256 * 8 + 9  # bytes of a trie's node at most: 256 pointers and a position
_FOOTER = 24
_NEXT = 0x40  # the byte before each part of a key in a trie
_BITS = (0, 4, 8, 12, 16, 8, 12, 16, 24, 40, 12, 16, 24, 32, 40, 64)  # of a pointer, by the type of a node


@dataclasses.dataclass(frozen=True)
class Place:
    """The start of a partition.

    Attributes:
      position: In the uncompressed Data.db.
      low, high: Between which its token is, both included.
    """

    position: int
    low: int
    high: int


def place_of(files: Files, token: int) -> Place | None:
    """Returns a partition at or below a token, with few others between it and the token; None for the file's start.

    Raises:
      ReadError: An index is damaged.
    """
    if 'Partitions.db' in files and 'Rows.db' in files:
        return _in_trie(files, token)
    if 'Summary.db' in files and 'Index.db' in files:
        return _in_index(files, token)
    return None


def entries(file: Ranges, name: str, start: int = 0, size: int = _READ) -> Iterator[tuple[bytes, int]]:
    """Yields (serialized key, position in the uncompressed Data.db) of each partition of an Index.db.

    Args:
      file: The Index.db.
      name: Its name, for messages.
      start: Where in it the first entry is.
      size: Bytes to read at once.
    """
    while start < file.size:
        reader = Reader(file.read(start, size), name)
        used = 0
        try:
            while not reader.ended:
                key, position = reader.take(reader.number('H')), reader.vint()
                reader.take(reader.vint())  # where the partition's parts are, if it is wide
                yield key, position
                used = reader.at
        except ReadError:
            # The last entry goes on behind what was read; one that is longer than that needs a longer read.
            if start + size >= file.size:
                raise
            size *= 1 if used else 2
        start += used


def last_key(files: Files, start: int) -> bytes:
    """Returns the last key of an Index.db, given where one of its entries is; raises ReadError where it is damaged."""
    last = b''
    for key, _ in entries(files.ranges('Index.db'), f'{files.name}-Index.db', start):
        last = key
    return last


def _in_index(files: Files, token: int) -> Place | None:
    start = Summary(files.content('Summary.db'), f'{files.name}-Summary.db').position(token)
    found = None
    for key, position in entries(files.ranges('Index.db'), f'{files.name}-Index.db', start):
        its = data.token(key)
        if its > token:
            break
        found = Place(position, its, its)
    return found


def _in_trie(files: Files, token: int) -> Place | None:
    """Returns the last partition whose bytes in the trie are below those of the token, or that has this token."""
    file, name = files.ranges('Partitions.db'), f'{files.name}-Partitions.db'
    footer = Reader(file.read(max(0, file.size - _FOOTER), _FOOTER), name)
    footer.take(16)  # where the first key is, and the number of keys
    node, path, below = footer.number('q'), b'', None
    for byte in bytes([_NEXT]) + _comparable(token):
        children, _ = _node(file, node, name)
        if less := [child for child in children if child[0] < byte]:
            below = less[-1][1], path + bytes(less[-1][:1])
        here = [child for of, child in children if of == byte]
        if not here:
            break
        node, path = here[0], path + bytes([byte])
    else:
        below = node, path
    return None if below is None else _last(files, *below)


def _comparable(token: int) -> bytes:
    """Returns a token as bytes whose order is that of tokens."""
    return (token + 2**63).to_bytes(8, 'big')


def _last(files: Files, node: int, path: bytes) -> Place:
    """Returns the last partition below a node; `path` are the bytes on the way to the node."""
    file, name = files.ranges('Partitions.db'), f'{files.name}-Partitions.db'
    children, payload = _node(file, node, name)
    while children:
        byte, node = children[-1]
        path += bytes([byte])
        children, payload = _node(file, node, name)
    if payload is None:
        raise ReadError(f'{name}: got a leaf without a position, rule: an undamaged file')
    low, high = (int.from_bytes((path[1:9] + 8 * end)[:8], 'big') - 2**63 for end in (b'\0', b'\xff'))
    if payload < 0:
        return Place(~payload, low, high)
    rows = Reader(files.ranges('Rows.db').read(payload, 2 + _LONGEST + 9), f'{files.name}-Rows.db')
    rows.take(rows.number('H'))  # the key
    return Place(rows.vint(), low, high)


def _node(file: Ranges, position: int, name: str) -> tuple[list[tuple[int, int]], int | None]:
    """Returns (byte, position) of a node's children, in order, and what it points to: a position in another file.

    A negative one is the complement of one in Data.db, another one is in Rows.db.
    """
    content = file.read(position, _NODE) if position >= 0 else b''
    try:
        kind, flags = divmod(content[0], 16)
        if kind == 1:
            children, behind, flags = [(content[1], position - flags)], 2, 0
        elif kind == 3:
            children, behind, flags = [(content[2], position - (flags << 8 | content[1]))], 3, 0
        else:
            children, behind = _children(content, kind, position)
    except IndexError:
        children, behind, flags = [(0, position)], 0, 0
    if any(not 0 <= child < position for _, child in children):
        raise ReadError(f'{name}: got a node at byte {position} that points elsewhere, rule: to bytes before it')
    size = flags - 7 if flags >= 8 else flags  # a byte of the key's hash may stand before it
    at = behind + (flags >= 8)
    return children, int.from_bytes(content[at : at + size], 'big', signed=True) if size else None


def _children(content: bytes, kind: int, position: int) -> tuple[list[tuple[int, int]], int]:
    """Returns (byte, position) of a node's children, and the number of its bytes before what it points to."""
    if kind == 0:
        return [], 1
    if kind < 5:
        of: bytes | range = content[1:2]
        start = 2
    elif kind < 10:
        of = content[2 : 2 + content[1]]
        start = 2 + content[1]
    else:
        of = range(content[1], min(content[1] + content[2], 255) + 1)
        start = 3
    bits = _BITS[kind]
    deltas = [_number(content, start, bits, i) for i in range(len(of))]
    found = [(byte, position - delta) for byte, delta in zip(of, deltas, strict=True) if delta or kind < 10]
    return found, start + (len(of) * bits + 7) // 8


def _number(content: bytes, start: int, bits: int, i: int) -> int:
    """Returns the i-th of numbers of so many bits each."""
    first, last = start + i * bits // 8, start + ((i + 1) * bits + 7) // 8
    return int.from_bytes(content[first:last], 'big') >> (-(i + 1) * bits % 8) & ((1 << bits) - 1)
