"""Record batches -> serialized tf.Examples -> framed TFRecords, in plain Python: the oracle of encode.pyx."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import Message
from tensorflow.core.example import example_pb2

from tfx_cassandra.components.dataset.files.examples import Kind


def encode(batch: pa.RecordBatch, kinds: Mapping[str, Kind]) -> list[bytes]:
    """Serializes each row as a tf.Example, deterministically: features in the order of their names.

    Args:
      batch: Rows, of shape (rows, columns); a column becomes the feature of its name.
      kinds: Kind of each column, by name.

    Returns:
      Serialized examples, one a row.
    """
    columns = [(name, kinds[name], _values(batch.column(i), kinds[name])) for i, name in enumerate(batch.schema.names)]
    examples = []
    for row in range(batch.num_rows):
        example = example_pb2.Example()
        feature = example.features.feature
        for name, kind, values in columns:
            if (value := values[row]) is not None:
                getattr(feature[name], kind).value.extend(value if isinstance(value, list) else (value,))
        examples.append(_message(1, _entries(example.features, feature)))
    return examples


def encode_sequences(batch: pa.RecordBatch, kinds: Mapping[str, Kind], sequences: Collection[str]) -> list[bytes]:
    """Serializes each row as a tf.SequenceExample: a step for each item of `sequences`, other columns as context."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    context = {name: column for name, column in columns.items() if name not in sequences}
    contexts = encode(pa.RecordBatch.from_pydict(context), kinds) if context else [b''] * batch.num_rows
    lists = [(name, kinds[name], _values(columns[name], kinds[name])) for name in sequences]
    made = []
    for row in range(batch.num_rows):
        example = example_pb2.SequenceExample()
        for name, kind, values in lists:
            if (steps := values[row]) is not None:
                feature_list = example.feature_lists.feature_list[name]
                for step in steps:
                    getattr(feature_list.feature.add(), kind).value.append(step)
        # The features of a tf.Example and the context of a tf.SequenceExample are the same field.
        made.append(contexts[row] + _message(2, _entries(example.feature_lists, example.feature_lists.feature_list)))
    return made


def _entries(of: Message, entries: Mapping[str, Any]) -> bytes:
    """Serializes a map, the only field of a message, in the bytewise order of its keys.

    protobuf's own deterministic order is this one until version 4; version 6 puts 'ab' before 'a'.
    """
    (field,) = of.DESCRIPTOR.fields
    parts = []
    for name in sorted(entries, key=str.encode):
        alone = type(of)()
        getattr(alone, field.name)[name].CopyFrom(entries[name])
        parts.append(alone.SerializeToString())
    return b''.join(parts)


def _message(field: int, content: bytes) -> bytes:
    """Serializes a message as a field of another one; an empty one is left out."""
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes([field << 3 | 2]) + bytes(size) + content if content else b''


def _values(array: pa.Array, kind: Kind) -> list:
    """Returns a column as Python values a feature takes: one, several in a list, or None, for each row."""
    if isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        # A null row of a fixed-size list still has its values in the child array: go by scalars.
        rows = array.to_pylist()
        flat = _values(pa.array([item for row in rows for item in row or ()], array.type.value_type), kind)
        items = iter(flat)
        return [None if row is None else [next(items) for _ in row] for row in rows]
    if kind == 'float_list':
        return array.cast(pa.float64()).cast(pa.float32()).to_pylist()
    if kind == 'bytes_list':
        return array.cast(pa.binary()).to_pylist()
    if pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    return pc.cast(array, pa.int64()).to_pylist()


def framed(records: Iterable[bytes]) -> bytes:
    """Frames records as a TFRecord file holds them: length, masked CRC32C of it, record, masked CRC32C of that.

    The format is that of tensorflow/core/lib/io/record_writer.cc.
    """
    parts = []
    for record in records:
        length = struct.pack('<Q', len(record))
        parts += [length, _masked_crc(length), record, _masked_crc(record)]
    return b''.join(parts)


def _masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack('<I', (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
