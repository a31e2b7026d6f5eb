"""A view's own rows as examples: wide ones renamed, long ones gathered to one row per entity and timestamp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.join.join import with_default
from tfx_cassandra.components.dataset.spec.view import FeatureView, Source
from tfx_cassandra.components.errors import DatasetError


def renamed(batch: pa.RecordBatch, view: FeatureView) -> pa.RecordBatch:
    """Turns rows of a wide view into rows with the view's example names, defaults filled in."""
    arrays = _index_arrays(batch, view)
    for feature in view.full_features:
        name = view.example_name(feature)
        arrays.append(with_default(cell(batch, view.source(feature)), None, feature.default, name))
    return pa.RecordBatch.from_arrays(arrays, names=[*_index(view), *view.example_names])


def shard(batch: pa.RecordBatch, view: FeatureView, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parts a batch by a hash of entity and timestamp, so that all rows of one example meet in one shard.

    Args:
      batch: Rows with the view's columns.
      view: A view of long layout.
      count: Number of shards.

    Yields:
      (shard number from 0 to count - 1, its rows), for the shards the batch has rows of.
    """
    keys = pl.DataFrame([pl.Series(str(i), pl.from_arrow(a)) for i, a in enumerate(_index_arrays(batch, view))])
    # Polars promises the same hash within one version, and all workers of a pipeline run the same one.
    number = pl.Series('', keys.hash_rows(seed=0) % count, pl.Int64)
    for shard_number in number.unique().to_list():
        rows = pa.array((number == shard_number).to_list())
        yield shard_number, batch.filter(rows)


def pivot(batches: Sequence[pa.RecordBatch], view: FeatureView) -> pa.RecordBatch:
    """Turns all long rows of a shard into wide ones.

    Args:
      batches: Rows with the view's columns, at least one batch.
      view: A view of long layout.

    Returns:
      A batch of shape (entities x timestamps, entity columns + timestamp + features), sorted by entity and timestamp;
      a feature without a row is null, or its default. Columns have the view's example names.

    Raises:
      DatasetError: Two rows hold the same feature of the same entity and timestamp.
    """
    index, name = _index(view), str(view.feature_name_column)
    table = pa.Table.from_batches(batches).combine_chunks()
    names = table.column(name).combine_chunks()
    keys = pl.DataFrame(
        [pl.Series(n, pl.from_arrow(a)) for n, a in zip(index, _index_arrays(table, view), strict=True)]
    )
    rows = keys.with_columns(pl.Series('', pl.from_arrow(names))).with_row_index('row number')
    doubled = rows.select(*index, '').is_duplicated()
    if doubled.any():
        first = rows.filter(doubled).select(*index, '').row(0)
        rule = f'one row per {", ".join([*index, name])}'
        raise DatasetError(f'view {view.name}: got {first} more than once, rule: {rule}')
    wide = rows.unique(index, keep='first').sort(index)
    arrays = [array.take(pa.array(wide['row number'].to_numpy())) for array in _index_arrays(table, view)]
    for feature in view.full_features:
        of_feature = rows.filter(pl.col('') == feature.name).select(*index, pl.col('row number').alias('at'))
        at = wide.select(index).join(of_feature, on=index, how='left', nulls_equal=True, maintain_order='left')['at']
        values = cell(table, view.source(feature))
        arrays.append(
            with_default(values, pa.array(at.to_list(), pa.int64()), feature.default, view.example_name(feature))
        )
    return pa.RecordBatch.from_arrays(arrays, names=[*index, *view.example_names])


def _index(view: FeatureView) -> list[str]:
    return [*view.entity_names, str(view.timestamp_column)]


def _index_arrays(rows: pa.RecordBatch | pa.Table, view: FeatureView) -> list[pa.Array]:
    return [cell(rows, source) for source in (*view.entity, Source(str(view.timestamp_column)))]
