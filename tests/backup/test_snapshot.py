"""Folders of snapshots: one node's, several nodes', and what must not be read."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pickle
import shutil
from pathlib import Path

import pytest
from backup_rows import expected, rows
from recorded_sstables import Recorded, unpacked

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.backup.ring_file import write_ring
from tfx_cassandra.components.errors import ReadError, SchemaError
from tfx_cassandra.components.sstable.snapshot import open_snapshot

ID = '0123456789abcdef0123456789abcdef'


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    return unpacked(tmp_path_factory.mktemp('recorded'))


@pytest.fixture(params=['t1', 't11'])
def one(request: pytest.FixtureRequest, recorded: dict[str, Recorded]) -> Recorded:
    return recorded[request.param]


def named(folder: Path) -> str:
    table = open_snapshot(folder)[0].table
    return f'{table.keyspace}.{table.name}'


def test_a_folder_of_one_table(one: Recorded) -> None:
    table = open_table(CassandraBackup(str(one.folder)), named(one.folder))
    assert repr(rows(table, one)) == repr(expected(one))
    assert table.name == one.folder.name
    data = list(one.folder.glob('*-Data.db'))
    assert len(table.sstables) == len(table.owned) == len(data)
    assert table.size == sum(path.stat().st_size for path in data)
    moment = json.loads((one.folder / 'manifest.json').read_text())['created_at']
    assert table.created_at.isoformat()[:23] == moment[:23]


def as_nodes_have_it(root: Path, one: Recorded, nodes: int, tag: str = 'nightly') -> CassandraBackup:
    """Deals the SSTables of a table out to the data folders of nodes; returns the backup."""
    keyspace, _, name = named(one.folder).partition('.')
    listed = sorted(path.name for path in one.folder.glob('*-Data.db'))
    for node in range(nodes):
        folder = root / f'node{node}' / 'data' / keyspace / f'{name}-{ID}' / 'snapshots' / tag
        folder.mkdir(parents=True)
        own = listed[node::nodes]
        for data in own:
            for path in one.folder.glob(data.removesuffix('Data.db') + '*'):
                shutil.copy(path, folder)
        shutil.copy(one.folder / 'schema.cql', folder)
        moment = f'2026-01-0{node + 1}T00:00:00.123Z'
        (folder / 'manifest.json').write_text(json.dumps({'files': own, 'created_at': moment}))
    return CassandraBackup(str(root), tag, keyspace=keyspace)


def test_the_folders_of_several_nodes(one: Recorded, tmp_path: Path) -> None:
    backup = as_nodes_have_it(tmp_path, one, 3)
    table = open_table(backup, named(one.folder).partition('.')[2])
    assert repr(rows(table, one)) == repr(expected(one))
    assert table.nodes == ('node0/data', 'node1/data', 'node2/data')
    assert table.created_at == datetime.datetime(2026, 1, 3, microsecond=123000, tzinfo=datetime.timezone.utc)
    whole = open_table(CassandraBackup(str(one.folder)), named(one.folder))
    assert (table.rows, table.size) == (whole.rows, whole.size)
    set_moment(tmp_path, whole.created_at.isoformat())
    assert open_table(backup, named(one.folder)).digest == whole.digest


def set_moment(root: Path, moment: str) -> None:
    for path in root.rglob('manifest.json'):
        path.write_text(json.dumps({**json.loads(path.read_text()), 'created_at': moment}))


@pytest.mark.parametrize(('archive', 'name', 'expires'), [('recorded', 't3', True), ('recorded_nb', 'many', False)])
def test_the_digest_has_the_moment_where_cells_expire(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, archive: str, name: str, expires: bool
) -> None:
    one = unpacked(tmp_path_factory.mktemp('recorded'), archive, name)[name]
    backup, digests = as_nodes_have_it(tmp_path, one, 1), set()
    for second in ('01.000', '01.999', '02.000'):
        set_moment(tmp_path, f'2026-01-01T00:00:{second}Z')
        digests.add(open_table(backup, name).digest)
    assert len(digests) == (2 if expires else 1)


def test_the_digest_has_the_dropped_columns(one: Recorded, tmp_path: Path) -> None:
    backup, table = as_nodes_have_it(tmp_path, one, 1), named(one.folder)
    before = open_table(backup, table).digest
    schema = next(tmp_path.rglob('schema.cql'))
    schema.write_text(f'{schema.read_text()}\nALTER TABLE {table} DROP gone USING TIMESTAMP 17000;')
    after = open_table(backup, table).digest
    schema.write_text(schema.read_text().replace('17000', '18000'))
    assert len({before, after, open_table(backup, table).digest}) == 3


def test_of_several_snapshots_one_is_named(one: Recorded, tmp_path: Path) -> None:
    nightly = as_nodes_have_it(tmp_path, one, 1)
    as_nodes_have_it(tmp_path, one, 2, 'weekly')
    assert open_table(nightly, named(one.folder)).nodes == ('node0/data',)
    with pytest.raises(ReadError, match='backup: got None, rule: one of nightly, weekly, '):
        open_table(CassandraBackup(str(tmp_path)), named(one.folder))
    with pytest.raises(ReadError, match="got no snapshot 'hourly' of "):
        open_table(CassandraBackup(str(tmp_path), 'hourly'), named(one.folder))


def test_a_table_is_small_in_pickles_and_reads_the_same(one: Recorded, tmp_path: Path) -> None:
    table = open_table(as_nodes_have_it(tmp_path, one, 2), named(one.folder))
    before = len(pickle.dumps(table))
    assert before < 10_000 * len(table.sstables) + 10_000
    rows(table, one)
    assert len(pickle.dumps(table)) == before  # where chunks start, which grows with the files, stays here
    copy = pickle.loads(pickle.dumps(table))
    assert repr(rows(copy, one)) == repr(expected(one))


def test_the_digest_is_that_of_the_files(one: Recorded, tmp_path: Path) -> None:
    backup = as_nodes_have_it(tmp_path, one, 1)
    before = open_table(backup, named(one.folder)).digest
    (folder,) = tmp_path.glob('node0/data/*/*/snapshots/nightly')
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['files'] = manifest['files'][:-1]
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    assert open_table(backup, named(one.folder)).digest != before


def test_two_folders_of_one_node_of_a_given_ring_are_refused(one: Recorded, tmp_path: Path) -> None:
    backup = as_nodes_have_it(tmp_path / '10.0.0.1', one, 2)
    replication = "{'class': 'SimpleStrategy', 'replication_factor': '1'}"
    cql = f'CREATE KEYSPACE {backup.keyspace} WITH replication = {replication};'
    write_ring(str(tmp_path / 'ring'), {'10.0.0.1': {'tokens': [0], 'dc': 'dc1', 'rack': 'r'}}, cql)
    given = dataclasses.replace(backup, ring=str(tmp_path / 'ring' / 'tokenmap.json'))
    with pytest.raises(ReadError, match=r'nightly: got one of several folders of node 10\.0\.0\.1, rule: one of each'):
        open_table(given, named(one.folder))


def test_sstables_of_an_index_are_not_rows(one: Recorded, tmp_path: Path) -> None:
    backup = as_nodes_have_it(tmp_path, one, 1)
    (folder,) = tmp_path.glob('node0/data/*/*/snapshots/nightly')
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['files'].append('.by_value/nb-1-big-Data.db')
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    assert repr(rows(open_table(backup, named(one.folder)), one)) == repr(expected(one))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda folder: (folder / 'manifest.json').unlink(), r'nightly: got no manifest.json or no schema.cql'),
        (lambda folder: (folder / 'schema.cql').unlink(), r'nightly: got no manifest.json or no schema.cql'),
        (lambda folder: (folder / 'manifest.json').write_text('{'), r'manifest.json: got .* rule: the manifest of'),
        (lambda folder: (folder / 'manifest.json').write_text('[]'), r'manifest.json: got .* rule: the manifest of'),
        (lambda folder: next(folder.glob('*-Data.db')).unlink(), r'nightly: got no nb-.-big-Data.db, rule: all files'),
        (lambda folder: next(folder.glob('*-Filter.db')).unlink(), r'nb-.-big: got no Filter.db, rule: all files of'),
    ],
)
def test_what_is_not_whole_is_refused(one: Recorded, tmp_path: Path, damage: object, message: str) -> None:
    backup = as_nodes_have_it(tmp_path, one, 1)
    (folder,) = tmp_path.glob('node0/data/*/*/snapshots/nightly')
    damage(folder)
    with pytest.raises(ReadError, match=message):
        open_table(backup, named(one.folder))


def test_another_table_is_refused(one: Recorded) -> None:
    with pytest.raises(ReadError, match=r'got snapshots of \w+\.t1+, rule: of ml_features.other'):
        open_table(CassandraBackup(str(one.folder)), 'other')


def test_a_table_that_cannot_be_read_may_be_beside(one: Recorded, tmp_path: Path) -> None:
    shutil.copytree(one.folder, tmp_path / 'copy')
    for name in ('a', 'z'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'manifest.json').write_text('{"files": []}')
        (tmp_path / name / 'schema.cql').write_text('CREATE TABLE recorded.counted (k int PRIMARY KEY, n counter)')
    table = open_table(CassandraBackup(str(tmp_path)), named(one.folder))
    assert repr(rows(table, one)) == repr(expected(one))
    with pytest.raises(SchemaError, match='got a table of counters'):
        open_table(CassandraBackup(str(tmp_path)), 'recorded.counted')


def test_nodes_with_two_schemas_are_refused(one: Recorded, tmp_path: Path) -> None:
    backup = as_nodes_have_it(tmp_path, one, 2)
    schema = next(tmp_path.glob('node1/data/*/*/snapshots/nightly/schema.cql'))
    table = named(one.folder)
    schema.write_text(schema.read_text() + f'\nALTER TABLE {table} ADD added_since int;')
    with pytest.raises(ReadError, match='got two schemas of'):
        open_table(backup, table)
    schema.write_text('CREATE TABLE')
    with pytest.raises(SchemaError):
        open_table(backup, table)


@pytest.mark.parametrize(
    'uri',
    ['s3://key:secret@bucket/a', 's3://bucket/a?secret_key=s', 's3://bucket/a?region=x&SESSION_TOKEN=s'],
)
def test_secrets_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ValueError, match=r"^uri: got 's3://\*\*\*', rule: a URI without credentials") as caught:
        CassandraBackup(uri)
    assert 'secret' not in str(caught.value).partition('rule')[0].lower()


def test_a_folder_may_have_an_at_sign() -> None:
    assert str(CassandraBackup('/backups/a@b', 'nightly')) == '/backups/a@b (nightly)'
