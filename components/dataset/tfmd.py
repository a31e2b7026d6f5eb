"""CQL types -> a TensorFlow Metadata schema, so that nothing needs to be guessed from the data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_cassandra.components.dataset.examples import Kind

_TYPES = {'int64_list': schema_pb2.INT, 'float_list': schema_pb2.FLOAT, 'bytes_list': schema_pb2.BYTES}
_SEVERAL = re.compile(r'(?:frozen<)?(?:list|set)<')
_VECTOR = re.compile(r'(?:frozen<)?vector<.+, *(\d+)>')


def schema_of(kinds: Mapping[str, Kind], cql: Mapping[str, str], always: Collection[str] = ()) -> schema_pb2.Schema:
    """Returns the schema of the tf.Examples that hold some columns.

    Args:
      kinds: Kind of each feature, by name.
      cql: CQL type of each feature's column, by the feature's name.
      always: Features that every example has: key columns are never null, others may be.

    Returns:
      A schema with a feature for each, by name: its type; its presence; a fixed shape for a vector that is always
      there; several values for a list or set, one for all else; 0 and 1 for booleans.
    """
    schema = schema_pb2.Schema()
    for name in sorted(kinds):
        feature = schema.feature.add(name=name, type=_TYPES[kinds[name]])
        vector = _VECTOR.match(cql[name])
        required = name in always
        feature.presence.min_count = int(required)
        if required:
            feature.presence.min_fraction = 1.0
        if _SEVERAL.match(cql[name]):
            feature.value_count.min = 0
        elif required:
            feature.shape.dim.add(size=int(vector[1]) if vector else 1)
        else:
            feature.value_count.min = feature.value_count.max = int(vector[1]) if vector else 1
        if cql[name] == 'boolean':
            feature.int_domain.CopyFrom(schema_pb2.IntDomain(min=0, max=1, is_categorical=True))
    return schema
