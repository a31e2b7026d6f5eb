"""Fills the columns of a table's layout: the time bucket and the hash salt of each row. cql/layout.py has the rules."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.errors import shown
from tfx_cassandra.components.write.columns import Column, Errors, plain
from tfx_cassandra.components.write.encode import Values, salts


def placed(
    layout: Layout, columns: Mapping[str, pa.Array], fields: Mapping[str, Column], errors: Errors, count: int
) -> tuple[dict[str, pa.Array], Errors]:
    """Returns the columns of a layout for some rows, and the rows that have another value in one of them.

    Args:
      layout: The layout.
      columns: Arrays of the rows' columns, as `Column.array` returns them; may have those of the layout.
      fields: How each column is serialized.
      errors: The rows that are wrong already; their salts do not count.
      count: Number of rows.

    Returns:
      (columns of the layout; null where a row lacks what they are made of, and has no value itself; errors)
    """
    made: dict[str, pa.Array] = {}
    wrong: Errors = {}
    for part in (layout.bucket, layout.salt):
        if part is None:
            continue
        sources = (part.time_column,) if isinstance(part, Bucket) else part.columns
        arrays: list[Any] = [columns.get(name) for name in sources]
        field = fields[part.column]
        if any(array is None for array in arrays):
            array = pa.nulls(count)
        elif isinstance(part, Bucket):
            array = _buckets(part, arrays[0])
        else:
            array = _salts(part, [fields[name] for name in sources], arrays, {*errors, *wrong}, wrong)
        computed, _ = field.array(array)
        given = columns.get(part.column)
        if given is None:
            made[part.column] = computed
            continue
        made[part.column] = pc.coalesce(given, computed)
        for row in pc.indices_nonzero(pc.fill_null(pc.not_equal(given, computed), False)).to_pylist():
            of = ', '.join(f'{name} = {_text(array, row)}' for name, array in zip(sources, arrays, strict=True))
            rule = f'{_text(computed, row)}, as {str(part)!r} gives for {of}'
            wrong.setdefault(row, f'{part.column}: got {_text(given, row)}, rule: {rule}')
    return made, wrong


def _text(array: pa.Array, row: int) -> str:
    value = plain(array[row])
    return str(value) if isinstance(value, datetime.datetime) else shown(value)


def _buckets(bucket: Bucket, times: pa.Array) -> pa.Array:
    moments = np.asarray(pc.fill_null(times.cast(pa.int64()), 0))
    absent = times.is_null().to_numpy(zero_copy_only=False)
    return pa.array(bucket.starts(moments), mask=absent).cast(times.type)


def _salts(salt: Salt, fields: Sequence[Column], arrays: Sequence[pa.Array], out: set[int], wrong: Errors) -> pa.Array:
    """Returns the salts of rows; null for those that lack a value, that are left out, or that cannot be serialized."""
    count = len(arrays[0])
    absent = np.zeros(count, bool)
    for array in arrays:
        absent |= array.is_null().to_numpy(zero_copy_only=False)
    absent[list(out)] = True
    while True:
        rows = np.flatnonzero(~absent)
        taken = [array if len(rows) == count else array.take(pa.array(rows)) for array in arrays]
        encoded = [field.encoded(array) for field, array in zip(fields, taken, strict=True)]
        bad = {int(rows[place]): message for _, errors in encoded for place, message in errors.items()}
        if not bad:
            break
        wrong.update(bad)
        absent[list(bad)] = True
    found = np.zeros(count, np.int32)
    values: list[Values] = [each for each, _ in encoded if each is not None]
    if len(rows):
        found[rows] = salts(values, salt.count).to_numpy()
    return pa.array(found, mask=absent)
