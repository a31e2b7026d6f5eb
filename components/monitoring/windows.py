"""What a view's features held in a window of time: read by a scan that is limited in rows and in rows a second."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.checks import Count, Rate, check_fields
from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.spec.rows import column_of
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.source import opened, plan_splits
from tfx_cassandra.components.window import TimeWindow


@dataclasses.dataclass(frozen=True)
class Load:
    """How much a round may ask of the cluster.

    Attributes:
      rows_per_second: Rows read a second at most.
      max_rows: Rows of one view and window read at most. If there are more, what is read are random token ranges.
    """

    rows_per_second: Rate | None = 5000.0
    max_rows: Count = 200_000

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Held:
    """What a feature held in a window.

    Attributes:
      rows: Rows of the window that belong to the feature.
      missing: Of these, rows whose value is null or NaN.
      newest: Time of the newest value in ms since 1970, or None.
      values: Finite values as doubles, of shape (values,); None if the feature is not a number.
    """

    rows: int = 0
    missing: int = 0
    newest: int | None = None
    values: NDArray[Any] | None = None


def read(connection: CassandraConnection, view: FeatureView, window: TimeWindow, load: Load) -> dict[str, Held]:
    """Reads a window of a view; returns what each feature held, by its name in the examples.

    Raises:
      SchemaError, ReadError: The table could not be read.
    """
    names = [view.example_name(feature) for feature in view.full_features]
    parts: dict[str, list[Held]] = {name: [] for name in names}
    columns = tuple(dict.fromkeys(filter(None, (view.timestamp_column, view.feature_name_column, *view.value_columns))))
    for batch in _batches(connection, view, columns, window, load):
        for feature, name in zip(view.full_features, names, strict=True):
            parts[name].append(_held(batch, view, feature))
    return {name: _together(held) for name, held in parts.items()}


def _batches(
    connection: CassandraConnection, view: FeatureView, columns: tuple[str, ...], window: TimeWindow, load: Load
) -> Iterator[pa.RecordBatch]:
    options = ReadOptions('LOCAL_ONE', rows_per_second=load.rows_per_second)
    request = ReadRequest(connection, view.table, columns, window, view.timestamp_column, view.filters, options)
    yield from scanned(request, load.max_rows)


def scanned(request: ReadRequest, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a scan, token ranges in random order, and ends after `max_rows` rows."""
    plan = plan_splits(request)
    splits = plan.splits
    random.Random(0).shuffle(splits)  # the same order for both windows
    left = max_rows
    with contextlib.ExitStack() as stack:
        fetches = stack.enter_context(opened(request))(plan.scan, min(plan.page_rows, max_rows))
        for page in stack.enter_context(contextlib.closing(fetches.fetch(splits))):
            if isinstance(page, RangeRead):
                continue
            batch = filtered(page, plan.scan)[:left]
            left -= batch.num_rows
            yield batch
            if left <= 0:
                return


def _held(batch: pa.RecordBatch, view: FeatureView, feature: Feature) -> Held:
    """Returns what a feature held in a batch."""
    if view.feature_name_column is not None:
        batch = batch.filter(pc.equal(column_of(batch, view.feature_name_column), feature.name))
    values = cell(batch, view.source(feature))
    number = _is_number(values.type)
    if number:
        values = values.cast(pa.float64(), safe=False)
        values = pc.if_else(pc.is_nan(values), None, values)
    times = column_of(batch, str(view.timestamp_column)).filter(values.is_valid()).cast(pa.int64())
    found = values.drop_null().to_numpy(zero_copy_only=False) if number else None
    finite = None if found is None else found[np.isfinite(found)]
    return Held(batch.num_rows, values.null_count, pc.max(times).as_py(), finite)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _together(parts: list[Held]) -> Held:
    values = [part.values for part in parts if part.values is not None]
    return Held(
        sum(part.rows for part in parts),
        sum(part.missing for part in parts),
        max((part.newest for part in parts if part.newest is not None), default=None),
        np.concatenate(values) if values else None,
    )
