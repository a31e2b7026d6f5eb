"""What splits share and should not: entities that are in two of them, and times that do not keep apart."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.files.decode import decode, records
from tfx_cassandra.components.errors import DatasetError


class Leak(NamedTuple):
    """One thing that one split tells about another.

    Attributes:
      kind: 'entity' or 'time'.
      splits: The two splits, the earlier one first.
      examples: Examples of the first split that are concerned.
      first: One of them: its entity, or its time in milliseconds since 1970.
    """

    kind: str
    splits: tuple[str, str]
    examples: int
    first: tuple

    def __str__(self) -> str:
        what = 'have an entity of' if self.kind == 'entity' else 'are not early enough before'
        return (
            f'{self.kind}: {self.examples} examples of {self.splits[0]} {what} {self.splits[1]}, such as {self.first}'
        )


def find(
    splits: Mapping[str, pa.Table],
    entity_columns: Sequence[str] = (),
    time_column: str | None = None,
    gap: datetime.timedelta = datetime.timedelta(0),
) -> list[Leak]:
    """Compares every two splits.

    Args:
      splits: Rows of each split by its name, in the order of time where times are compared.
      entity_columns: An entity, told by these columns, must not be in two splits; empty: entities are not compared.
      time_column: Each time of a split, plus `gap`, must not be after any time of a later split; None: not compared.
      gap: Time that must lie between two splits.

    Returns:
      The leaks found; none is good.
    """
    frames: dict[str, pl.DataFrame] = {name: pl.from_arrow(rows) for name, rows in splits.items()}  # type: ignore[misc]
    leaks = []
    for (one, first), (other, second) in itertools.combinations(frames.items(), 2):
        if entity_columns:
            both = first.select(entity_columns).join(
                second.select(entity_columns), on=list(entity_columns), how='semi', nulls_equal=True
            )
            if len(both):
                leaks.append(Leak('entity', (one, other), len(both), both.row(0)))
        if time_column is not None and len(first) and len(second):
            start = _milliseconds(second[time_column]).min()
            times = _milliseconds(first[time_column])
            late = times.filter(times > start - gap // datetime.timedelta(milliseconds=1))  # type: ignore[operator]
            if len(late):
                leaks.append(Leak('time', (one, other), len(late), (late[0],)))
    return leaks


def read(paths: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Reads single-valued features of the examples in TFRecord files, for `find`.

    Raises:
      DatasetError: An example lacks one of them, or has several values of it.
    """
    tables = []
    for path in paths:
        for some in records(path):
            batch, _ = decode(some)
            tables.append(pa.table({name: _single(batch, name) for name in columns}))
    return pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.int64()) for name in columns})


def _single(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    values = batch.column(index).flatten() if index >= 0 else pa.array([])
    if len(values) != batch.num_rows:
        raise DatasetError(f'columns: got {name!r}, rule: a feature with one value in every example')
    return values


def _milliseconds(times: pl.Series) -> pl.Series:
    return times.dt.epoch('ms') if times.dtype.is_temporal() else times.cast(pl.Int64)
