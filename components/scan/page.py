"""Pages as they arrive: undecoded bodies of ROWS results, and how they become record batches.

The driver parses a result in its network thread. `RawHandler` makes it keep the body instead, so that the thread that
uses a page decodes it.
"""

from __future__ import annotations

import bisect
import struct
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.metadata import Murmur3Token
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.errors import DatasetError, ReadError, invalid
from tfx_cassandra.components.scan.area import Position
from tfx_cassandra.components.scan.query import Scan

_DECODERS: dict[tuple[Any, ...], tuple[pa.Schema, list[rows.Kind]]] = {}
_MAX_DECODERS = 256


class Page(NamedTuple):
    """One undecoded page.

    Attributes:
      body: The body of the result message.
      offset: Offset of the first row in the body.
      rows: Number of rows; the last one ends where the body ends.
      names: Column names.
      kinds: The columns' types, as the driver's classes.
    """

    body: bytes
    offset: int
    rows: int
    names: tuple[str, ...]
    kinds: tuple[Any, ...]


class Keys(NamedTuple):
    """The roles of a result's columns, by their indexes.

    Attributes:
      partition: The columns of the partition key, in key order.
      time: The column by which partitions are sliced, or None.
      descending: Whether that column is stored latest first.
      columns: The columns of the record batch; None for all. Others are read for the positions only.
    """

    partition: tuple[int, ...]
    time: int | None
    descending: bool = False
    columns: tuple[int, ...] | None = None


class Decoded(NamedTuple):
    """A decoded page.

    Attributes:
      content: Record batch of shape (rows, columns).
      checksum: Sum over its rows of a 64-bit hash of the row's bytes, modulo 2^64.
      size: Size of the page in bytes.
      first, last: Position of the first row, and the furthest position of the page; None without rows or Keys.
      last_key: The partition key of the last row, undecoded.
    """

    content: Any
    checksum: int
    size: int = 0
    first: Position | None = None
    last: Position | None = None
    last_key: tuple[bytes, ...] | None = None


class _RawResult(ResultMessage):
    """A result whose rows stay undecoded."""

    def recv_results_rows(self, f: Any, protocol_version: int, user_type_map: Any, metadata: Any, _: Any) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or metadata
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]
        count = read_int(f)
        self.parsed_rows = Page(f.getvalue(), f.tell(), count, tuple(self.column_names), tuple(self.column_types))


class RawHandler(_ProtocolHandler):
    """The driver's protocol handler, but with undecoded rows."""

    message_types_by_opcode = {**_ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _RawResult}


def raw_rows(names: Any, page: Page) -> list[Page]:
    """The row factory for RawHandler: a result is a list of its one page."""
    return [page]


def key_columns(scan: Scan) -> Keys:
    """Returns the roles of the columns in a scan's results."""
    time = None if scan.sliced_column is None else scan.index(scan.sliced_column)
    filtered_by = {scan.time_column, *(column for column, _ in scan.filters)}
    extra = [scan.index(column) for column in scan.selected if column in filtered_by]
    columns = (*range(len(scan.names)), *extra)
    return Keys(tuple(map(scan.index, scan.table.partition_key)), time, scan.table.descending, columns)


def decode(page: Page, keys: Keys | None = None, decoding: Decoding = DEFAULT) -> Decoded:
    """Turns a page into a record batch.

    Args:
      page: The page.
      keys: The roles of its columns; None for a batch of all columns, without positions.
      decoding: How to decode values that Arrow cannot represent.

    Raises:
      ReadError: The page is damaged, or text is not of its type's encoding; the message names the column.
      DatasetError: A varint does not fit 64 bits; the message names the column.
    """
    if not isinstance(page, Page):
        raise invalid('page', page, 'a Page')
    wanted = tuple(range(len(page.kinds))) if keys is None or keys.columns is None else keys.columns
    schema, kinds = _decoders(page, wanted, decoding)
    cells, checksum = rows.cells(page.body, page.offset, page.rows, len(kinds))
    times = [] if keys is None or keys.time is None else [keys.time]
    arrays = {}
    for i in {*wanted, *times}:
        try:
            arrays[i] = rows.decode(kinds[i], cells[i])
        except (ReadError, DatasetError) as error:
            raise _located(error, page, kinds, cells, i, keys) from error
        except MemoryError as error:
            raise ReadError(f'column {page.names[i]}: got more than memory holds, rule: less') from error
    batch = pa.RecordBatch.from_arrays([arrays[i] for i in wanted], schema=schema)
    if keys is None or not page.rows:
        return Decoded(batch, checksum, len(page.body))
    last_key = tuple(cells[i].value(page.rows - 1) or b'' for i in keys.partition)
    of_rows = None if keys.time is None else arrays[keys.time]
    return Decoded(batch, checksum, len(page.body), *_positions(page.rows, of_rows, cells, keys), last_key)


def _located(
    error: Exception, page: Page, kinds: list[rows.Kind], cells: list[rows.Cells], column: int, keys: Keys | None
) -> Exception:
    """Returns an error of a column's values with the column's name and the first row that raises it."""
    what, _, rest = str(error).partition(': ')
    for row in range(page.rows):
        try:
            rows.decode(kinds[column], cells[column].only(row))
        except (ReadError, DatasetError) as of_row:
            what, _, rest = str(of_row).partition(': ')
            what += f' in row {row} of the page'
            rest += '' if keys is None else f' (token {_token_at(row, cells, keys)})'
            break
    return type(error)(f'column {page.names[column]}: {what}: {rest}')


def _token_at(row: int, cells: list[rows.Cells], keys: Keys) -> int:
    return token_of([cells[i].value(row) or b'' for i in keys.partition])


def _positions(count: int, times: pa.Array | None, cells: list[rows.Cells], keys: Keys) -> tuple[Position, Position]:
    """Returns the position of the first of `count` rows, from 1, and the furthest position of all."""
    first, last = _token_at(0, cells, keys), _token_at(count - 1, cells, keys)
    if times is None:
        return Position(first, None), Position(last, None)
    # Rows are ordered by token. Those of the last token may be of two partitions, of which the first may reach further.
    start = 0 if first == last else bisect.bisect_left(range(count), last, key=lambda row: _token_at(row, cells, keys))
    furthest = pc.min_max(times.slice(start))['min' if keys.descending else 'max']
    return Position(first, times[0].value), Position(last, furthest.value)


def token_of(key: list[bytes]) -> int:
    """Returns the Murmur3 token of a partition key, given the serialized values of its columns.

    A key of several columns is hashed in the layout of org.apache.cassandra.db.marshal.CompositeType: for each value
    its length in two bytes, the value, and a zero byte.
    """
    serialized = key[0] if len(key) == 1 else b''.join(struct.pack('>H', len(v)) + v + b'\0' for v in key)
    return int(Murmur3Token.hash_fn(serialized))


def _decoders(page: Page, wanted: tuple[int, ...], decoding: Decoding) -> tuple[pa.Schema, list[rows.Kind]]:
    """Returns the schema of the wanted columns, and how to decode each column."""
    # Without nested types the classes themselves can be the key.
    found = _DECODERS.get((page.names, page.kinds, wanted, decoding))
    if found is None:
        key = (page.names, tuple(map(types.identity, page.kinds)), wanted, decoding)
        found = _DECODERS.get(key)
    if found is None:
        if len(_DECODERS) >= _MAX_DECODERS:
            _DECODERS.clear()
        schema = types.schema_of(page.names, page.kinds, decoding)
        kinds = [types.kind_of(kind, decoding) for kind in page.kinds]
        found = _DECODERS[key] = (pa.schema([schema[i] for i in wanted]), kinds)
    return found
