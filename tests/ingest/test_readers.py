"""Records of each format: their fields, numbers and lines, whatever the blocks; and the errors of damaged files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.localfilesystem import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.errors import InputError, SchemaError
from tfx_cassandra.components.ingest import delimited, json_lines, tfrecords
from tfx_cassandra.components.ingest.delimited import CsvFormat
from tfx_cassandra.components.ingest.inputs import Input, find
from tfx_cassandra.components.ingest.readers import reader
from tfx_cassandra.components.ingest.records import Position, Records


def read(path: Path, wanted: list[str] | None = None, start: Position | None = None, **options: Any) -> list[Records]:
    (source,) = find([str(path)])
    with reader(source, CsvFormat(**options)) as (_, found):
        return list(found.read(wanted or found.fields, *([start] if start else [])))


def rows(found: list[Records]) -> list[dict[str, Any]]:
    return [records.row(i) for records in found for i in range(len(records.numbers))]


def places(found: list[Records]) -> list[str]:
    return [records.place(i) for records in found for i in range(len(records.numbers))]


def broken(found: list[Records]) -> list[str]:
    return [f'{b.line}: {b.error}' for records in found for b in records.broken]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes, name: str = 'rows.csv') -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def test_csv_with_all_that_it_can_have(written: Callable[..., Path]) -> None:
    content = b'\xef\xbb\xbfa,b\r\n1,"x\r\n\r\ny"\r\n\r\n2,\r\n3,""\r\n4,"say ""hi"", ok"\r\n5,NA'
    found = read(written(content), nulls=('NA',))
    assert rows(found) == [
        {'a': '1', 'b': 'x\r\n\r\ny'},
        {'a': '2'},
        {'a': '3', 'b': ''},
        {'a': '4', 'b': 'say "hi", ok'},
        {'a': '5'},
    ]
    assert places(found) == ['2', '6', '7', '8', '9']
    assert broken(found) == []


CELL = st.text(st.sampled_from('a,"\n\r é'), max_size=5)


@settings(max_examples=8)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6),
    st.integers(4, 60),
    st.sampled_from(['\n', '\r\n']),
    st.randoms(),
)
def test_csv_of_pythons_writer(cells: list[tuple[str, str]], block: int, line_end: str, chance: random.Random) -> None:
    """Python's csv module is the oracle: what it writes is read back, whatever the size of a block."""
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(['a', 'b'])
    lines = []
    for row in cells:
        lines.append(text.getvalue().count('\n') + 1)
        writer.writerow(row)
    data = text.getvalue().encode()
    before, delimited.BLOCK = delimited.BLOCK, block
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('sys.stdin', type('In', (), {'buffer': io.BytesIO(data)}))
            with reader(Input('-', 'csv'), CsvFormat()) as (_, found):
                every = list(found.read(['a', 'b']))
            stop = chance.choice(every).after
            patch.setattr('sys.stdin', type('In', (), {'buffer': io.BytesIO(data)}))
            with reader(Input('-', 'csv'), CsvFormat()) as (_, found):
                rest = list(found.read(['a', 'b'], stop))
    finally:
        delimited.BLOCK = before
    assert [tuple(row.values()) for row in rows(every)] == cells
    assert places(every) == list(map(str, lines))
    assert rows(rest) == rows(every)[stop.records :]
    assert places(rest) == places(every)[stop.records :]


@pytest.mark.parametrize('block', [7, 1 << 20])
def test_broken_records_of_csv_are_named_and_those_around_them_read(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(delimited, 'BLOCK', block)
    content = b'a,b\n1,2\n3\n4,5,6\n7,"8\n9,10\n11,x"y\n"a"b,1\n12,13\n14,\r15\n16,"17\n18"\n19,"20'
    found = read(written(content))
    assert rows(found) == [
        {'a': '1', 'b': '2'},
        {'a': '9', 'b': '10'},
        {'a': '12', 'b': '13'},
        {'a': '16', 'b': '17\n18'},
    ]
    assert places(found) == ['2', '6', '9', '11']
    assert broken(found) == [
        "3: got 1 values in '3', rule: 2, as many as there are fields",
        "4: got 3 values in '4,5,6', rule: 2, as many as there are fields",
        "5: got '7,\"8', rule: quotes as in RFC 4180 (a character behind the closing quote of a value)",
        "7: got '11,x\"y', rule: quotes as in RFC 4180 (a quote within a value that does not begin with one)",
        '8: got \'"a"b,1\', rule: quotes as in RFC 4180 (a character behind the closing quote of a value)',
        "10: got '14,\\r15', rule: quotes as in RFC 4180 (a carriage return without a line feed)",
        "13: got '19,\"20', rule: quotes as in RFC 4180 (a quote that is not closed)",
    ]
    assert sorted([*(int(n) for r in found for n in r.numbers), *(b.record for r in found for b in r.broken)]) == list(
        range(1, 12)
    )


def test_csv_with_invalid_utf_8_keeps_the_other_values(written: Callable[..., Path]) -> None:
    assert rows(read(written(b'a,b\n1,x\n2,\xff\n'))) == [{'a': '1', 'b': 'x'}, {'a': '2', 'b': '\udcff'}]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'rows.csv:1: got nothing, rule: a line with the names of the fields'),
        (b'a,a\n', "rows.csv:1: got field 'a' twice"),
    ],
)
def test_a_wrong_line_of_names(written: Callable[..., Path], content: bytes, message: str) -> None:
    with pytest.raises(SchemaError) as raised:
        read(written(content))
    assert message in str(raised.value)


def test_csv_without_names_with_tabs(written: Callable[..., Path]) -> None:
    found = read(written(b'1\t2,3\n', 'rows.tsv'), fields=('x', 'y'), delimiter='\t')
    assert (rows(found), places(found)) == ([{'x': '1', 'y': '2,3'}], ['1'])


ROWS = 12_000  # thirty of the smaller blocks, each of which costs milliseconds; half a shorter zstd file holds no row


@pytest.mark.parametrize('suffix', ['gz', 'zst'])
@pytest.mark.parametrize('block', [10_000, 1 << 20])
def test_a_truncated_stream_names_the_file_after_the_rows_before_it(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, suffix: str, block: int
) -> None:
    monkeypatch.setattr(delimited, 'BLOCK', block)
    chance = random.Random(1)
    lines = ['a,b', *(f'{i},{chance.random()}' for i in range(ROWS))]
    content = '\n'.join(lines).encode()
    data = gzip.compress(content) if suffix == 'gz' else pa.compress(content, 'zstd', asbytes=True)
    whole = written(data, f'whole.csv.{suffix}')
    assert [a for records in read(whole) for a in records.columns['a'].to_pylist()] == [str(i) for i in range(ROWS)]
    found: list[str] = []

    def gather(path: Path) -> None:
        with reader(Input(str(path), 'csv'), CsvFormat()) as (_, opened):
            for records in opened.read(['a']):
                found.extend(records.columns['a'].to_pylist())

    with pytest.raises(InputError) as raised:
        gather(written(data[: len(data) // 2], f'half.csv.{suffix}'))
    codec = 'gzip' if suffix == 'gz' else 'zstd'
    assert str(raised.value).endswith(f'bytes, rule: a whole {codec} stream (Truncated compressed stream)')
    assert found == [str(i) for i in range(len(found))]
    assert found or block > len(content)


def json_of(tmp_path: Path, content: bytes, wanted: list[str], others: bool = True, **more: Any) -> list[Records]:
    (tmp_path / 'rows.jsonl').write_bytes(content)
    (source,) = find([str(tmp_path / 'rows.jsonl')])
    with reader(source, CsvFormat()) as (_, found):
        return list(found.read(wanted, others=others, **more))


def test_json_lines(tmp_path: Path) -> None:
    content = (
        b'\xef\xbb\xbf{"a": 1, "b": {"k": [1]}}\r\n\n{"b": "x", "_ingest": {"line": 1}}\n{"a": 12345678901234567890123}'
    )
    found = json_of(tmp_path, content, ['a', 'b'], others=False)
    assert rows(found) == [{'a': 1, 'b': {'k': [1]}}, {'b': 'x'}, {'a': 12345678901234567890123}]
    assert places(found) == ['1', '3', '4']


@pytest.mark.parametrize('block', [5, 1 << 20])
def test_broken_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_lines, 'BLOCK', block)
    lines = [
        b'{"a":1}',
        b'null',
        b'{"a":2} x',
        b'[1]',
        b'{"a":3}{"a":4}',
        b'{"a":',
        b'5}',
        b'{"c":1}',
        b'{"a":6}',
        b'[' * 100_000,
        b'{"a":"\xff"}',
    ]
    found = json_of(tmp_path, b'\n'.join(lines), ['a'], others=False)
    assert rows(found) == [{'a': 1}, {'a': 6}, {'a': '\udcff'}]
    assert places(found) == ['1', '9', '11']
    errors = broken(found)
    assert [error.partition(':')[0] for error in errors] == ['2', '3', '4', '5', '6', '7', '8', '10']
    assert errors[0] == "2: got 'null', rule: a JSON object on each line: not NoneType"
    assert errors[1].startswith('3: got \'{"a":2} x\', rule: a JSON object on each line: JSON (Extra data')
    assert errors[6].endswith("no field but a; it has 'c'")


OBJECTS = st.dictionaries(
    st.sampled_from('ab'),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers(), max_size=2),
)


@given(st.lists(OBJECTS | st.integers(), min_size=1, max_size=6), st.integers(1, 50))
def test_json_lines_equal_each_parsed_by_itself(objects: list[Any], block: int) -> None:
    data = '\n'.join(map(json.dumps, objects)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, 'BLOCK', block)
        patch.setattr('sys.stdin', type('In', (), {'buffer': io.BytesIO(data)}))
        with reader(Input('-', 'jsonl'), CsvFormat()) as (_, found):
            every = list(found.read(['a', 'b']))
    expected = [
        {name: row[name] for name in 'ab' if row.get(name) is not None} for row in objects if isinstance(row, dict)
    ]
    assert rows(every) == expected
    assert sum(len(records.broken) for records in every) == sum(not isinstance(row, dict) for row in objects)


TABLE = pa.table({'a': list(range(50_000)), 'b': [f't{i}' for i in range(50_000)]})


@pytest.mark.parametrize('kind', ['parquet', 'arrow', 'arrows'])
@pytest.mark.parametrize('suffix', ['', '.gz', '.zst'])
def test_parquet_and_arrow(tmp_path: Path, kind: str, suffix: str) -> None:
    sink = pa.BufferOutputStream()
    if kind == 'parquet':
        pq.write_table(TABLE, sink, row_group_size=15_000)
    else:
        with (pa.ipc.new_file if kind == 'arrow' else pa.ipc.new_stream)(sink, TABLE.schema) as writer:
            writer.write_table(TABLE, 15_000)
    data = sink.getvalue().to_pybytes()
    data = {'': bytes, '.gz': gzip.compress, '.zst': lambda d: pa.compress(d, 'zstd', asbytes=True)}[suffix](data)
    path = tmp_path / f'rows.{kind}{suffix}'
    path.write_bytes(data)
    found = read(path, ['b', 'a'])
    assert [row['a'] for row in rows(found)] == list(range(50_000))
    assert places(found)[:2] == ['row 1', 'row 2']
    rest = read(path, ['a'], Position(30_001))
    assert [row['a'] for row in rows(rest)] == list(range(30_001, 50_000))
    assert places(rest)[0] == 'row 30002'
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match='rule: a whole'):
        read(path, ['a'])


@pytest.mark.parametrize('kind', ['arrow', 'arrows'])
def test_small_batches_of_arrow_are_gathered(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f'rows.{kind}'
    table = TABLE.append_column('c', pa.array(['x', None] * 25_000).dictionary_encode())
    with (pa.ipc.new_file if kind == 'arrow' else pa.ipc.new_stream)(path, table.schema) as writer:
        writer.write_table(table, 300)
    found = read(path, ['b', 'c', 'a'])
    assert [len(records.numbers) for records in found] == [19_800, 19_800, 10_400]
    assert [row['a'] for row in rows(found)] == list(range(50_000))
    assert [row.get('c') for row in rows(found)] == ['x', None] * 25_000
    rest = read(path, ['a'], Position(30_001))
    assert [row['a'] for row in rows(rest)] == list(range(30_001, 50_000))


def framed(records: list[bytes], path: Path, compression: str) -> Path:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


def example(**features: list[Any]) -> bytes:
    import tensorflow as tf

    made = tf.train.Example()
    for name, values in features.items():
        kind = {bytes: 'bytes_list', int: 'int64_list', float: 'float_list'}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    return made.SerializeToString()


@pytest.mark.parametrize(('name', 'compression'), [('rows.tfrecord', ''), ('data_tfrecord-00000-of-00001.gz', 'GZIP')])
def test_tfrecords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, compression: str) -> None:
    monkeypatch.setattr(tfrecords, 'BLOCK', 100)
    records = [example(a=[i], b=[b'x', b'y']) if i % 3 else example(b=[b'z']) for i in range(30)]
    path = framed(records, tmp_path / name, compression)
    found = read(path, ['a', 'b', 'c'])
    assert rows(found)[:3] == [{'b': [b'z']}, {'a': [1], 'b': [b'x', b'y']}, {'a': [2], 'b': [b'x', b'y']}]
    assert len(places(found)) == 30
    stop = found[1].after
    assert rows(read(path, ['a', 'b', 'c'], stop)) == rows(found)[stop.records :]


def test_damaged_tfrecords(tmp_path: Path) -> None:
    path = framed([example(a=[1]), b'\xff\xff\xff', example(a=[3])], tmp_path / 'rows.tfrecord', '')
    (found,) = read(path, ['a'])
    assert [found.row(i) for i in range(2)] == [{'a': [1]}, {'a': [3]}]
    assert found.broken[0].record == 2
    assert found.broken[0].error.startswith('got 3 bytes, rule: a tf.Example (')
    # The others are features as without it, which a column of one value takes.
    assert found.columns['a'].type == pa.list_(pa.int64())
    data = path.read_bytes()
    for content, message in [
        (data[:-3], 'row 3: got the end of the file, rule: a whole TFRecord file; it ends'),
        (data[:14] + b'\x00' + data[15:], 'row 1: got a content with another checksum, rule: a TFRecord file'),
        (b'\x01' + data[1:], 'row 1: got a length with another checksum, rule: a TFRecord file'),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read(path, ['a'])


def test_a_feature_of_several_kinds(tmp_path: Path) -> None:
    path = framed([example(a=[1]), example(a=[0.5]), example(a=[3], b=[b'x'])], tmp_path / 'rows.tfrecord', '')
    (found,) = read(path, ['a', 'b'])
    assert [found.row(i) for i in range(2)] == [{'a': [1]}, {'a': [3], 'b': [b'x']}]
    (broken,) = found.broken
    expected = "got feature 'a' as float_list, rule: int64_list, as in the examples before it"
    assert (broken.record, broken.error) == (2, expected)


def test_inputs_are_found_by_globs(tmp_path: Path) -> None:
    for name in ('b.csv', 'a.csv.gz', 'c.txt'):
        (tmp_path / name).write_bytes(b'a\n1\n')
    found = find([str(tmp_path / '*.csv*'), str(tmp_path / 'b.csv')])
    assert [Path(source.path).name for source in found] == ['a.csv.gz', 'b.csv']
    for paths, message in [([str(tmp_path / 'x*')], 'path: got'), ([str(tmp_path / 'c.txt')], 'input-format: got')]:
        with pytest.raises(ValueError, match=message):
            find(paths)


class _Elsewhere(LocalFileSystem):
    """A file system of Beam whose URIs are elsewhere://PATH."""

    @classmethod
    def scheme(cls) -> str:
        return 'elsewhere'

    def match(self, patterns: list[str], limits: list[int] | None = None) -> list[Any]:
        found = super().match([pattern.removeprefix('elsewhere://') for pattern in patterns], limits)
        for result in found:
            for metadata in result.metadata_list:
                metadata.path = f'elsewhere://{metadata.path}'
        return found

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        return super().open(path.removeprefix('elsewhere://'), *arguments, **options)


@pytest.mark.parametrize('name', ['a.csv', 'a.csv.gz', 'a.parquet'])
def test_remote_files_are_read_by_beam(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == 'a.parquet':
        pq.write_table(pa.table({'a': ['1']}), path)
    else:
        path.write_bytes(gzip.compress(b'a\n1\n') if name.endswith('gz') else b'a\n1\n')
    (source,) = find([f'elsewhere://{tmp_path}/a*'])
    assert (source.path, source.size) == (f'elsewhere://{path}', path.stat().st_size)
    with reader(source, CsvFormat()) as (_, found):
        assert rows(list(found.read(['a']))) == [{'a': '1'}]
    with pytest.raises(ValueError, match='path: got'):
        find([f'elsewhere://{tmp_path}/nothing*'])
