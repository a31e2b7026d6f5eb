"""CassandraExampleGen and ReadFromSSTables on a backup against the same on the cluster that it was taken of."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from backed_up import CLICKS, LEVELS, PEOPLE, UTC, WINDOW, taken
from cassandra.cluster import Session
from scanned import rows, scanned
from snapshots import snapshots_of
from tfx import types
from tfx.orchestration.portable import data_types
from tfx.types import standard_artifacts

from tfx_cassandra.components import (
    AuditLimits,
    CassandraBackup,
    CassandraConnection,
    CassandraExampleGen,
    EntitySplits,
    FeatureView,
    ReadFromSSTables,
    SpanRange,
    TimeSplits,
)
from tfx_cassandra.components.backup import tables
from tfx_cassandra.components.backup.opening import BackupTable, open_table
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.errors import CoverageError, ReadError, SchemaError
from tfx_cassandra.components.example_gen import config, driver, executor
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.source import opened, plan_splits, verified
from tfx_cassandra.components.training_set import resolve
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ('table', 'fields'),
    [
        ('clicks', {'window': TimeWindow.parse(WINDOW)}),
        ('clicks', {'columns': ('late', 'user')}),
        ('clicks', {'columns': ('price',), 'window': TimeWindow.parse(WINDOW), 'filters': (('late', (True,)),)}),
        ('clicks', {'filters': (('user', ('u1', 'u5', 'nobody')),), 'window': TimeWindow.parse(WINDOW)}),
        ('clicks', {'columns': ('item',), 'writetimes': ('late', 'price')}),
        ('levels', {}),
        ('levels', {'window': TimeWindow.parse(WINDOW), 'time_column': 'since'}),
        ('people', {'window': TimeWindow.parse('1990-01-01T00:00Z/1990-01-02T00:00Z'), 'time_column': 'born'}),
        ('salted', {}),
        ('salted', {'filters': (('user', ('u1', 'u2')),)}),
    ],
)
def test_a_scan_of_the_backup_is_that_of_the_cluster(
    connection: CassandraConnection, backup: CassandraBackup, table: str, fields: dict[str, Any]
) -> None:
    live = ReadRequest(connection, table, options=ReadOptions(splits=3, page_rows=50), **fields)
    expected, found = (
        scanned(dataclasses.replace(live, connection=each)) for each in (connection, BackupTables(backup))
    )
    assert found[0] == expected[0]
    assert found[0]
    assert (found[2].rows, found[2].checksum) == (expected[2].rows, expected[2].checksum)
    assert found[1] == expected[1]
    assert found[2].reads[0].area.times == expected[2].reads[0].area.times


def test_each_row_of_each_file_must_have_been_read(backup: CassandraBackup) -> None:
    request = ReadRequest(BackupTables(backup), 'clicks', options=ReadOptions(splits=4))
    plan, reads = plan_splits(request), []
    with opened(request) as fetches:
        reads = [found for found in fetches(plan.scan, 100).fetch(plan.splits) if isinstance(found, RangeRead)]
    coverage = verified(request, plan, reads)
    assert coverage.backup is not None
    files = coverage.backup['rows_of_files']
    assert len(files) >= 2
    assert sum(count for _, count in files) > coverage.rows  # what was overwritten was read, too
    lost = dataclasses.replace(reads[1], files=(reads[1].files[0], reads[1].files[1] - 1))
    with pytest.raises(CoverageError, match=rf'^{files[1][0]}: got \d+ rows read over all token ranges, rule: \d+, as'):
        verified(request, plan, [reads[0], lost, *reads[2:]])
    fewer = dataclasses.replace(reads[1], files=reads[1].files[:1])
    with pytest.raises(CoverageError, match=rf'clicks: got 1 files read, rule: {len(files)}, as planned'):
        verified(request, plan, [reads[0], fewer, *reads[2:]])
    with pytest.raises(CoverageError, match='not read'):
        verified(request, plan, reads[1:])


def test_a_backup_that_changed_after_the_plan_is_an_error(
    connection: CassandraConnection, backup: CassandraBackup, session: Session
) -> None:
    request = ReadRequest(BackupTables(backup), 'people')
    plan = plan_splits(request)
    session.execute(f"INSERT INTO {connection.keyspace}.people (user) VALUES ('new')")
    later = ReadRequest(BackupTables(taken(snapshots_of(connection), connection.keyspace)), 'people')
    with (
        opened(later) as fetches,
        pytest.raises(ReadError, match=r'got other files of .* than planned, rule:'),
    ):
        fetches(plan.scan, 100)
    session.execute(f"DELETE FROM {connection.keyspace}.people WHERE user = 'new'")


def test_beam_reads_the_same_rows(connection: CassandraConnection, backup: CassandraBackup) -> None:
    request = ReadRequest(connection, 'clicks', window=TimeWindow.parse(WINDOW), filters=(('late', (True,)),))
    expected = [repr(row) for row in scanned(request)[0]]
    for splits in (None, 3):
        reading = ReadFromSSTables(backup, 'clicks', window=WINDOW, where={'late': True}, splits=splits)
        with beam.Pipeline() as pipeline:
            found = pipeline | reading | beam.FlatMap(rows) | beam.Map(repr)
            assert_that(found, equal_to(expected))


@pytest.mark.parametrize('kind', ['parquet', 'arrow', 'tfrecord'])
def test_the_command_exports_the_same_rows(
    connection: CassandraConnection,
    backup: CassandraBackup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setenv('CASSANDRA_KEYSPACE', connection.keyspace)
    command = ['scan', 'clicks', '--window', WINDOW, '--where', 'late=true', '--to', kind, '--out']
    assert cli.main([*command, str(tmp_path / 'live'), '--contact-points', connection.contact_points[0]]) == 0
    of_backup = ['--backup', backup.uri, '--backup-name', str(backup.backup), '--contact-points', '203.0.113.1']
    assert cli.main([*command, str(tmp_path / 'stored'), *of_backup]) == 0
    live, stored = (json.loads((tmp_path / name / 'coverage.json').read_text()) for name in ('live', 'stored'))
    assert stored['fingerprint'] == live['fingerprint']
    assert stored['rows_written'] == live['rows_written'] > 0
    assert stored['backup']['name'] == backup.backup
    assert exported(tmp_path / 'stored', kind) == exported(tmp_path / 'live', kind)


def exported(folder: Path, kind: str) -> list[Any]:
    (path,) = folder.glob('*.gz' if kind == 'tfrecord' else f'*.{kind}')
    if kind == 'tfrecord':
        return sorted(tf.data.TFRecordDataset([str(path)], compression_type='GZIP').as_numpy_iterator())
    table = pq.read_table(path) if kind == 'parquet' else pa.ipc.open_file(path).read_all()
    return sorted(table.to_pylist(), key=repr)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--backup-name', 'nightly'], "backup_name: got 'nightly', rule: given together with --backup"),
        (['--backup', '/nowhere', '--rows-per-second', '5'], 'rows_per_second: got 5.0, rule: not with --backup'),
        (['--backup', '/nowhere'], '/nowhere: got no snapshot of ml_features.clicks, rule: a folder of snapshots'),
    ],
)
def test_options_of_a_backup_are_checked(
    options: list[str], message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('CASSANDRA_KEYSPACE', raising=False)
    assert cli.main(['scan', 'clicks', *options]) in (1, 2)
    assert message in capsys.readouterr().err


def run(component: CassandraExampleGen, folder: Path) -> tuple[types.Artifact, dict[str, list[bytes]], dict[str, Any]]:
    """Runs the component; returns its artifact, the examples of each split in a fixed order, and coverage.json."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    outputs = {'examples': [artifact]}
    if 'schema' in component.outputs:
        outputs['schema'] = [standard_artifacts.Schema()]
        outputs['schema'][0].uri = str(folder / 'schema')
        (folder / 'schema').mkdir(parents=True)
    executor.Executor().Do({}, outputs, dict(component.exec_properties))
    splits = {}
    for split in sorted(folder.glob('Split-*')):
        files = sorted(map(str, split.glob('*.gz')))
        splits[split.name] = sorted(tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator())
    return artifact, splits, json.loads((folder / 'coverage.json').read_text())


BUCKETS = (('train', 3), ('eval', 1))
JOINED: dict[str, Any] = {'views': [LEVELS, PEOPLE], 'labels': CLICKS, 'join_plan': 'scan'}


@pytest.mark.parametrize(
    'arguments',
    [
        {'views': FeatureView('clicks', 'clicks', ('user',), 'at', ('item', 'late')), 'window': WINDOW},
        {
            **JOINED,
            'window': WINDOW,
            'split': EntitySplits((('train', 2), ('eval', 1)), ('user',)),
            'emit_schema': True,
        },
        pytest.param(
            {
                **JOINED,
                'window': WINDOW,
                'split': TimeSplits((('train', 3), ('eval', 1)), 'at'),
                'availability_cut_off': False,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {**JOINED, 'views': [dataclasses.replace(LEVELS, features=('level',))], 'window': WINDOW, 'history': 3},
            marks=pytest.mark.slow,
        ),
        {**JOINED, 'span': SpanRange(count=2), 'limits': AuditLimits(missing=1.0)},
    ],
    ids=['view', 'entities', 'times', 'sequences', 'spans'],
)
def test_the_examples_of_the_backup_are_those_of_the_cluster(
    connection: CassandraConnection, backup: CassandraBackup, tmp_path: Path, arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    opens: list[str] = []

    def noted(backup: CassandraBackup, table: str, *rest: Any) -> BackupTable:
        opens.append(table)
        return open_table(backup, table, *rest)

    monkeypatch.setattr(tables, 'open_table', noted)
    live, expected, by_cql = run(CassandraExampleGen(connection, **arguments), tmp_path / 'live')
    stored, found, by_files = run(CassandraExampleGen(source=backup, **arguments), tmp_path / 'stored')
    assert found == expected
    assert all(found.values())
    assert opens
    assert len(opens) == len(set(opens)), 'the small files of a table are read once'
    for name in ('fingerprint', 'window', 'table', 'payload_format'):
        assert stored.get_string_custom_property(name) == live.get_string_custom_property(name)
    assert by_files['examples_checksum'] == by_cql['examples_checksum']
    assert stored.get_string_custom_property('backup_name') == by_files['backup']['name'] == backup.backup
    assert stored.get_string_custom_property('backup_digest') == by_files['backup_digest']
    assert len(by_files['backup_digest']) == 64
    for path in (tmp_path / 'live').rglob('schema.pbtxt'):
        assert path.read_bytes() == (tmp_path / 'stored' / 'schema' / 'schema.pbtxt').read_bytes()
    audits = [json.loads(path.read_text()) for path in sorted(tmp_path.glob('*/audit.json'))]
    assert len({json.dumps({**audit, 'labels_known_at': ''}) for audit in audits}) <= 1


def test_uri_name_and_keyspace_are_known_at_run_time(backup: CassandraBackup, tmp_path: Path) -> None:
    view = FeatureView('people', 'people', ('user',), 'born', ('weight',))
    component = CassandraExampleGen(source=backup, views=view, window='1990-01-01T00:00Z/1990-01-02T00:00Z')
    properties = dict(component.exec_properties)
    assert backup.uri not in properties['config']
    assert (properties['backup_uri'], properties['backup_name']) == (backup.uri, backup.backup)
    properties['backup_name'] = 'gone'
    with pytest.raises(ReadError, match=r"got no snapshot 'gone' of .*people, rule:"):
        executor.Executor().Do({}, {'examples': [standard_artifacts.Examples()]}, properties)


def test_what_a_backup_cannot_give_is_refused(connection: CassandraConnection, backup: CassandraBackup) -> None:
    early = datetime.datetime(2025, 1, 1, tzinfo=UTC)
    component = CassandraExampleGen(source=backup, **JOINED, window=WINDOW, as_of=early)
    with pytest.raises(ValueError, match=r"^as_of: got '2025-01-01T00:00:00\+00:00', rule: at or after the moment of"):
        executor.Executor().Do({}, {'examples': [standard_artifacts.Examples()]}, dict(component.exec_properties))
    with pytest.raises(ValueError, match=r"^join_plan: got 'lookup', rule: 'scan' or 'auto' with a backup"):
        CassandraExampleGen(source=backup, **{**JOINED, 'join_plan': 'lookup'}, window=WINDOW)
    with pytest.raises(ValueError, match=r'^rows_per_second: got 5, rule: None with a backup'):
        CassandraExampleGen(source=backup, **JOINED, window=WINDOW, rows_per_second=5)
    with pytest.raises(ValueError, match=r'^source: got .*, rule: not together with connection'):
        CassandraExampleGen(connection, **JOINED, window=WINDOW, source=backup)
    with pytest.raises(ValueError, match=r'^connection: got None, rule: given, unless source is'):
        CassandraExampleGen(**JOINED, window=WINDOW)
    missing = CassandraExampleGen(
        source=backup, **{**JOINED, 'labels': dataclasses.replace(CLICKS, table='gone')}, window=WINDOW
    )
    with pytest.raises((ReadError, SchemaError), match='gone'):
        executor.Executor().Do({}, {'examples': [standard_artifacts.Examples()]}, dict(missing.exec_properties))


def test_spans_and_labels_are_as_of_the_moment_of_the_backup(backup: CassandraBackup) -> None:
    component = CassandraExampleGen(source=backup, **JOINED, window=WINDOW)
    settings = config.from_properties(dict(component.exec_properties))[0].training_set
    moment = resolve.moment(settings)
    assert moment < datetime.datetime.now(UTC)
    assert moment == resolve.moment(settings)


def test_the_files_of_a_backup_are_part_of_the_cache_key(backup: CassandraBackup) -> None:
    component = CassandraExampleGen(source=backup, **JOINED, window=WINDOW)
    info = data_types.ExecutionInfo(exec_properties=dict(component.exec_properties))
    found = driver.Driver(None).run(info).exec_properties
    tables = [open_table(backup, name) for name in ('clicks', 'levels', 'people')]
    assert found['input_fingerprint'].string_value == '\n'.join(f'{one.name}@{one.digest}' for one in tables)
    assert found['backup_name'].string_value == backup.backup
