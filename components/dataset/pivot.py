"""Long rows -> one row per entity and timestamp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.view import FeatureView
from tfx_cassandra.components.errors import DatasetError


def shard(batch: pa.RecordBatch, view: FeatureView, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parts a batch by a hash of entity and timestamp, so that all rows of one example meet in one shard.

    Args:
      batch: Rows with the view's columns.
      view: A view of long layout.
      count: Number of shards.

    Yields:
      (shard number from 0 to count - 1, its rows), for the shards the batch has rows of.
    """
    frame = pl.from_arrow(batch)
    keys = frame.select(*view.entity_columns, view.timestamp_column)  # type: ignore[union-attr]
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
      a feature without a row is null. Columns have the view's example names.

    Raises:
      DatasetError: Two rows hold the same feature of the same entity and timestamp.
    """
    name, value = str(view.feature_name_column), str(view.value_column)
    index = [*view.entity_columns, view.timestamp_column]
    rows: pl.DataFrame = pl.from_arrow(pa.Table.from_batches(batches))  # type: ignore[assignment]
    doubled = rows.select(*index, name).is_duplicated()
    if doubled.any():
        first = rows.filter(doubled).select(*index, name).row(0)
        rule = f'one row per {", ".join([*index, name])}'
        raise DatasetError(f'view {view.name}: got {first} more than once, rule: {rule}')
    wide = rows.select(index).unique().sort(index)
    for feature in view.features:
        of_feature = rows.filter(pl.col(name) == feature).select(
            *index, pl.col(value).alias(view.example_name(feature))
        )
        wide = wide.join(of_feature, on=index, how='left', nulls_equal=True, maintain_order='left')
    return wide.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks().to_batches()[0]
