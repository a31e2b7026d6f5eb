"""TFRecord files of tf.Examples -> record batches: the reverse of encode.pyx, by TensorFlow and tfx_bsl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from tfx_cassandra.components.dataset.files.examples import Kind

BATCH = 4096  # examples


def records(path: str, batch: int = BATCH) -> Iterator[list[bytes]]:
    """Yields the records of a TFRecord file, `batch` at a time; a file whose name ends in .gz is gzipped."""
    data = tf.data.TFRecordDataset([path], compression_type='GZIP' if path.endswith('.gz') else '')
    for serialized in data.batch(batch).as_numpy_iterator():
        yield serialized.tolist()


def decode(examples: Sequence[bytes]) -> tuple[pa.RecordBatch, dict[str, Kind]]:
    """Parses serialized tf.Examples into a record batch.

    Returns:
      (batch, kinds): the batch of shape (examples, features), each feature a list of values, null where absent; and
      each feature's kind. A feature that is empty in every example has no kind and is left out.
    """
    batch = ExamplesToRecordBatchDecoder().DecodeBatch(list(examples))
    kinds = {field.name: _kind(field.type) for field in batch.schema if not pa.types.is_null(field.type)}
    columns = {name: batch.column(batch.schema.get_field_index(name)) for name in kinds}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), kinds


def _kind(lists: pa.DataType) -> Kind:
    if pa.types.is_floating(lists.value_type):
        return 'float_list'
    return 'int64_list' if pa.types.is_integer(lists.value_type) else 'bytes_list'
