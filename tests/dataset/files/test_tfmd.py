"""The schema made from CQL types describes the examples: TFDV finds no anomaly."""

from __future__ import annotations

import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_cassandra.components.dataset.files.decode import decode
from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.files.examples import kind_of
from tfx_cassandra.components.dataset.files.tfmd import schema_of

CQL = {
    'id': 'text', 'ts': 'timestamp', 'x': 'double', 'n': 'int', 'late': 'boolean', 'tags': 'set<text>',
    'v': 'vector<float, 3>', 'w': 'frozen<list<int>>',
}  # fmt: skip
COLUMNS = {
    'id': pa.array(['a', 'b', 'c'], pa.string()),
    'ts': pa.array([1, 2, 3], pa.int64()),
    'x': pa.array([1.5, None, 2.5], pa.float64()),
    'n': pa.array([1, None, None], pa.int32()),
    'late': pa.array([True, False, None], pa.bool_()),
    'tags': pa.array([['a', 'b'], None, ['c']], pa.list_(pa.string())),
    'v': pa.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], pa.list_(pa.float32(), 3)),
    'w': pa.array([[1], [2, 3], None], pa.list_(pa.int32())),
}


def statistics(columns: dict[str, pa.Array]) -> object:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    framed = encode(batch, {name: kind_of('test', name, CQL[name]) for name in columns})
    content, offsets = framed.buffer.to_pybytes(), framed.offsets.to_pylist()
    decoded, _ = decode([content[offsets[i] + 12 : offsets[i + 1] - 4] for i in range(len(framed))])
    return stats_impl.generate_statistics_in_memory(decoded)


def test_tfdv_finds_no_anomaly_in_the_examples_and_finds_a_planted_one() -> None:
    kinds = {name: kind_of('test', name, cql) for name, cql in CQL.items()}
    schema = schema_of(kinds, CQL, required=('id', 'ts', 'v'))
    assert [feature.name for feature in schema.feature] == sorted(CQL)
    assert not tfdv.validate_statistics(statistics(COLUMNS), schema).anomaly_info
    by_name = {feature.name: feature for feature in schema.feature}
    assert by_name['v'].shape.dim[0].size == 3
    assert by_name['x'].type == schema_pb2.FLOAT
    broken = {**COLUMNS, 'id': pa.array(['a', None, 'c'], pa.string())}
    assert list(tfdv.validate_statistics(statistics(broken), schema).anomaly_info) == ['id']
