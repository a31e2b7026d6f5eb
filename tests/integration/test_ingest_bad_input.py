"""Bad input to `tfx-cassandra ingest` is one line with place, column, value and rule; its neighbours are written."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = pytest.mark.integration

Run = Callable[..., tuple[int, str, list[str]]]
HEADER = b'k,n,at,v,tags\n'
FIRST, LAST = b'first,1,0,0.5,\n', b'last,1,0,0.5,\n'


@pytest.fixture(scope='module')
def table(session: Session, connection: CassandraConnection) -> str:
    """A table with a key of text and a number, of which nothing else is needed."""
    session.execute(
        f'CREATE TABLE {connection.keyspace}.bad_input '
        '(k text, n int, at timestamp, v double, tags map<text, int>, PRIMARY KEY (k, n))'
    )
    return 'bad_input'


@pytest.fixture
def run(
    connection: CassandraConnection, session: Session, table: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> Run:  # fmt: skip
    """Runs `ingest` into the empty table, in a folder of its own; returns exit code, output and the lines of errors."""
    session.execute(f'TRUNCATE {connection.keyspace}.{table}', timeout=60)
    monkeypatch.chdir(tmp_path)
    where = ['--contact-points', ','.join(connection.contact_points), '--keyspace', connection.keyspace]

    def ingest(*arguments: str) -> tuple[int, str, list[str]]:
        code = cli.main(['ingest', table, *arguments, *where])
        shown = capsys.readouterr()
        return code, shown.out, [line for line in shown.err.splitlines() if ' ... ' not in line]

    return ingest


def keys(session: Session, connection: CassandraConnection) -> list[str]:
    return sorted(row.k for row in session.execute(f'SELECT k FROM {connection.keyspace}.bad_input'))


NUMBER = 'rule: a value of type int'
BAD = {
    'a wrong type': (b'x,one,0,0,\n', f"n: got 'one', {NUMBER} (not a number)"),
    'a fraction': (b'x,1.5,0,0,\n', f"n: got '1.5', {NUMBER} (not an integer)"),
    'a number beyond the type': (b'x,2147483648,0,0,\n', f"n: got '2147483648', {NUMBER} (beyond 32 bits)"),
    'a double beyond the type': (b'x,1,0,1e999,\n', "v: got '1e999', rule: a value of type double (too large)"),
    'a missing partition key': (b',1,0,0,\n', 'k: got nothing, rule: a value in every column of the primary key'),
    'a missing clustering key': (b'x,,0,0,\n', 'n: got nothing, rule: a value in every column of the primary key'),
    'an empty partition key': (b'"",1,0,0,\n', 'k: got 0 bytes, rule: a partition key of at least 1 byte'),
    'a key too large': (
        b'x' * 65_536 + b',1,0,0,\n',
        'k: got 65,536 bytes, rule: at most 65,535 bytes in a column of the primary key',
    ),
    'a time out of range': (
        b'x,1,253402300800000,0,\n',
        "at: got '253402300800000', rule: a value of type timestamp (not in the years 1 to 9999)",
    ),
    'a day that is none': (
        b'x,1,2013-02-30T00:00Z,0,\n',
        "at: got '2013-02-30T00:00Z', "
        'rule: a value of type timestamp (neither ISO 8601 with an offset nor milliseconds since 1970)',
    ),
    'a time without an offset': (
        b'x,1,2013-02-03T00:00,0,\n',
        "at: got '2013-02-03T00:00', rule: a value of type timestamp (a time without an offset)",
    ),
    'invalid UTF-8': (b'x\xff,1,0,0,\n', r"k: got 'x\udcff', rule: a value of type text (not UTF-8)"),
    'JSON that is none': (b'x,1,0,0,"{"\n', "tags: got '{', rule: a value of type map<text, int> (not JSON)"),
    'too few values': (b'x,1\n', "got 2 values in 'x,1', rule: 5, as many as there are fields"),
    'too many values': (b'x,1,0,0,,,\n', "got 7 values in 'x,1,0,0,,,', rule: 5, as many as there are fields"),
}


@pytest.mark.parametrize('name', BAD)
@pytest.mark.parametrize('style', ['plain', 'byte-order mark', 'CRLF', 'embedded newlines', 'gz'])
def test_a_bad_record_of_csv(
    run: Run, session: Session, connection: CassandraConnection, name: str, style: str
) -> None:
    line, error = BAD[name]
    content, place, path = HEADER + FIRST + line + LAST, 3, 'rows.csv'
    if style == 'byte-order mark':
        content = b'\xef\xbb\xbf' + content
    elif style == 'CRLF':
        content = content.replace(b'\n', b'\r\n')
    elif style == 'embedded newlines':
        content, place = HEADER + b'"fi\n\nrst",1,0,0.5,\n' + line + LAST, 5
    elif style == 'gz':
        content, path = gzip.compress(content, mtime=0), 'rows.csv.gz'
    Path(path).write_bytes(content)
    code, out, errors = run(path, '--max-errors', '1', '--dead-letters', 'dead.jsonl')
    assert (code, out) == (1, '2 rows written, 3 records read, 1 failed (in dead.jsonl)\n')
    assert errors == [f'{path}:{place}: {error}']
    assert keys(session, connection) == ['fi\n\nrst' if style == 'embedded newlines' else 'first', 'last']
    (letter,) = map(json.loads, Path('dead.jsonl').read_text().splitlines())
    assert (letter['_ingest']['file'], letter['_ingest']['line']) == (path, place)
    Path('again.csv').write_bytes(Path(path).read_bytes() if style != 'gz' else gzip.decompress(content))
    code, _, errors = run('again.csv')
    assert code == 2
    limit = f'records failed: got 1 of 3, rule: at most 0 (first: again.csv:{place}: {error})'
    assert errors == [f'tfx-cassandra: error: {limit}']


OBJECT = 'rule: a JSON object on each line:'
JSON_LINES = {
    'no JSON': (b'{"k": "x", "n": 1', f'got \'{{"k": "x", "n": 1\', {OBJECT} JSON (Expecting \',\' delimiter: '),
    'two objects': (b'{"k": "x", "n": 1} {}', f'got \'{{"k": "x", "n": 1}} {{}}\', {OBJECT} JSON (Extra data: '),
    'a list': (b'["x", 1]', f'got \'["x", 1]\', {OBJECT} not list'),
    'null': (b'null', f"got 'null', {OBJECT} not NoneType"),
    'a wrong type': (b'{"k": "x", "n": "one"}', f"n: got 'one', {NUMBER} (not a number)"),
    'a number for a text': (b'{"k": 5, "n": 1}', 'k: got 5, rule: a value of type text (not text)'),
    'a missing key': (b'{"k": "x"}', 'n: got nothing, rule: a value in every column of the primary key'),
    'invalid UTF-8': (b'{"k": "x\xff", "n": 1}', r"k: got 'x\udcff', rule: a value of type text (not UTF-8)"),
    'a lone surrogate': (b'{"k": "\\udc00", "n": 1}', r"k: got '\udc00', rule: a value of type text (not UTF-8)"),
    'a null in a map': (
        b'{"k": "x", "n": 1, "tags": {"a": null}}',
        "tags: got {'a': None}, rule: a value of type map<text, int> (a null within a collection)",
    ),
}


@pytest.mark.parametrize('name', JSON_LINES)
def test_a_bad_line_of_json(run: Run, session: Session, connection: CassandraConnection, name: str) -> None:
    line, error = JSON_LINES[name]
    Path('rows.jsonl').write_bytes(b'{"k": "first", "n": 1}\n\n' + line + b'\r\n{"k": "last", "n": 1}')
    code, out, errors = run('rows.jsonl', '--max-errors', '50%', '--dead-letters', 'dead.jsonl')
    assert (code, out) == (1, '2 rows written, 3 records read, 1 failed (in dead.jsonl)\n')
    (shown,) = errors
    assert shown.startswith(f'rows.jsonl:3: {error}')
    assert keys(session, connection) == ['first', 'last']


def whole_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({'k': ['first', 'last'], 'n': [1, 2]}), sink)
    return sink.getvalue()


def whole_arrow() -> bytes:
    sink = io.BytesIO()
    rows = pa.table({'k': ['first', 'last'], 'n': [1, 2]})
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()


@pytest.mark.parametrize(
    ('path', 'content', 'message'),
    [
        ('rows.csv', b'', 'rows.csv:1: got nothing, rule: a line with the names of the fields'),
        ('rows.csv', b'\xef\xbb\xbf', 'rows.csv:1: got nothing, rule: a line with the names of the fields'),
        ('rows.csv', b'k,n\n"x,1\n', 'records failed: got 1 of 1, rule: at most 0 (first: rows.csv:2: got '),
        ('rows.csv', b'k,n,k\n', "rows.csv:1: got field 'k' twice, rule: each name once"),
        ('rows.csv', b'k,m\n', "fields: got ['m'], rule: columns of "),
        ('rows.csv', b'k\nx\n', "fields: got none for 'n', rule: a field or a constant for each column"),
        ('rows.parquet', b'', 'rows.parquet: got another content, rule: a whole Parquet file ('),
        ('rows.parquet', whole_parquet()[:-20], 'rows.parquet: got another content, rule: a whole Parquet file ('),
        ('rows.parquet', whole_parquet()[100:], 'rows.parquet: got '),
        ('rows.parquet', HEADER + FIRST, 'rows.parquet: got another content, rule: a whole Parquet file ('),
        ('rows.arrow', b'', 'rows.arrow: got another content, rule: a whole Arrow file ('),
        ('rows.arrow', whole_arrow()[:-20], 'rows.arrow: got another content, rule: a whole Arrow file ('),
        ('rows.csv.gz', gzip.compress(HEADER + FIRST, mtime=0)[:-9], 'rows.csv.gz: got an error after '),
        ('rows.csv.gz', gzip.compress(HEADER + FIRST, mtime=0)[:15], 'rows.csv.gz: got an error after '),
        ('rows.tfrecord', b'\x05\x00', 'rows.tfrecord: row 1: got the end of the file, rule: a whole TFRecord file'),
        ('rows.tfrecord', HEADER + FIRST, 'rows.tfrecord: row 1: got a length with another checksum, rule: a TFRecord'),
        ('rows.xls', b'', "input-format: got 'rows.xls', rule: one of csv, jsonl, parquet, arrow, tfrecord, given"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(
    run: Run, session: Session, connection: CassandraConnection, path: str, content: bytes, message: str
) -> None:
    Path(path).write_bytes(content)
    code, out, errors = run(path)
    (line,) = errors
    assert (code, out) == (2, '')
    assert line.startswith(f'tfx-cassandra: error: {message}')
    assert keys(session, connection) == []


@pytest.mark.parametrize('path', ['rows.jsonl', 'rows.tfrecord'])
def test_an_empty_file_of_records_has_none(run: Run, path: str) -> None:
    Path(path).touch()
    assert run(path) == (0, '0 rows written, 0 records read, 0 failed\n', [])


@pytest.mark.parametrize(
    ('path', 'rule'),
    [
        ('folder', 'a file, or a glob of files such as folder/*'),
        ('*.csv', 'a file that exists, or a glob of some'),
        ('nothing.csv', 'a file that exists, or a glob of some'),
    ],
)
def test_a_path_without_files_is_one_line(run: Run, path: str, rule: str) -> None:
    Path('folder').mkdir()
    Path('folder/rows.csv').write_bytes(HEADER + FIRST)
    assert run(path) == (2, '', [f'tfx-cassandra: error: path: got {path!r}, rule: {rule}'])


def test_values_too_large_for_the_server_fail_alone(
    run: Run, session: Session, connection: CassandraConnection
) -> None:
    """A value beyond max_mutation_size (16 MiB by default) is refused by the server, and its neighbours are written."""
    large = json.dumps({'k': 'x', 'n': 1, 'tags': {'t' * (20 << 20): 1}})
    Path('rows.jsonl').write_text(f'{{"k": "first", "n": 1}}\n{large}\n{{"k": "last", "n": 1}}\n')
    code, out, errors = run('rows.jsonl', '--max-errors', '1', '--dead-letters', 'dead.jsonl')
    (error,) = errors
    assert (code, out) == (1, '2 rows written, 3 records read, 1 failed (in dead.jsonl)\n')
    assert error.startswith('rows.jsonl:2: ')
    assert len(error) < 500
    assert keys(session, connection) == ['first', 'last']
