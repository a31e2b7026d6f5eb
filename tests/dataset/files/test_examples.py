"""Examples are those a plain loop over tf.train.Example makes; the frames are those TensorFlow reads."""

from __future__ import annotations

import datetime
import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import slow_examples
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.dataset.files import examples
from tfx_cassandra.components.errors import SchemaError

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)

KINDS = [
    ('bigint', pa.int64(), [1, None, -(2**63)], 'int64_list', [[1], None, [-(2**63)]]),
    ('tinyint', pa.int8(), [1, None], 'int64_list', [[1], None]),
    ('boolean', pa.bool_(), [True, False, None], 'int64_list', [[1], [0], None]),
    ('timestamp', pa.timestamp('ms', 'UTC'), [MOMENT, None], 'int64_list', [[int(MOMENT.timestamp() * 1000)], None]),
    ('date', pa.date32(), [datetime.date(1970, 1, 3), None], 'int64_list', [[2], None]),
    ('time', pa.time64('ns'), [datetime.time(0, 0, 1), None], 'int64_list', [[10**9], None]),
    ('double', pa.float64(), [0.1, None, float('inf')], 'float_list', [[0.1], None, [float('inf')]]),
    ('decimal', pa.string(), ['1.50', '-1E+2', None], 'float_list', [[1.5], [-100.0], None]),
    ('text', pa.string(), ['é', '', None], 'bytes_list', [['é'.encode()], [b''], None]),
    ('uuid', pa.string(), [f'{1:032x}', None], 'bytes_list', [[b'%032x' % 1], None]),
    ('blob', pa.binary(), [b'\x00\xff', None], 'bytes_list', [[b'\x00\xff'], None]),
    ('list<int>', pa.list_(pa.int32()), [[1, 2], [], None], 'int64_list', [[1, 2], [], None]),
    ('set<text>', pa.list_(pa.string()), [['a'], None], 'bytes_list', [[b'a'], None]),
    ('frozen<list<decimal>>', pa.list_(pa.string()), [['1', '2.5']], 'float_list', [[1.0, 2.5]]),
    ('vector<float, 2>', pa.list_(pa.float32(), 2), [[1, 2], None], 'float_list', [[1.0, 2.0], None]),
]  # fmt: skip


def plain(name: str, kind: str, values: list | None) -> bytes:
    """The oracle: one example, one value at a time."""
    example = tf.train.Example()
    if values is not None:
        getattr(example.features.feature[name], kind).SetInParent()
        for value in values:
            getattr(example.features.feature[name], kind).value.append(value)
    return example.SerializeToString(deterministic=True)


@pytest.mark.parametrize(('cql', 'arrow', 'values', 'kind', 'expected'), KINDS, ids=[row[0] for row in KINDS])
def test_each_type(cql: str, arrow: pa.DataType, values: list, kind: str, expected: list) -> None:
    assert examples.kind_of('features', 'c', cql) == kind
    batch = pa.RecordBatch.from_arrays([pa.array(values, arrow)], ['c'])
    assert slow_examples.encode(batch, {'c': kind}) == [plain('c', kind, row) for row in expected]


@pytest.mark.parametrize(
    'cql', ['map<text, text>', 'duration', 'frozen<pair>', 'list<frozen<list<int>>>', 'list<frozen<map<text, double>>>']
)
def test_types_without_an_example_form(cql: str) -> None:
    with pytest.raises(SchemaError, match="features: got 'c' of type"):
        examples.kind_of('features', 'c', cql)


@pytest.mark.parametrize('cql', ['varint', 'list<varint>', 'frozen<set<varint>>', 'vector<varint, 2>'])
def test_varints_are_integers_or_text(cql: str) -> None:
    assert examples.kind_of('view v', 'c', cql) == 'int64_list'
    assert examples.kind_of('view v', 'c', cql, varints_as_text=True) == 'bytes_list'
    assert examples.kind_of('view v', 'c', cql.replace('varint', 'bigint'), varints_as_text=True) == 'int64_list'


def test_decimals_are_rounded_once() -> None:
    # 32 bit is what tf.Example holds; the nearest such number to the decimal is what must come out.
    text = '0.1000000014901161193847656250001'
    (got,) = slow_examples.encode(pa.RecordBatch.from_arrays([pa.array([text])], ['c']), {'c': 'float_list'})
    value = tf.train.Example.FromString(got).features.feature['c'].float_list.value[0]
    assert abs(Decimal(value) - Decimal(text)) < Decimal('1e-8')


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_tensorflow_reads_the_frames(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    path: Path = tmp_path_factory.mktemp('records') / 'data.gz'
    half = len(records) // 2
    # Chunks are appended to a file, so two chunks are as good as one.
    path.write_bytes(gzip.compress(slow_examples.framed(records[:half]) + slow_examples.framed(records[half:])))
    read = tf.data.TFRecordDataset(str(path), compression_type='GZIP')
    assert list(read.as_numpy_iterator()) == records
