"""A view's own rows as examples: wide rows are renamed, long ones become one row per entity and timestamp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.join.join import with_default
from tfx_cassandra.components.dataset.spec.rows import described
from tfx_cassandra.components.dataset.spec.view import FeatureView, Source
from tfx_cassandra.components.errors import DatasetError


def renamed(batch: pa.RecordBatch, view: FeatureView) -> pa.RecordBatch:
    """Renames the columns of a wide view to the view's example names and fills in defaults."""
    arrays = _index_arrays(batch, view)
    for feature in view.full_features:
        name = view.example_name(feature)
        arrays.append(with_default(cell(batch, view.source(feature)), None, feature.default, name))
    return pa.RecordBatch.from_arrays(arrays, names=[*_index(view), *view.example_names])


def shard(batch: pa.RecordBatch, view: FeatureView, count: int, seed: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Partitions a batch by a hash of entity and timestamp, so that all rows of one example are in one shard.

    Args:
      batch: Rows with the view's columns.
      view: A view of long layout.
      count: Number of shards.
      seed: Seed of the hash; partition the rows of a shard again with another one.

    Yields:
      (shard number from 0 to count - 1, its rows) for the shards that the batch has rows for.
    """
    # Polars guarantees equal hashes within one version, and all workers of a pipeline run the same version.
    number = (_keys(_index_arrays(batch, view)).hash_rows(seed=seed) % count).to_numpy()
    for shard_number in np.unique(number).tolist():
        yield shard_number, batch.take(pa.array(np.flatnonzero(number == shard_number)))


def pivot(batches: Sequence[pa.RecordBatch], view: FeatureView) -> pa.RecordBatch:
    """Pivots all long rows of a shard to wide ones.

    Args:
      batches: Rows with the view's columns, at least one batch.
      view: A view of long layout.

    Returns:
      A batch of shape (entities x timestamps, entity columns + timestamp + features), sorted by entity and timestamp;
      a feature without a row is null or its default. Columns have the view's example names.

    Raises:
      DatasetError: Two rows hold the same feature of the same entity and timestamp.
    """
    table = pa.Table.from_batches(batches).combine_chunks()
    index, names = _index_arrays(table, view), cell(table, Source(str(view.feature_name_column)))
    keys = _keys(index)
    # The examples in order, each with its first row; then the example number of each row.
    examples = keys.with_row_index('first').unique(keys.columns, keep='first').sort(keys.columns)
    numbered = examples.select(keys.columns).with_row_index('example')
    example = keys.join(numbered, on=keys.columns, how='left', nulls_equal=True, maintain_order='left')['example']
    _check_single(pl.DataFrame([example, pl.Series('name', pl.from_arrow(names))]), index, names, view)
    arrays = [array.take(pa.array(examples['first'].to_numpy())) for array in index]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(feature.name for feature in view.full_features))}
    number = pc.index_in(names, pa.array(list(numbers))).fill_null(len(numbers)).to_numpy()
    rows = np.argsort(number, kind='stable')  # by feature
    ends = np.searchsorted(number[rows], np.arange(len(numbers) + 1))
    example_of_row, values = example.to_numpy().astype(np.int64), cell(table, Source(str(view.value_column)))
    for feature in view.full_features:
        feature_rows = rows[slice(*ends[numbers[feature.name] :][:2])]
        taken = np.full(len(examples), -1)
        taken[example_of_row[feature_rows]] = feature_rows
        arrays.append(
            with_default(values, pa.array(taken, mask=taken < 0), feature.default, view.example_name(feature))
        )
    return pa.RecordBatch.from_arrays(arrays, names=[*_index(view), *view.example_names])


def _check_single(cells: pl.DataFrame, index: list[pa.Array], names: pa.Array, view: FeatureView) -> None:
    doubled = cells.is_duplicated()
    if doubled.any():
        columns = [*_index(view), str(view.feature_name_column)]
        row = pa.RecordBatch.from_arrays([array.slice(doubled.arg_max(), 1) for array in (*index, names)], columns)
        rule = f'one row per {", ".join(columns)}'
        raise DatasetError(f'view {view.name}: got {described(row, 0)} more than once, rule: {rule}')


def _keys(arrays: list[pa.Array]) -> pl.DataFrame:
    """Returns a frame with numbers as column names, since polars treats some names as patterns."""
    return pl.DataFrame([pl.Series(str(i), pl.from_arrow(array)) for i, array in enumerate(arrays)])


def _index(view: FeatureView) -> list[str]:
    return [*view.entity_names, str(view.timestamp_column)]


def _index_arrays(rows: pa.RecordBatch | pa.Table, view: FeatureView) -> list[pa.Array]:
    return [cell(rows, source) for source in (*view.entity, Source(str(view.timestamp_column)))]
