"""CQL types -> a TensorFlow Metadata schema, so that it need not be inferred from the data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_cassandra.components.dataset.files.examples import Kind

SEQUENCES = '##SEQUENCE##'  # tfx_bsl's name for the struct feature that holds a tf.SequenceExample's feature lists
_TYPES = {'int64_list': schema_pb2.INT, 'float_list': schema_pb2.FLOAT, 'bytes_list': schema_pb2.BYTES}
_COLLECTION = re.compile(r'(?:frozen<)?(?:list|set)<')
_VECTOR = re.compile(r'(?:frozen<)?vector<.+, *(\d+)>')


def schema_of(
    kinds: Mapping[str, Kind],
    cql: Mapping[str, str],
    required: Collection[str] = (),
    sequences: Collection[str] = (),
) -> schema_pb2.Schema:
    """Returns the schema of the tf.Examples, or tf.SequenceExamples, that hold some columns.

    Args:
      kinds: Kind of each feature, by name.
      cql: CQL type of each feature's column, by the feature's name.
      required: Features that every example has, because key columns are never null.
      sequences: Features that are feature lists of any length, with one value per step.

    Returns:
      A schema with a feature for each name: its type; its presence; a fixed shape for required features;
      any number of values for a list or set, one for others; the domain 0 to 1 for booleans. Feature lists are in one
      struct and become ragged tensors of shape (examples, steps, 1) under their own names.
    """
    schema = schema_pb2.Schema()
    for name in sorted(set(kinds) - set(sequences)):
        feature = _add(schema.feature, name, kinds, cql)
        vector = _VECTOR.match(cql[name])
        feature.presence.min_count = int(name in required)
        if name in required:
            feature.presence.min_fraction = 1.0
        if _COLLECTION.match(cql[name]):
            feature.value_count.min = 0
        elif name in required:
            feature.shape.dim.add(size=int(vector[1]) if vector else 1)
        else:
            feature.value_count.min = feature.value_count.max = int(vector[1]) if vector else 1
    if sequences:
        lists = schema.feature.add(name=SEQUENCES, type=schema_pb2.STRUCT)
        lists.presence.CopyFrom(schema_pb2.FeaturePresence(min_count=1, min_fraction=1.0))
        lists.value_count.CopyFrom(schema_pb2.ValueCount(min=1, max=1))
        for name in sorted(sequences):
            feature = _add(lists.struct_domain.feature, name, kinds, cql)
            feature.value_counts.value_count.add(min=0)
            feature.value_counts.value_count.add(min=1, max=1)
        # tfx_bsl only represents feature lists as tensors if the schema declares these; it prefixes the struct's name.
        from tfx_bsl.tfxio import tensor_representation_util  # takes all of TensorFlow along

        tensors = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
        tensors = {name.removeprefix(f'{SEQUENCES}.'): tensor for name, tensor in tensors.items()}
        tensor_representation_util.SetTensorRepresentationsInSchema(schema, tensors)
    return schema


def _add(features: Any, name: str, kinds: Mapping[str, Kind], cql: Mapping[str, str]) -> schema_pb2.Feature:
    feature = features.add(name=name, type=_TYPES[kinds[name]])
    if cql[name] == 'boolean':
        feature.int_domain.CopyFrom(schema_pb2.IntDomain(min=0, max=1, is_categorical=True))
    return feature
