"""`tfx-cassandra ingest` on a real cluster: what is read back is what the files hold, whatever happens in between."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.ingest.dead_letters import _json
from tfx_cassandra.components.ingest.records import Position, Records

pytestmark = pytest.mark.integration

Command = Callable[..., int]
UTC = datetime.timezone.utc


@pytest.fixture
def environ(connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment of commands against the module's keyspace, in a folder of their own."""
    settings = {
        'CASSANDRA_CONTACT_POINTS': ','.join(connection.contact_points),
        'CASSANDRA_PORT': str(connection.port),
        'CASSANDRA_KEYSPACE': connection.keyspace,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return {**os.environ, **settings}


@pytest.fixture
def run(environ: dict[str, str], capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; returns its exit code, its output, and what it says without the line of progress."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        lines = [line for line in shown.err.splitlines() if ' ... ' not in line]
        return code, shown.out, '\n'.join(lines)

    return command


SCALARS = """a ascii, bi bigint, b blob, bo boolean, da date, de decimal, d double, f float, ip inet, i int,
    si smallint, te text, tm time, ts timestamp, tu timeuuid, ty tinyint, u uuid, vi varint"""
NESTED = """l list<int>, s set<text>, m map<text, timestamp>, t tuple<int, text>, p frozen<pair>, v vector<float, 2>,
    du duration, fl frozen<list<frozen<map<int, double>>>>"""


def some(chance: random.Random, number: int) -> dict[str, Any]:
    """A row of every type, some of its values absent."""
    text = ''.join(chance.choice('ab,"\n\r\té€\u2028😀 \'\\') for _ in range(chance.randint(0, 12)))
    moment = datetime.datetime(1, 1, 1, tzinfo=UTC) + datetime.timedelta(
        milliseconds=chance.randrange(315_537_897_600_000)
    )
    signed = lambda bits: chance.randint(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)  # noqa: E731
    unique = lambda version: str(uuid.UUID(int=chance.getrandbits(128), version=version))  # noqa: E731
    row = {
        'a': chance.choice(['', 'x', 'NA', 'null', '"']),
        'bi': signed(64),
        'b': chance.randbytes(chance.randint(0, 9)),
        'bo': chance.random() < 0.5,
        'da': moment.date(),
        'de': f'{signed(70)}E{chance.randint(-30, 30)}',
        'd': chance.choice([chance.gauss(0, 1e200), -0.0, float('inf'), 0.1]),
        'f': float(np.float32(chance.gauss(0, 1))),
        'ip': chance.choice(['127.0.0.1', '::1', 'fe80::1:2']),
        'i': signed(32),
        'si': signed(16),
        'te': text,
        'tm': chance.randrange(86_400 * 10**9),
        'ts': moment,
        'tu': unique(1),
        'ty': signed(8),
        'u': unique(4),
        'vi': str(signed(100)),
        'l': [signed(32) for _ in range(chance.randint(1, 3))],
        's': sorted({text, 'x'}),
        'm': [(text, moment), ('k', moment)],
        't': {'0': number, '1': None},
        'p': {'a': 1, 'b': text},
        'v': [0.5, -1.25],
        'du': {'months': 1, 'days': 2, 'nanoseconds': 10**15},
        'fl': [[(1, 0.1), (2, -1e300)]],
    }
    return {'k': number, **{name: value for name, value in row.items() if chance.random() < 0.8}}


@pytest.fixture(scope='module')
def kinds(cassandra_5: None, connection: CassandraConnection, session: Session) -> dict[str, Any]:
    """The tables `every` and `plain`, of all types and of scalar ones; returns the types of the columns."""
    session.execute(f'CREATE TYPE {connection.keyspace}.pair (a int, b text)')
    session.execute(f'CREATE TABLE {connection.keyspace}.every (k int PRIMARY KEY, {SCALARS}, {NESTED})')
    session.execute(f'CREATE TABLE {connection.keyspace}.plain (k int PRIMARY KEY, {SCALARS})')
    columns = session.prepare(f'SELECT * FROM {connection.keyspace}.every').result_metadata
    return {column[2]: column[3] for column in columns}


def typed(rows: list[dict[str, Any]], kinds: dict[str, Any]) -> pa.Table:
    from tfx_cassandra.components.ingest.convert import arrow_type

    schema = pa.schema([(name, arrow_type(kind)) for name, kind in kinds.items()])
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def as_json(table: pa.Table, kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows as dead letters have them."""
    batch = table.combine_chunks().to_batches()[0]
    columns = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
    records = Records(columns, np.arange(batch.num_rows) + 1, None, [], Position())
    rows = [records.row(i) for i in range(batch.num_rows)]
    return [{name: _json(value, kinds[name]) for name, value in row.items()} for row in rows]


def write(table: pa.Table, kinds: dict[str, Any], form: str) -> Path:
    """Writes rows to a file of a format; returns its path."""
    path = Path(f'rows.{form}')
    kind, _, codec = form.partition('.')
    sink = io.BytesIO()
    if kind == 'parquet':
        pq.write_table(table, sink, row_group_size=70)
    elif kind in ('arrow', 'arrows'):
        with (pa.ipc.new_file if kind == 'arrow' else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table, 70)
    elif kind == 'jsonl':
        sink.write(''.join(json.dumps(row) + '\n' for row in as_json(table, kinds)).encode())
    else:
        text = io.StringIO(newline='')
        csv.writer(text).writerow(table.schema.names)
        for row in as_json(table, kinds):
            cells = [row.get(name) for name in table.schema.names]
            text.write(','.join(map(cell, cells)) + '\n')
        sink.write(text.getvalue().encode())
    data = sink.getvalue()
    path.write_bytes(
        {'': bytes, 'gz': gzip.compress, 'zst': lambda d: pa.compress(d, 'zstd', asbytes=True)}[codec](data)
    )
    return path


def cell(value: Any) -> str:
    if value is None:
        return ''
    text = value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"'


def read_back(run: Callable[..., tuple[int, str, str]], table: str) -> pa.Table:
    """Reads a table with the package's reader, sorted by its key."""
    folder = Path(f'{table}-{uuid.uuid4().hex}')
    assert run('scan', table, '--out', folder, '--to', 'arrow', '--wide-varints', 'text')[0] == 0
    found = pa.concat_tables([pa.ipc.open_file(str(path)).read_all() for path in sorted(folder.glob('*.arrow'))])
    return found.sort_by('k')


FORMS = ['csv', 'csv.gz', 'jsonl', 'jsonl.zst', 'parquet', 'parquet.gz', 'arrow', 'arrows', 'arrows.zst']


@pytest.mark.parametrize('form', FORMS)
def test_rows_of_every_type_come_back_from_each_format(
    run: Callable[..., tuple[int, str, str]],
    session: Session,
    connection: CassandraConnection,
    kinds: dict[str, Any],
    form: str,
) -> None:
    session.execute(f'TRUNCATE {connection.keyspace}.every', timeout=60)
    chance = random.Random(form)
    rows = [some(chance, number) for number in range(200)]
    if form.startswith('parquet'):  # pyarrow 10 writes no vectors that are null
        rows = [{'v': [0.5, -1.25], **row} for row in rows]
    table = typed(rows, kinds)
    code, out, err = run('ingest', 'every', write(table, kinds, form))
    assert (code, out, err) == (0, '200 rows written, 200 records read, 0 failed\n', '')
    found = read_back(run, 'every')
    assert found.num_rows == 200
    for name in table.schema.names:
        expected, got = (plainly(name, values) for values in (table.column(name), found.column(name)))
        assert got == expected, name


def plainly(name: str, column: pa.ChunkedArray) -> list[Any]:
    """Returns values so that equal ones are equal: decimals without trailing zeros, maps in order, times whole."""
    values = (column.cast(pa.int64()) if name == 'tm' else column).to_pylist()
    if name == 'de':
        return [None if value is None else decimal.Decimal(value) for value in values]
    return [None if value is None else sorted(dict(value).items()) for value in values] if name == 'm' else values


def test_rows_come_back_from_tfrecords(
    run: Callable[..., tuple[int, str, str]], session: Session, connection: CassandraConnection, kinds: dict[str, Any]
) -> None:
    """A tf.Example has 32-bit floats, so doubles and decimals are left out."""
    chance = random.Random(7)
    left_out = ('d', 'de', *(name for name in kinds if name in 'lsmtpv' or name in ('du', 'fl')))
    rows = [
        {name: value for name, value in some(chance, number).items() if name not in left_out} for number in range(200)
    ]
    scalars = {name: kind for name, kind in kinds.items() if name not in left_out}
    rows = [{**row, 'vi': str(int(row['vi']) % 2**60)} if 'vi' in row else row for row in rows]
    path = write(typed(rows, scalars), scalars, 'parquet')
    assert run('ingest', 'plain', path)[0] == 0
    before = read_back(run, 'plain')
    folder = Path('examples')
    assert run('scan', 'plain', '--out', folder, '--to', 'tfrecord')[0] == 0
    session.execute(f'TRUNCATE {connection.keyspace}.plain', timeout=60)
    (file,) = folder.glob('*tfrecord*')
    assert run('ingest', 'plain', file) == (0, '200 rows written, 200 records read, 0 failed\n', '')
    assert read_back(run, 'plain').equals(before)


AT = datetime.datetime(2013, 1, 1, tzinfo=UTC)
MAIN = """
import sys
from tfx_cassandra.components.ingest import columnar, delimited, json_lines
delimited.BLOCK = json_lines.BLOCK = 60_000
columnar.BATCH = 1500
from tfx_cassandra.components.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def events(kind: str, count: int, keys: int, chance: random.Random) -> tuple[Path, int, dict[int, tuple[int, float]]]:
    """A file of late and repeated events, their number, and the oracle: key -> (time, value) of its newest event."""
    rows = [(chance.randrange(keys), chance.randrange(10**6), chance.random()) for _ in range(count)]
    # Two events of a key at one time would leave the greater value.
    rows = list({(key, at): (key, at, value) for key, at, value in rows}.values())
    rows += chance.choices(rows, k=count // 10)
    chance.shuffle(rows)
    newest: dict[int, tuple[int, float]] = {}
    for key, at, value in rows:
        if at >= newest.get(key, (-1, 0.0))[0]:
            newest[key] = (at, value)
    path = Path(f'events.{kind}')
    if kind == 'csv':
        path.write_text('k,at,v\n' + ''.join(f'{key},{at},{value!r}\n' for key, at, value in rows))
    elif kind == 'jsonl':
        path.write_text(''.join(json.dumps({'k': key, 'at': at, 'v': value}) + '\n' for key, at, value in rows))
    else:
        columns = list(zip(*rows, strict=True))
        pq.write_table(pa.table({'k': columns[0], 'at': columns[1], 'v': columns[2]}), path, row_group_size=4000)
    return path, len(rows), newest


@pytest.mark.parametrize(
    ('kind', 'kills'),
    [('csv', 2), pytest.param('csv', 10, marks=pytest.mark.slow), pytest.param('jsonl', 10, marks=pytest.mark.slow),
     pytest.param('parquet', 10, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_load_that_is_killed_at_any_moment_ends_with_the_newest_events(
    environ: dict[str, str], session: Session, connection: CassandraConnection, kind: str, kills: int
) -> None:
    name = f'{connection.keyspace}.newest_{kind}_{kills}'
    session.execute(f'CREATE TABLE {name} (k int PRIMARY KEY, at timestamp, v double)', timeout=60)
    chance = random.Random(f'{kind} {kills}')
    path, count, newest = events(kind, 60_000, 5_000, chance)
    command = [
        sys.executable, '-c', MAIN, 'ingest', name, str(path), '--timestamp-column', 'at', '--checkpoint', 'state.json',
        '--rate', '8000',
    ]  # fmt: skip
    state, killed = Path('state.json'), 0
    while killed < kills:
        before = state.read_bytes() if state.exists() else b''
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.read_bytes() != before:
                time.sleep(chance.uniform(0, 0.4))
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err.decode()
        killed += 1
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{count:,} rows written, {count:,} records read, 0 failed\n'
    found = {
        row.k: (round(row.at.replace(tzinfo=UTC).timestamp() * 1000), row.v)
        for row in session.execute(f'SELECT * FROM {name}')
    }
    assert found == newest


def test_dead_letters_of_refused_rows_are_loaded_when_mended(
    run: Callable[..., tuple[int, str, str]], session: Session, connection: CassandraConnection, cassandra_5: None
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.tagged (k int PRIMARY KEY, v double, tags map<text, text>)')
    session.execute(f"CREATE INDEX ON {connection.keyspace}.tagged (entries(tags)) USING 'sai'", timeout=60)
    rows = [{'k': i, 'v': 'x' if i == 3 else i / 2, 'tags': {'a': 'x' * 70_000 if i == 7 else 'b'}} for i in range(10)]
    Path('rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    code, _, err = run('ingest', 'tagged', 'rows.jsonl')
    assert code == 2
    first = r"first: rows.jsonl:4: v: got 'x', rule: "
    assert re.match(rf'tfx-cassandra: error: records failed: got \d of \d+, rule: at most 0 \({first}', err), err
    code, out, err = run('ingest', 'tagged', 'rows.jsonl', '--max-errors', '20%', '--dead-letters', 'failed.jsonl')
    assert (code, out) == (1, '8 rows written, 10 records read, 2 failed (in failed.jsonl)\n')
    assert err.splitlines()[0].startswith("rows.jsonl:4: v: got 'x', rule: ")
    assert err.splitlines()[1].startswith('rows.jsonl:8: ')
    assert '70000' in err.splitlines()[1]
    letters = [json.loads(line) for line in Path('failed.jsonl').read_text().splitlines()]
    mended = [{**letter, 'v': letter['k'] / 2, 'tags': {'a': 'b'}} for letter in letters]
    Path('mended.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in mended))
    assert run('ingest', 'tagged', 'mended.jsonl')[:2] == (0, '2 rows written, 2 records read, 0 failed\n')
    found = session.execute(f'SELECT k, v, tags FROM {connection.keyspace}.tagged')
    assert sorted((row.k, row.v, dict(row.tags)) for row in found) == [(i, i / 2, {'a': 'b'}) for i in range(10)]


LONG = ['--column', 'model_id=origin', '--column', 'timestamp=at', '--feature', 'temp', '--feature', 'wind=speed']


def test_the_long_layout_with_ttl_and_write_time(
    run: Callable[..., tuple[int, str, str]], session: Session, connection: CassandraConnection
) -> None:
    Path('a.csv').write_text('origin,at,temp,speed,other\nJFK,2013-01-01T00:00Z,39.5,NA,x\n')
    Path('b.csv').write_bytes(b'\xef\xbb\xbforigin,at,temp,speed\r\nEWR,2013-01-01T00:00Z,,12.5\r\n')
    code, out, _ = run(
        'ingest',
        'feature_store',
        '*.csv',
        *LONG,
        '--null',
        'NA',
        '--ttl',
        '90d',
        '--timestamp-column',
        'timestamp',
        '--consistency',
        'ONE',
    )
    assert (code, out) == (0, '2 rows written, 2 records read, 0 failed\n')
    query = (
        'SELECT model_id, feature_name, timestamp, value, ttl(value) AS left, writetime(value) AS at '
        f'FROM {connection.keyspace}.feature_store'
    )
    found = sorted(tuple(row) for row in session.execute(query))
    moment = AT.replace(tzinfo=None)
    assert [row[:4] for row in found] == [('EWR', 'wind', moment, 12.5), ('JFK', 'temp', moment, 39.5)]
    assert all(row[4] is not None and row[5] == int(AT.timestamp() * 1e6) for row in found)


def test_standard_input(environ: dict[str, str], session: Session, connection: CassandraConnection) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.typed (k int PRIMARY KEY, v double)')
    sink = io.BytesIO()
    pq.write_table(pa.table({'k': [1, 2], 'v': [0.5, None]}), sink)
    for form, data in [('csv', gzip.compress(b'k,v\n3,1.5\n')), ('jsonl', b'{"k": 4}'), ('parquet', sink.getvalue())]:
        command = [
            sys.executable,
            '-m',
            cli.__name__,
            'ingest',
            'typed',
            '-',
            '--input-format',
            form,
            '--format',
            'json',
        ]
        done = subprocess.run(command, input=data, env=environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)['failed'] == 0
    found = session.execute(f'SELECT k, v FROM {connection.keyspace}.typed')
    assert sorted(map(tuple, found)) == [(1, 0.5), (2, None), (3, 1.5), (4, None)]


def test_a_dry_run_shows_errors_and_writes_nothing(
    run: Callable[..., tuple[int, str, str]], session: Session, connection: CassandraConnection
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.dry (k int PRIMARY KEY, v double)')
    Path('rows.csv').write_text('k,v\n' + ''.join(f'{i},x\n' for i in range(30)) + '99,1\n')
    code, out, err = run('ingest', 'dry', 'rows.csv', '--dry-run', '--checkpoint', 'state.json')
    assert (code, out) == (1, '1 rows would be written, 31 records read, 30 failed\n')
    lines = err.splitlines()
    assert len(lines) == 20
    assert lines[0] == "rows.csv:2: v: got 'x', rule: a value of type double (not a number)"
    assert not Path('state.json').exists()
    assert session.execute(f'SELECT * FROM {connection.keyspace}.dry').all() == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nope', 'rows.csv'], "table: got 'nope', rule: a table of keyspace"),
        (['model_metrics', 'nothing.csv'], "path: got 'nothing.csv', rule: a file that exists, or a glob of some"),
        (['model_metrics', 'rows.csv'], "fields: got ['k', 'v'], rule: columns of"),
        (['model_metrics', 'rows.csv', '--ttl', '1y'], "ttl: got '1y', rule: a time such as 3600s, 12h or 30d"),
        (['model_metrics', 'rows.csv', '--ttl', '9999d'], 'ttl: got '),
        (['model_metrics', 'rows.csv', '--rate', '0'], 'rate: got 0.0, rule: a number above 0'),
        (['model_metrics', 'rows.csv', '--max-errors', '1'], "max-errors: got '1', rule: 0 without dead-letters"),
        (['model_metrics', 'rows.csv', '--consistency', 'some'], "consistency: got 'some', rule: one of"),
        (['model_metrics', 'rows.csv', '--delimiter', 'ab'], "csv.delimiter: got 'ab', rule: one ASCII character"),
        (['counted', 'rows.csv'], 'table: got '),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    run: Callable[..., tuple[int, str, str]],
    session: Session,
    connection: CassandraConnection,
    arguments: list[str],
    message: str,
) -> None:
    session.execute(f'CREATE TABLE IF NOT EXISTS {connection.keyspace}.counted (k int PRIMARY KEY, v counter)')
    Path('rows.csv').write_text('k,v\n1,2\n')
    code, out, err = run('ingest', *arguments)
    assert (code, out) == (2, '')
    (line,) = err.splitlines()
    assert line.startswith(f'tfx-cassandra: error: {message}')


def test_truncated_input_is_one_line_and_what_came_before_is_kept(
    run: Callable[..., tuple[int, str, str]], session: Session, connection: CassandraConnection
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.cut (k int PRIMARY KEY, v text)')
    chance = random.Random(3)
    data = gzip.compress(('k,v\n' + ''.join(f'{i},{chance.randbytes(100).hex()}\n' for i in range(20_000))).encode())
    Path('rows.csv.gz').write_bytes(data[:-1000])
    code, _, err = run('ingest', 'cut', 'rows.csv.gz', '--checkpoint', 'state.json')
    assert code == 2
    rule = 'a whole gzip stream (Truncated compressed stream)'
    got = f'got an error after {len(data) - 1000:,} bytes'
    assert err == f'tfx-cassandra: error: rows.csv.gz: {got}, rule: {rule}'
    (state,) = json.loads(Path('state.json').read_text())['inputs'].values()
    assert 1000 < state['records'] < 20_000
    Path('rows.csv.gz').write_bytes(data)
    assert run('ingest', 'cut', 'rows.csv.gz', '--checkpoint', 'state.json')[0] == 0
    assert run('scan', 'cut', '--to', 'count')[1] == '20000\n'
