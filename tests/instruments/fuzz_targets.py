"""What is fuzzed: functions of bytes that end in a result or an error of the package, and the seeds to begin with.

Types of columns, and the seeds, are those of the tables that a real Cassandra has written (`recorded_sstables`): values
as pages have them, and the uncompressed bytes of Data.db files. `tools/fuzz` runs a target under a fuzzing engine.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import random
import struct
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from cassandra import cqltypes
from snapshots import with_times

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.errors import DatasetError, ReadError, SchemaError
from tfx_cassandra.components.sstable import data, layout
from tfx_cassandra.components.sstable.read import Reading, open_snapshot
from tfx_cassandra.components.write import encode
from tfx_cassandra.components.write.coding import coding_of

ARCHIVES = ('recorded', 'recorded_oa', 'recorded_da')
RECORDED = Path(__file__).parents[1] / 'sstable'
ROWS = 8  # of a seed's page at most
NOW = datetime.datetime(2026, 12, 1, tzinfo=datetime.timezone.utc)  # what does not expire at once has not yet


class Table(NamedTuple):
    """A recorded table: types of its columns, values of its first rows, plans to read it, its SSTables' streams."""

    kinds: list[Any]
    values: list[list[bytes | None]]  # by column
    plans: list[layout.Plan]
    streams: list[layout.Stream]
    contents: list[bytes]


@functools.lru_cache(None)
def tables() -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        for archive in ARCHIVES:
            with tarfile.open(RECORDED / f'{archive}.tar.xz') as files:
                files.extractall(Path(folder, archive))
        return [made for path in sorted(Path(folder).glob('*/*')) if (made := _table(path)).contents]


def _table(folder: Path) -> Table:
    schema, sstables = open_snapshot(folder)
    names = schema.table.readable
    kinds = [schema.driver_type(schema.table.type_of('columns', name)) for name in names]
    headers = [sstable.statistics.header for sstable in sstables]
    streams = [layout.stream_of(schema, s.statistics.header, s.files.version, s.name, layout.Part()) for s in sstables]
    plans = [layout.plan_of(schema, headers, names, *times) for times in ((), with_times(schema.table, None))]
    cells = next(Reading(schema, sstables, NOW, batch_rows=ROWS).cells(), [])
    values = [[column.value(row) for row in range(ROWS) if row < _count(column)] for column in cells]
    return Table(kinds, values, plans, streams, [b''.join(sstable.feed()) for sstable in sstables])


def _count(cells: rows.Cells) -> int:
    return next(row for row in range(ROWS + 1) if row == ROWS or not _has(cells, row))


def _has(cells: rows.Cells, row: int) -> bool:
    try:
        cells.value(row)
    except IndexError:
        return False
    return True


class Column(NamedTuple):
    """A type of columns, how it is decoded and encoded, and values of it."""

    cql: Any
    kind: rows.Kind
    coding: encode.Coding
    values: list[bytes | None]


@functools.lru_cache(None)
def columns() -> list[Column]:
    """Returns a Column for each type that a recorded table has."""
    found: dict[str, Column] = {}
    for table in tables():
        for kind, values in zip(table.kinds, table.values, strict=False):
            name = kind.cql_parameterized_type()
            if name not in found or len(found[name].values) < len(values):
                found[name] = Column(kind, types.kind_of(kind), coding_of(kind), values)
    return list(found.values())


Input = memoryview | bytes
Target = Callable[[Input], None]


def rows_target(given: Input) -> None:
    """A page of one to four columns: (columns, rows or 0, a type for each column (16 bits), the body).

    With no rows, the body is one value of each column, so that decoders are reached past every length.
    """
    if len(given) < 4:
        return
    width, count = 1 + given[0] % 4, given[1]
    chosen = [columns()[number % len(columns())] for number in _numbers(given[2 : 2 + 2 * width])]
    body = given[2 + 2 * width :]
    if count:
        cells, _ = rows.cells(body, 0, count, len(chosen))
    else:
        cells = [rows.located(body, np.zeros(1, np.int32), np.array([len(body)], np.int32))] * len(chosen)
    rows.checksum(cells)
    for column, of_column in zip(chosen, cells, strict=True):
        array = rows.decode(column.kind, of_column)
        # Cassandra holds a `time` beyond a day, which Arrow's full validation would refuse.
        array.validate(full='time64' not in str(array.type))


def _numbers(given: Input) -> tuple[int, ...]:
    return struct.unpack(f'<{len(given) // 2}H', bytes(given[: len(given) // 2 * 2]))


def rows_seeds() -> Iterator[bytes]:
    for number, column in enumerate(columns()):
        yield struct.pack('<BBH', 0, len(column.values), number) + b''.join(map(_cell, column.values))
        yield from (struct.pack('<BBH', 0, 0, number) + value for value in column.values if value)
    for number, (one, two) in enumerate(zip(columns(), columns()[1:], strict=False)):
        both = list(zip(one.values, two.values, strict=False))
        yield struct.pack('<BBHH', 1, len(both), number, number + 1) + b''.join(_cell(v) for row in both for v in row)


def _cell(value: bytes | None) -> bytes:
    return struct.pack('>i', -1) if value is None else struct.pack('>i', len(value)) + value


def encode_target(given: Input) -> None:
    """Arrays of one to three columns: (columns, rows, rows before the slice, a type for each (16 bits), content).

    What is encoded is decoded and encoded again, which must give the same bytes; then requests are made of it.
    """
    if len(given) < 5:
        return
    width, count, before = 1 + given[0] % 3, given[1] % 17, given[2] % 5
    chosen = [columns()[number % len(columns())] for number in _numbers(given[3 : 3 + 2 * width])]
    source = Source(given[3 + 2 * width :])
    values = []
    for column in chosen:
        array = source.array(column.cql, column.coding.arrow, before + count).slice(before)
        values.append(encode.encode(column.coding, array))
    page = encode.packed(values)
    cells, _ = rows.cells(page, 0, count, len(chosen))
    again = [
        encode.encode(column.coding, rows.decode(column.kind, one)) for column, one in zip(chosen, cells, strict=True)
    ]
    if encode.packed(again) != page:
        raise AssertionError(f'{bytes(page).hex()} became {encode.packed(again).hex()}')
    keys = encode.Keys(values[:2])
    order = np.arange(count, dtype=np.int64)
    bodies = encode.bodies(b'q' * 16, values, [encode.UNSET] * len(chosen), keys, order, 64, 5, b'end')
    if sum(rows_of for _, _, rows_of in bodies) != count:
        raise AssertionError(f'{bodies} of {count} rows')
    encode.salts(values[:2], 7)


def encode_seeds() -> Iterator[bytes]:
    for number in range(len(columns())):
        yield struct.pack('<BBBH', 0, 4, number % 3, number) + random.Random(number).randbytes(160)


_DIGITS = bytes(b'0123456789-+eE.'[i % 15] for i in range(256))
_ADDRESS = bytes(b'0123456789abcdef.:::'[i % 20] for i in range(256))
_TEXT = bytes(i & 0x7F for i in range(256))


class Source:
    """Makes Arrow arrays of bytes; behind their end are zeros."""

    def __init__(self, content: Input) -> None:
        self._content, self._at = bytes(content), 0

    def take(self, size: int) -> bytes:
        found = self._content[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b'\0')

    def array(self, cql: Any, arrow: pa.DataType, count: int, nulls: bool = True) -> pa.Array:
        """Returns `count` values of a CQL type, whose Arrow type is `arrow`."""
        if cql.typename == 'frozen':
            return self.array(cql.subtypes[0], arrow, count, nulls)
        # Half of the arrays have no nulls, so that what refuses nulls is passed.
        first = self.take(1)[0]
        valid = pa.py_buffer(self.take((count + 7) // 8)) if nulls and first & 1 else None
        if pa.types.is_struct(arrow):
            subtypes = cql.subtypes or [cqltypes.LongType] * 3  # a duration's numbers
            fields = [self.array(kind, field.type, count) for kind, field in zip(subtypes, arrow, strict=True)]
            return pa.Array.from_buffers(arrow, count, [valid], children=fields)
        if pa.types.is_fixed_size_list(arrow):
            items = self.array(cql.subtype, arrow.value_type, count * arrow.list_size)
            return pa.Array.from_buffers(arrow, count, [valid], children=[items])
        if pa.types.is_list(arrow) or pa.types.is_map(arrow):
            return self._collection(cql, arrow, count, valid)
        if pa.types.is_string(arrow) or pa.types.is_binary(arrow):
            return self._text(cql.typename, arrow, count, valid)
        return pa.Array.from_buffers(arrow, count, [valid, pa.py_buffer(self.take((count * arrow.bit_width + 7) // 8))])

    def _collection(self, cql: Any, arrow: pa.DataType, count: int, valid: pa.Buffer | None) -> pa.Array:
        offsets = self._offsets(count, 3)
        total = int(offsets[-1])
        if pa.types.is_map(arrow):
            key, item = cql.subtypes
            keys = self.array(key, arrow.key_type, total, nulls=False)
            made = pa.MapArray.from_arrays(pa.array(offsets), keys, self.array(item, arrow.item_type, total))
            return made.cast(arrow) if made.type != arrow else made
        items = self.array(cql.subtypes[0], arrow.value_type, total)
        return pa.Array.from_buffers(arrow, count, [valid, pa.py_buffer(offsets)], children=[items])

    def _offsets(self, count: int, most: int) -> np.ndarray:
        lengths = np.frombuffer(self.take(count), np.uint8) & most
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)

    def _text(self, name: str, arrow: pa.DataType, count: int, valid: pa.Buffer | None) -> pa.Array:
        if name in ('uuid', 'timeuuid') and self.take(1)[0] & 3:
            parts = [str(uuid.UUID(bytes=self.take(16))).encode() for _ in range(count)]
            offsets, content = np.arange(0, 36 * count + 1, 36, np.int32), b''.join(parts)
        else:
            offsets = self._offsets(count, 15)
            content = self.take(int(offsets[-1]))
        if name == 'decimal':
            content = content.translate(_DIGITS)
        elif name == 'inet':
            content = content.translate(_ADDRESS)
        elif pa.types.is_string(arrow):
            content = content.translate(_TEXT)
        return pa.Array.from_buffers(arrow, count, [valid, pa.py_buffer(offsets), pa.py_buffer(content)])


_PIECES = (4096, 64, 13, 5)


def sstable_target(given: Input) -> None:
    """SSTables of a table: (table (16 bits), how to read, bytes of the first SSTable (16 bits), both SSTables' bytes).

    How to read: bits for two SSTables, write times and times to live, the size of pieces, rows of a batch, a part of
    the ring.
    """
    if len(given) < 5:
        return
    (number,), how, (first,) = _numbers(given[:2]), given[2], _numbers(given[3:5])
    table, content = tables()[number % len(tables())], given[5:]
    parts = [content[:first], content[first:]] if how & 1 else [content]
    streams = [table.streams[i % len(table.streams)] for i in range(len(parts))]
    if how & 64:
        streams = [dataclasses.replace(one, part=layout.Part(tokens=(-(2**62), 2**62))) for one in streams]
    plan, size = table.plans[how >> 1 & 1], _PIECES[how >> 2 & 3]
    feeds = [iter([part[at : at + size] for at in range(0, len(part), size)]) for part in parts]
    merger = data.Merger(
        plan,
        streams,
        [functools.partial(next, feed, b'') for feed in feeds],
        int(NOW.timestamp()),
        1 + (how >> 4 & 3) * 5,
        256,
    )
    while True:
        count, cells, times = merger.batch()
        if not count:
            return
        if any(len(column) != 8 * count for column in times):
            raise AssertionError(f'{times} of {count} rows')
        for kind, column in zip(table.kinds, cells, strict=True):
            rows.decode(_kind(kind), column)


@functools.lru_cache(None)
def _kind(cql: Any) -> rows.Kind:
    return types.kind_of(cql)


def sstable_seeds() -> Iterator[bytes]:
    for number, table in enumerate(tables()):
        whole, *others = table.contents
        yield struct.pack('<HBH', number, 2 | number % 4 << 2 | 0x30, 0) + whole
        if others and len(whole) < 65536:
            yield struct.pack('<HBH', number, 3 | number % 4 << 2 | 0x30, len(whole)) + whole + others[0]


TARGETS: dict[str, tuple[Target, Callable[[], Iterator[bytes]]]] = {
    'rows': (rows_target, rows_seeds),
    'encode': (encode_target, encode_seeds),
    'sstable': (sstable_target, sstable_seeds),
}
REFUSALS = (ReadError, DatasetError, SchemaError, ValueError)  # what a target may end with


def refused(target: Target, given: Input) -> bool:
    """Runs a target; returns whether it was refused by an error of one line."""
    try:
        target(given)
    except UnicodeError:
        raise
    except REFUSALS as error:
        if '\n' in str(error) or 'rule: ' not in str(error):
            raise
        return True
    return False
