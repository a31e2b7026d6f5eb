"""Streams of partitions that are written here, byte by byte, in version nb."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from murmur3 import key_of

from tfx_cassandra.components.sstable import data, layout
from tfx_cassandra.components.sstable.layout import Part
from tfx_cassandra.components.sstable.types import Order

LIVE = struct.pack('>iq', 2**31 - 1, -(2**63))
COLUMN = layout.Column(0, 'simple', -1, None)
PLAN = layout.Plan(
    3, 1, (0,), (1,), (Order('signed'),), (), (layout.Target('simple', 2, 0, -1, 0, True, None),)
)  # a partition key, a clustering column of 4 bytes and a blob with its write time


def vint(number: int) -> bytes:
    if number < 0x80:
        return bytes([number])
    size = next(n for n in range(1, 9) if number < 1 << 7 * (n + 1) or n == 8)
    return (
        bytes([0xFF << (8 - size) & 0xFF | (number >> 8 * size if size < 8 else 0)])
        + number.to_bytes(8, 'big')[8 - size :]
    )


def row(clustering: int, value: bytes, time: int = 7, flags: int = 0x24) -> bytes:
    body = vint(0) + vint(time) + b'\x08' + vint(len(value)) + value  # the cell has the row's time
    return bytes([flags]) + vint(0) + struct.pack('>i', clustering) + vint(len(body)) + body


def partition(token: int, rows: Iterable[bytes]) -> Iterator[bytes]:
    key = key_of(token)
    yield struct.pack('>H', len(key)) + key + LIVE
    yield from rows
    yield b'\x01'


def stream(name: str = 'nb-1-big', part: Part | None = None) -> layout.Stream:
    return layout.Stream(name, False, 0, 0, 0, (4,), (), (COLUMN,), part or Part())


def feed(pieces: Iterable[bytes]) -> Callable[[], bytes]:
    found = iter(pieces)
    return lambda: next(found, b'')


def merged(*feeds: Iterable[bytes], rows: int = 1000, size: int = 1 << 20) -> data.Merger:
    return data.Merger(PLAN, [stream(f'nb-{i}-big') for i in range(len(feeds))], map(feed, feeds), 0, rows, size)


def batches(merger: data.Merger) -> Iterator[tuple[int, list]]:
    while True:
        count, cells, _ = merger.batch()
        if not count:
            return
        yield count, cells
