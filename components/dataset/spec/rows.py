"""Columns of rows by name, and rows as messages show them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError

_MAX_LENGTH = 80  # characters of a value in a message


def column_of(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    """Returns a column as one array; raises DatasetError if the rows have no such column."""
    names: Sequence[str] = batch.schema.names
    if name not in names:
        raise DatasetError(f'columns: got {name!r}, rule: a column of the rows ({", ".join(names)})')
    column = batch.column(names.index(name))
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def described(rows: pa.RecordBatch, row: int, columns: Sequence[str] | None = None) -> str:
    """Returns columns of a row for a message, values truncated; times in ms, since datetime cannot represent all."""
    parts = []
    for name in rows.schema.names if columns is None else columns:
        array = column_of(rows, name)
        value = array.cast(pa.int64())[row] if pa.types.is_timestamp(array.type) else array[row]
        text = repr(value.as_py())
        parts.append(f'{name!r}: {text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "..."}')
    return f'{{{", ".join(parts)}}}'
