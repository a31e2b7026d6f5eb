"""Pages as they arrive: undecoded bodies of ROWS results, and how they become record batches.

The driver parses a result where its socket thread stands. `RawHandler` makes it keep the body instead, so that
whoever takes a page decodes it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import pyarrow as pa
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.scan import rows, types


class Page(NamedTuple):
    """One undecoded page.

    Attributes:
      body: The body of the result message.
      offset: Where the first row begins in it.
      rows: Number of rows; the last one ends where the body ends.
      names: Column names.
      kinds: The columns' types, as the driver's classes.
    """

    body: bytes
    offset: int
    rows: int
    names: tuple[str, ...]
    kinds: tuple[Any, ...]


class _RawResult(ResultMessage):
    """A result whose rows stay as they came."""

    def recv_results_rows(self, f: Any, protocol_version: int, user_type_map: Any, metadata: Any, _: Any) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or metadata
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]
        count = read_int(f)
        self.parsed_rows = Page(f.getvalue(), f.tell(), count, tuple(self.column_names), tuple(self.column_types))


class RawHandler(_ProtocolHandler):
    """The driver's protocol, but with undecoded rows."""

    message_types_by_opcode = {**_ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _RawResult}


def raw_rows(names: Any, page: Page) -> list[Page]:
    """The row factory that goes with RawHandler: a result is a list of its one page."""
    return [page]


def decode(page: Page) -> tuple[pa.RecordBatch, int]:
    """Turns a page into a record batch of shape (rows, columns).

    Returns:
      (the batch, the sum over its rows of a 64-bit hash of the row's bytes, modulo 2^64)

    Raises:
      ReadError: The page is damaged.
      DatasetError: A varint does not fit 64 bits; the message names the column.
    """
    schema, kinds = _decoders(page.names, page.kinds)
    cells, checksum = rows.cells(page.body, page.offset, page.rows, len(kinds))
    arrays = []
    for name, kind, column in zip(page.names, kinds, cells, strict=True):
        try:
            arrays.append(rows.decode(kind, column))
        except DatasetError as error:
            raise DatasetError(f'column {name}: {error}') from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema), checksum


@functools.lru_cache(maxsize=256)
def _decoders(names: tuple[str, ...], kinds: tuple[Any, ...]) -> tuple[pa.Schema, list[rows.Kind]]:
    return types.schema_of(names, kinds), [types.kind_of(kind) for kind in kinds]
