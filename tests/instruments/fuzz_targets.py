"""What is fuzzed: functions of bytes that end in a result or an error of the package, and the seeds to begin with.

Types of columns, and the seeds, are those of the tables that a real Cassandra has written (`recorded_sstables`): values
as pages have them, and the uncompressed bytes of Data.db files. `tools/fuzz` runs a target under a fuzzing engine.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from snapshots import with_times

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.errors import DatasetError, ReadError, SchemaError
from tfx_cassandra.components.sstable import data, layout
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.snapshot import open_snapshot
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
    """Arrays of the columns of a page: (rows before the slice, how, validity of eight rows, a page as above).

    How to change what the page has: 1, other rows are null, with their values below; 2, text is taken for a uuid,
    decimal or inet. What is encoded is decoded and encoded again, which must give the same bytes; then requests are
    made of it.
    """
    if len(given) < 7 or not given[4]:
        return
    before, how, bits, page = given[0] % 5, given[1], bytes(given[2:3]) * 32, given[3:]
    width, count = 1 + page[0] % 4, page[1]
    chosen = [columns()[number % len(columns())] for number in _numbers(page[2 : 2 + 2 * width])]
    cells, _ = rows.cells(page[2 + 2 * width :], 0, count, len(chosen))
    arrays = [rows.decode(column.kind, one) for column, one in zip(chosen, cells, strict=True)]
    if how & 2:
        chosen = [texts()[how >> 2 & 7] if column.coding.arrow == pa.string() else column for column in chosen]
    if how & 1:
        arrays = [_masked(array, bits) for array in arrays]
    values = [encode.encode(column.coding, array.slice(before)) for column, array in zip(chosen, arrays, strict=True)]
    whole = encode.packed(values)
    again, _ = rows.cells(whole, 0, values[0].count, len(chosen))
    same = [
        encode.encode(column.coding, rows.decode(column.kind, one)) for column, one in zip(chosen, again, strict=True)
    ]
    if encode.packed(same) != whole:
        raise AssertionError(f'{whole.hex()} became {encode.packed(same).hex()}')
    keys = encode.Keys(values[:2])
    order = np.arange(values[0].count, dtype=np.int64)
    bodies = encode.bodies(b'q' * 16, values, [encode.UNSET] * len(chosen), keys, order, 64, 5, b'end')
    if sum(made for _, _, made in bodies) != len(order):
        raise AssertionError(f'{bodies} of {len(order)} rows')
    encode.salts(values[:2], 7)


@functools.lru_cache(None)
def texts() -> list[Column]:
    """Returns eight columns whose arrays are text, of every type that has it."""
    found = [column for column in columns() if column.coding.arrow == pa.string()]
    return (found * 8)[:8]


def _masked(array: pa.Array, bits: bytes) -> pa.Array:
    """Returns an array that is null where `bits` say so; what was a value then lies below a null."""
    arrow, children = array.type, []
    if pa.types.is_map(arrow):
        return array
    if pa.types.is_struct(arrow):
        children = [array.field(i) for i in range(arrow.num_fields)]
    elif pa.types.is_list(arrow) or pa.types.is_fixed_size_list(arrow):
        children = [array.values]
    own = 1 if children and not pa.types.is_list(arrow) else 3 if arrow in (pa.string(), pa.binary()) else 2
    buffers = [pa.py_buffer(bits), *array.buffers()[1:own]]
    return pa.Array.from_buffers(arrow, len(array), buffers, children=children)


def encode_seeds() -> Iterator[bytes]:
    for number, page in enumerate(rows_seeds()):
        if page[1]:
            yield bytes([number % 3, number % 2, number % 256]) + page


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
FOUND = Path(__file__).parents[1] / 'fuzz' / 'found'  # inputs that were not refused as they should, before a change


def found(name: str) -> list[bytes]:
    """Returns what fuzzing has found of a target."""
    return [path.read_bytes() for path in sorted(FOUND.glob(f'{name}-*'))]


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
