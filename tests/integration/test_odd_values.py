"""Values that a server takes and that have no form of their own in Arrow or in tf.Examples, by every way of reading."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from cassandra.cluster import Session
from scans import read_batches, read_rows
from tfx.types import standard_artifacts

from tfx_cassandra.components import (
    CassandraConnection,
    CassandraExampleGen,
    FeatureView,
    LabelSource,
)
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cql import types as cql_types
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.example_gen import executor
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.window import EPOCH

pytestmark = pytest.mark.integration

WIDE = 2**70
WINDOW = '2020-01-01T00:00Z/2020-01-02T00:00Z'
VIEW = FeatureView('odd', 'odd', ('id',), 'at', ('note', 'big', 'bigs', 'x', 'd'))


@pytest.fixture(scope='module')
def odd(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """Two tables: one has a wide varint as a key, the other odd values."""
    space = connection.keyspace
    session.execute(f'CREATE TABLE {space}.keyed (big varint, c int, v int, PRIMARY KEY (big, c))')
    session.execute(f'CREATE TABLE {space}.events (id text, at timestamp, hit boolean, PRIMARY KEY (id, at))')
    session.execute(
        f'CREATE TABLE {space}.odd (id text, at timestamp, note text, notes map<text, frozen<list<text>>>, big varint, '
        'bigs vector<varint, 2>, x double, d decimal, PRIMARY KEY (id, at))'
    )
    for big in (1, WIDE):
        session.execute(f'INSERT INTO {space}.keyed (big, c, v) VALUES ({big}, 1, 7)')
    # A server holds 0xC080 to be text: it is so in Java's own form of UTF-8.
    session.execute(
        f"INSERT INTO {space}.odd (id, at, note, notes, big, bigs, x, d) VALUES ('a', '2020-01-01T01:00Z', "
        f"blob_as_text(0x61c080), {{'k': [blob_as_text(0xc080)]}}, {WIDE}, [{WIDE}, -1], 1e300, 1e39)"
    )
    session.execute(
        f"INSERT INTO {space}.odd (id, at, note, big, bigs, x, d) VALUES ('b', '2020-01-01T01:00Z', 'é', "
        'blob_as_varint(0x00000000000000000001), [1, blob_as_varint(0xffffffffffffffffffff)], 1.5, 2.5)'
    )
    for name in 'ab':
        session.execute(f"INSERT INTO {space}.events (id, at, hit) VALUES ('{name}', '2020-01-01T02:00Z', true)")
    return connection


def test_a_wide_key_that_is_not_asked_for_does_not_matter(odd: CassandraConnection) -> None:
    assert read_rows(odd, 'keyed', columns=['c', 'v']) == [(1, 7), (1, 7)]
    with pytest.raises(Exception, match=r'keyed token range .*: column big: varint in row 0 of the page: got 1180591'):
        read_rows(odd, 'keyed')
    texts = read_rows(odd, 'keyed', columns=['big'], wide_varints='text')
    assert texts == [('1',), (str(WIDE),)]


@pytest.mark.parametrize('column', ['note', 'notes'])
def test_invalid_text_names_column_and_token_range(odd: CassandraConnection, column: str) -> None:
    rule = rf'odd token range \(.*: column {column}: text in row 0 of the page: got b.* rule: UTF-8 .*\(token -?\d+\)'
    with pytest.raises(Exception, match=rule):
        read_rows(odd, 'odd', columns=[column])
    replaced = read_rows(odd, 'odd', columns=['id', column], invalid_text='replace')
    assert '\ufffd\ufffd' in str(replaced[0][1])


def test_varints_of_any_form(odd: CassandraConnection) -> None:
    texts = dict(read_rows(odd, 'odd', columns=['id', 'big'], wide_varints='text'))
    assert texts == {'a': str(WIDE), 'b': '1'}
    lists = dict(read_rows(odd, 'odd', columns=['id', 'bigs'], wide_varints='text'))
    assert lists == {'a': [str(WIDE), '-1'], 'b': ['1', '-1']}
    with pytest.raises(Exception, match='column bigs: varint in row 0'):
        read_rows(odd, 'odd', columns=['bigs'])


@pytest.mark.parametrize('kind', ['parquet', 'tfrecord'])
def test_the_command_takes_both_options(odd: CassandraConnection, tmp_path: Path, kind: str) -> None:
    host, port = odd.contact_points[0], str(odd.port)
    base = ['scan', 'odd', '--keyspace', odd.keyspace, '--contact-points', host, '--port', port, '--to', kind]
    base += ['--columns', 'id,note,big,bigs', '--local-datacenter', odd.local_datacenter]
    assert cli.main([*base, '--out', str(tmp_path / 'no')]) != 0
    assert cli.main([*base, '--out', str(tmp_path / 'yes'), '--invalid-text=replace', '--wide-varints=text']) == 0
    if kind == 'parquet':
        rows = {row['id']: row for row in pq.read_table(tmp_path / 'yes' / 'part-00000.parquet').to_pylist()}
        assert (rows['a']['note'], rows['a']['big'], rows['b']['big']) == ('a\ufffd\ufffd', str(WIDE), '1')
    else:
        rows = {row['id'][0]: row for row in examples(tmp_path / 'yes')}
        assert rows[b'a']['big'] == [str(WIDE).encode()]
        assert rows[b'b']['bigs'] == [b'1', b'-1']


def examples(folder: Path) -> list[dict]:
    files = sorted(map(str, folder.rglob('data_tfrecord*.gz')))
    found = []
    for record in tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        found.append({name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items()})
    return found


def run(component: CassandraExampleGen, folder: Path) -> Path:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    return folder


@pytest.mark.parametrize('plan', [None, 'scan', 'lookup'])
def test_examples(odd: CassandraConnection, tmp_path: Path, plan: str | None) -> None:
    options = {} if plan is None else {
        'labels': LabelSource('events', ('id',), 'at', ('hit',)), 'join_plan': plan, 'availability_cut_off': False,
    }  # fmt: skip
    made = CassandraExampleGen(
        odd,
        VIEW,
        window=WINDOW,
        invalid_text='replace',
        wide_varints='text',
        **options,  # type: ignore[arg-type]
    )
    rows = {row['id'][0]: row for row in examples(run(made, tmp_path))}
    assert rows[b'a']['note'] == ['a\ufffd\ufffd'.encode()]
    assert rows[b'a']['big'] == [str(WIDE).encode()]
    assert rows[b'b']['big'] == [b'1']
    assert rows[b'a']['bigs'] == [str(WIDE).encode(), b'-1']
    assert rows[b'a']['x'] == rows[b'a']['d'] == [float('inf')]
    beyond = {'d': 1, 'x': 1}
    assert json.loads((tmp_path / 'coverage.json').read_text())['beyond_float32'] == beyond
    if plan is not None:
        assert json.loads((tmp_path / 'audit.json').read_text())['beyond_float32'] == beyond
        assert 'Beyond a 32-bit float' in (tmp_path / 'audit.md').read_text()


HOME = "{street: 'a', zip: 1}"
LITERALS = {
    'home': HOME, 'deep': f'{{a: {HOME}, l: [1]}}', 'frozen<home>': HOME, 'list<frozen<home>>': f'[{HOME}]',
    'vector<frozen<home>, 2>': f'[{HOME}, {HOME}]', 'list<int>': '[1]', 'set<text>': "{'a'}", 'list<duration>': '[1mo]',
    'map<text, int>': "{'a': 1}", 'frozen<set<uuid>>': '{uuid()}', 'map<int, frozen<list<text>>>': "{1: ['a']}",
    'tuple<int, text>': "(1, 'a')", 'set<frozen<tuple<int, text>>>': "{(1, 'a')}",
    'vector<float, 3>': '[1, 2, 3]', 'vector<text, 2>': "['a', 'b']",
    'ascii': "'a'", 'text': "'a'", 'blob': '0x01', 'boolean': 'true', 'decimal': '1.5', 'timestamp': '0',
    'time': "'01:00:00'", 'date': "'2013-01-01'", 'duration': '1mo2d', 'uuid': 'uuid()', 'timeuuid': 'now()',
    'inet': "'::1'", **dict.fromkeys(['tinyint', 'smallint', 'int', 'bigint', 'varint', 'float', 'double'], '1'),
}  # fmt: skip


def test_a_reference_time_and_every_type(connection: CassandraConnection, session: Session) -> None:
    space = connection.keyspace
    assert cql_types.SCALARS - {'counter', 'varchar'} <= set(LITERALS)
    session.execute(f'CREATE TYPE {space}.home (street text, zip int)')
    session.execute(f'CREATE TYPE {space}.deep (a frozen<home>, l frozen<list<int>>)')
    names = [f'v{i}' for i in range(len(LITERALS))]
    columns = ', '.join(f'{name} {kind}' for name, kind in zip(names, LITERALS, strict=True))
    session.execute(
        f'CREATE TABLE {space}.typed (k int, c int, {columns}, s home static, t list<int> static, PRIMARY KEY (k, c))'
    )
    insert = f'INSERT INTO {space}.typed (k, c, {{}}) VALUES ({{}}, {{}}) USING TIMESTAMP {{}}'
    every, values = ', '.join(names), ', '.join(LITERALS.values())
    for key, written in (('1, 1', 1000), ('1, 2', 3000), ('2, 1', 3000)):
        session.execute(insert.format(every, key, values, written))
    session.execute(f"INSERT INTO {space}.typed (k, s) VALUES (1, {{street: 'a', zip: 1}}) USING TIMESTAMP 1000")
    session.execute(f'INSERT INTO {space}.typed (k, t) VALUES (4, [1]) USING TIMESTAMP 1000')
    session.execute(f'INSERT INTO {space}.typed (k, t) VALUES (5, [1]) USING TIMESTAMP 3000')
    moment = EPOCH + datetime.timedelta(microseconds=2000)
    batches = read_batches(connection, 'typed', as_of=moment)
    rows = {(row['k'], row['c']): row for batch in batches for row in batch.to_pylist()}
    # A static cell keeps no row that was written later, and keeps a partition that has no rows.
    assert sorted(rows, key=str) == [(1, 1), (4, None)]
    old = rows[1, 1]
    assert all(old[name] is not None for name in (*names, 's'))
    assert old['t'] is None
    assert [name for name, value in rows[4, None].items() if value is not None] == ['k', 't']


def test_a_reference_time_and_counters(connection: CassandraConnection, session: Session) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.counted (k int PRIMARY KEY, n counter)')
    options = ReadRequest(connection, 'counted', as_of=EPOCH)
    with pytest.raises(SchemaError, match="writetimes: got 'n', rule: a column with a write time"):
        options.scan(session)
