"""`tfx-cassandra scan` against a real cluster: what the files hold is what a plain driver loop gives."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from cassandra.cluster import Session

from tfx_cassandra.components.cli import export
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import ring

pytestmark = pytest.mark.integration

START = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
KEYS, HOURS = 40, 25

Command = Callable[..., int]


@pytest.fixture(scope='module')
def table(connection: CassandraConnection, session: Session) -> str:
    name = f'{connection.keyspace}.readings'
    session.execute(f'CREATE TABLE {name} (k int, hour timestamp, id uuid, v double, PRIMARY KEY ((k), hour))')
    insert = session.prepare(f'INSERT INTO {name} (k, hour, id, v) VALUES (?, ?, ?, ?)')
    for k in range(KEYS):
        futures = [
            session.execute_async(
                insert, (k, START + datetime.timedelta(hours=h), uuid.UUID(int=k * 100 + h), k + h / 64)
            )
            for h in range(HOURS)
        ]
        for future in futures:
            future.result()
    return 'readings'


@pytest.fixture
def scan(connection: CassandraConnection, table: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command against the module's keyspace; returns its exit code."""
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', ','.join(connection.contact_points))
    monkeypatch.setenv('CASSANDRA_PORT', str(connection.port))
    monkeypatch.setenv('CASSANDRA_KEYSPACE', connection.keyspace)
    return lambda *arguments: cli.main(['scan', *map(str, arguments)])


@pytest.fixture
def expected(connection: CassandraConnection, session: Session, table: str) -> set[tuple]:
    rows = session.execute(f'SELECT k, v FROM {connection.keyspace}.{table}')
    return {tuple(row) for row in rows}


def test_count(scan: Command, capsys: pytest.CaptureFixture) -> None:
    assert scan('readings') == 0
    assert capsys.readouterr().out == f'{KEYS * HOURS}\n'
    assert scan('readings', '--format', 'json') == 0
    assert json.loads(capsys.readouterr().out)['rows_written'] == KEYS * HOURS


@pytest.mark.parametrize(
    ('arguments', 'count'),
    [
        (('--window', '2013-01-01T00:00Z/2013-01-01T10:00Z'), KEYS * 10),
        (('--where', 'k=3'), HOURS),
        (('--where', 'k=3', '--where', 'k=5', '--where', f'id={uuid.UUID(int=302)}'), 1),
        (('--where', 'hour=2013-01-01T01:00Z'), KEYS),
        (('--where', 'k=999'), 0),
        (('--rows-per-second', '100000', '--bytes-per-second', '1e9'), KEYS * HOURS),
    ],
)
def test_parts(scan: Command, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], count: int) -> None:
    assert scan('readings', '--to', 'count', *arguments) == 0
    assert capsys.readouterr().out == f'{count}\n'


def test_parquet(scan: Command, expected: set[tuple], tmp_path: pathlib.Path) -> None:
    out = tmp_path / 'out'
    assert scan('readings', '--columns', 'k,v', '--out', out) == 0
    table = pq.read_table(out / 'part-00000.parquet')
    assert table.schema.names == ['k', 'v']
    assert table.num_rows == KEYS * HOURS
    assert {tuple(row.values()) for row in table.to_pylist()} == expected


def test_arrow(scan: Command, expected: set[tuple], tmp_path: pathlib.Path) -> None:
    assert scan('readings', '--columns', 'k,v', '--to', 'arrow', '--out', tmp_path / 'out') == 0
    with pa.ipc.open_file(str(tmp_path / 'out' / 'part-00000.arrow')) as file:
        assert {tuple(row.values()) for row in file.read_all().to_pylist()} == expected


def test_tfrecord(scan: Command, expected: set[tuple], tmp_path: pathlib.Path) -> None:
    assert scan('readings', '--to', 'tfrecord', '--out', tmp_path / 'out') == 0
    files = [str(tmp_path / 'out' / 'data_tfrecord-00000.gz')]
    records = tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator()
    features = [tf.train.Example.FromString(record).features.feature for record in records]
    assert {(f['k'].int64_list.value[0], f['v'].float_list.value[0]) for f in features} == expected


def test_an_empty_result_is_a_file_without_rows(scan: Command, tmp_path: pathlib.Path) -> None:
    for kind in ('parquet', 'arrow', 'tfrecord'):
        assert scan('readings', '--where', 'k=999', '--to', kind, '--out', tmp_path / kind) == 0
    assert pq.read_table(tmp_path / 'parquet' / 'part-00000.parquet').schema.names == ['k', 'hour', 'id', 'v']
    with pa.ipc.open_file(str(tmp_path / 'arrow' / 'part-00000.arrow')) as file:
        assert file.read_all().num_rows == 0
    (path,) = map(str, (tmp_path / 'tfrecord').glob('data_tfrecord-*'))
    assert list(tf.data.TFRecordDataset([path], compression_type='GZIP')) == []


def test_the_ledger_is_shown_and_stands_beside_the_data(
    scan: Command, capsys: pytest.CaptureFixture, tmp_path: pathlib.Path
) -> None:
    assert scan('readings', '--verify', '--out', tmp_path / 'out') == 0
    coverage = json.loads((tmp_path / 'out' / 'coverage.json').read_text())
    assert (
        coverage['rows'] == coverage['rows_written'] == sum(read['rows'] for read in coverage['reads']) == KEYS * HOURS
    )
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + coverage['ranges'] + 3
    assert f'{coverage["ranges"]} areas tile what was asked for exactly once: 1,000 rows read' in shown[-3]
    assert shown[-2] == f'fingerprint {coverage["fingerprint"]}'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('nope',), "table: got 'nope', rule: a table of keyspace"),
        (('readings', '--columns', 'w'), "columns: got 'w', rule: a column of"),
        (('readings', '--to', 'parquet'), 'out: got None, rule: given, unless --to is count'),
        (('readings', '--to', 'count', '--out', 'x'), "out: got 'x', rule: given, unless --to is count"),
        (('readings', '--out', '/nowhere/out'), "out: got '/nowhere/out', rule: inside a folder that exists"),
        (('readings', '--window', '2013-01-01/2013-01-02'), 'start: got datetime.datetime(2013, 1, 1, 0, 0), rule:'),
        (('readings', '--where', 'k'), "where: got 'k', rule: COLUMN=VALUE"),
        (('readings', '--where', 'k=x'), "where k: got 'x', rule: a int"),
        (('readings', '--where', 'w=x'), "where: got 'w', rule: a column of"),
        (('readings', '--rows-per-second', '0'), 'rows_per_second: got 0.0, rule: a number above 0'),
    ],
)
def test_bad_input_is_one_line(
    scan: Command, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], message: str
) -> None:
    assert scan(*arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f'tfx-cassandra: error: {message}')


def test_a_folder_with_files_in_it_is_left_alone(
    scan: Command, capsys: pytest.CaptureFixture, tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'mine').write_text('x')
    assert scan('readings', '--out', tmp_path) == 2
    assert 'rule: a folder that does not exist yet or is empty' in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['mine']


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError('disk full')])
def test_nothing_is_left_of_a_scan_that_did_not_end(
    scan: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(export.Files, 'write', broken)
    assert scan('readings', '--out', tmp_path / 'out') == (2 if isinstance(error, OSError) else 130)
    assert os.listdir(tmp_path) == []


def test_a_lost_split_fails_and_leaves_nothing(
    scan: Command, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    subdivide = ring.subdivide
    monkeypatch.setattr(ring, 'subdivide', lambda ranges, count: subdivide(ranges, count)[1:])
    assert scan('readings', '--out', tmp_path / 'out') == 2
    assert 'tfx-cassandra: error: token ranges not read: (-9223372036854775808, ' in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
