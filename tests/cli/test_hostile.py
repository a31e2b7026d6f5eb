"""Commands that are given what nobody meant to give: each says in one line what is wrong, and ends with exit code 2."""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest
import tensorflow as tf

from tfx_cassandra.components.cli import main as cli

BINARY = bytes(range(256))
DEEP = b'[' * 100_000
ARM = {'name': 'control', 'model_id': 'm', 'version': '1', 'weight': 0.5}
DESIGN = {
    'experiment_id': 'e',
    'window': '2026-11-01T00:00Z/2026-11-02T00:00Z',
    'control': ARM,
    'treatments': [{**ARM, 'name': 'treatment', 'version': '2'}],
    'metrics': [{'name': 'brier', 'value': 'squared_error:late', 'better': 'lower'}],
}
NOT_JSON = {'binary': BINARY, 'deep': DEEP, 'number': b'1', 'list': b'[]', 'empty': b'', 'half': b'{"control": {'}


def refused(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """Runs a command that must be refused; returns what it says."""
    assert cli.main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('tfx-cassandra')]
    (line,) = lines
    assert re.match('tfx-cassandra: error: .*: got .*, rule: ', line), line
    assert len(line) < 700
    assert line.isprintable()
    return line.removeprefix('tfx-cassandra: error: ')


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """What gets as far as a connection is refused there, and says so."""
    for name in [name for name in os.environ if name.startswith('CASSANDRA_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', '127.0.0.1')
    monkeypatch.setenv('CASSANDRA_PORT', '9')
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('content', NOT_JSON.values(), ids=NOT_JSON)
def test_a_design_that_is_no_object(content: bytes, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'design.json').write_bytes(content)
    message = refused(['ab', 'run', '--design', 'design.json', '--output', 'out'], capsys)
    assert message.startswith("design: got 'design.json', rule: a readable file of JSON")


@pytest.mark.parametrize('path', ['absent', '.', 'a\udcffb'])
def test_a_design_that_is_no_file(path: str, capsys: pytest.CaptureFixture) -> None:
    assert refused(['ab', 'run', '--design', path, '--output', 'out'], capsys).startswith('design: got ')


@pytest.mark.parametrize('field', [*DESIGN, 'outcome_delay_seconds', 'srm_alpha', 'least_units', 'no_such_field'])
@pytest.mark.parametrize(
    'value', [5, -1, 1e300, 'x', '', [], [5], ['x'], {}, [{}], [[]], {'a': 1}, True, None], ids=repr
)
def test_a_design_with_a_wrong_field(
    field: str, value: object, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'design.json').write_text(json.dumps({**DESIGN, field: value}))
    message = refused(['ab', 'run', '--design', 'design.json', '--output', 'out', '--as-of', 'x'], capsys)
    # The time is what is refused where the field may have the value; none may have these.
    if value in ([5], ['x'], [{}], [[]], {'a': 1}):
        assert not message.startswith('as-of: ')


@pytest.mark.parametrize(
    'content',
    [
        *NOT_JSON.values(),
        b'{}',
        b'{"treatments": 5}',
        b'{"treatments": [5]}',
        b'{"control": 3}',
        b'{"experiment_id": []}',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_verdict_that_is_none(content: bytes, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'verdict.json').write_bytes(content)
    refused(['ab', 'report', '.'], capsys)


def test_a_verdict_that_is_no_file(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'folder' / 'verdict.json').mkdir(parents=True)
    for folder in ('absent', 'folder', 'folder/verdict.json'):
        assert refused(['ab', 'report', folder], capsys).startswith('verdict: got ')


def example(**features: int | bytes) -> bytes:
    made = tf.train.Example()
    for name, value in features.items():
        kind = 'bytes_list' if isinstance(value, bytes) else 'int64_list'
        getattr(made.features.feature[name], kind).value.append(value)
    return made.SerializeToString()


def examples(folder: pathlib.Path, records: list[bytes], splits: tuple[str, ...] = ('train', 'eval')) -> None:
    for split in splits:
        (folder / f'Split-{split}').mkdir()
        with tf.io.TFRecordWriter(str(folder / f'Split-{split}' / 'data.gz'), 'GZIP') as writer:
            for record in records:
                writer.write(record)


@pytest.mark.parametrize(
    ('records', 'rule'),
    [
        ([b'\xff\xff\xff'], 'a TFRecord file of tf.Examples'),
        ([example(u=1, t=1), example(u=b'x', t=1)], 'a TFRecord file of tf.Examples'),
        ([example(u=1, t=b'x')], 'milliseconds since 1970'),
        ([example(u=1)], 'a feature with one value in every example'),
    ],
)
def test_examples_that_cannot_be_compared(
    records: list[bytes], rule: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    examples(tmp_path, records)
    assert rule in refused(['leaks', '.', '--entity', 'u', '--time', 't'], capsys)


@pytest.mark.parametrize('content', [BINARY, b'\x00' * 100], ids=['any', 'zeros'])
@pytest.mark.parametrize('name', ['data', 'data.gz'])
def test_files_that_are_no_records(
    name: str, content: bytes, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    for split in ('train', 'eval'):
        (tmp_path / f'Split-{split}').mkdir()
        (tmp_path / f'Split-{split}' / name).write_bytes(content)
    message = refused(['leaks', '.', '--entity', 'u'], capsys)
    assert message.startswith("examples: got './Split-train/data")
    assert '{{' not in message


@pytest.mark.parametrize('make', [os.mkdir, os.mkfifo])
def test_what_is_no_file_of_a_split(make: object, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    examples(tmp_path, [])
    make(tmp_path / 'Split-train' / 'a')  # type: ignore[operator]
    assert 'rule: a regular file' in refused(['leaks', '.', '--entity', 'u'], capsys)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['train', '--entity', 'u'], "splits: got 'train', rule: two or more, each once"),
        (['train', 'train', '--entity', 'u'], "splits: got 'train train', rule: two or more, each once"),
        (['train', 'test', '--entity', 'u'], "splits: got 'test', rule: a folder Split-test with files in ."),
        (['train', 'eval', '--entity', ','], "--entity: got ',', rule: this or --time"),
        (['train', 'eval', '--time', ''], '--entity: got None, rule: this or --time'),
    ],
)
def test_a_comparison_of_nothing(
    arguments: list[str], message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    examples(tmp_path, [example(u=1, t=1)])
    assert refused(['leaks', '.', *arguments], capsys) == message


@pytest.mark.parametrize('uri', ['nope://x', '\udcff'])
def test_a_folder_that_cannot_be_read(uri: str, capsys: pytest.CaptureFixture) -> None:
    assert refused(['leaks', uri, '--entity', 'u'], capsys).startswith(f'uri: got {uri!r}, rule: ')


REPAIR = ['models', 'repair', 'e', 'm', '--base-directory', '.']


@pytest.mark.parametrize(
    ('arguments', 'field'),
    [
        (['models', 'list', 'e', '--window', 'x'], 'window'),
        (['models', 'list', 'e', '--window', '2013-01-01/2013-02-01'], 'start'),
        (['models', 'list', 'e', '--port', '99999999'], 'port'),
        (['models', 'list', 'e', '--contact-points', ','], 'contact_points'),
        (['models', 'list', 'e', '--contact-points', 'no such host'], 'contact_points'),
        (['models', 'list', 'e', '--keyspace', ''], 'keyspace'),
        (['models', 'list', 'e', '--local-datacenter', ''], 'local_datacenter'),
        (['models', 'list', 'e', '--password-env', 'A'], 'password_env'),
        (['models', 'list', 'e', '--username', 'u', '--password-env', 'NO_SUCH_VARIABLE'], 'password_env'),
        (['models', 'list', 'e'], 'contact_points'),
        ([*REPAIR, '--older-than', 'nan'], 'older-than'),
        ([*REPAIR, '--older-than', 'inf'], 'older-than'),
        ([*REPAIR, '--older-than', '-1'], 'older-than'),
        (['schema', 'print', '--replication', 'x'], 'replication'),
        (['schema', 'print', '--replication', 'simple:'], 'replication'),
        (['schema', 'print', '--replication', 'simple:-1'], 'replication'),
        (['schema', 'print', '--replication', 'dc1:3,'], 'replication'),
        (['schema', 'print', '--replication', 'dc1:3,dc1:2'], 'factors'),
        (['schema', 'print', '--keyspace', 'a"b'], 'keyspace'),
        (['schema', 'print', '--keyspace', '\udcff'], 'keyspace'),
        (['scan', 't', '--to', 'parquet'], 'out'),
    ],
)
def test_an_argument_that_is_wrong(arguments: list[str], field: str, capsys: pytest.CaptureFixture) -> None:
    assert refused(arguments, capsys).startswith(f'{field}: got ')


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('heap', ''),
        ('heap', '1T'),
        ('heap', '0M'),
        ('subnet', '10.0.0'),
        ('subnet', '127.0.-1'),
        ('subnet', '127.0.0.1'),
        ('port', '0'),
        ('port', '99999'),
        ('tokens', '0'),
        ('tokens', '99999999'),
    ],
)
def test_a_cluster_that_cannot_be(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS')
    message = refused(['cluster', 'start', '--directory', 'cluster', f'--{option}', value], capsys)
    assert message.startswith(f'{option}: got ')
    assert not os.path.exists('cluster')


@pytest.mark.parametrize('content', NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize('command', ['status', 'stop', 'nodetool'])
def test_a_record_of_a_cluster_that_is_none(
    command: str, content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS')
    (tmp_path / 'cluster.json').write_bytes(content)
    assert refused(['cluster', command, '--directory', '.'], capsys).startswith('directory: got ')
