"""Medusa's backups, by its documented layout: which is read, what must be whole, and what proves it."""

from __future__ import annotations

import datetime
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from backup_rows import expected, rows
from medusa_layout import ID, write_backup
from recorded_sstables import Recorded, unpacked

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.listing import listed
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.errors import CoverageError, ReadError, SchemaError
from tfx_cassandra.components.sstable.read import Reading

STARTED = 1_750_000_000


@pytest.fixture(scope='module')
def one(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return unpacked(tmp_path_factory.mktemp('recorded'))['t1']


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'bucket' / 'prefix'


@pytest.fixture
def dealt(one: Recorded) -> dict[str, list[Path]]:
    """Three nodes, each with some of the SSTables."""
    data = sorted(one.folder.glob('*-Data.db'))
    return {f'node{i}.example.com': data[i::3] for i in range(3)}


def backup(root: Path, name: str | None = None, **options: str) -> CassandraBackup:
    return CassandraBackup(str(root), name, layout='medusa', keyspace='recorded', **options)


@pytest.mark.parametrize('differential', [False, True])
def test_a_backup_of_three_nodes(root: Path, one: Recorded, dealt: dict[str, list[Path]], differential: bool) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED, differential=differential)
    table = open_table(backup(root, 'nightly'), 't1')
    assert repr(rows(table, one)) == repr(expected(one))
    assert table.nodes == tuple(dealt)
    assert (table.name, table.created_at.timestamp()) == ('nightly', STARTED)
    assert table.owned == (None,) * len(table.sstables)
    assert repr(rows(pickle.loads(pickle.dumps(table)), one)) == repr(expected(one))


def test_differential_backups_share_files(root: Path, one: Recorded, dealt: dict[str, list[Path]]) -> None:
    """Each backup has what its manifest names, though all lie in one folder."""
    fewer = {node: data[:1] for node, data in dealt.items()}
    write_backup(root, 'first', fewer, started=STARTED, differential=True)
    write_backup(root, 'second', dealt, started=STARTED + 100, differential=True)
    assert len(open_table(backup(root, 'first'), 't1').sstables) == 3
    assert repr(rows(open_table(backup(root, 'second'), 't1'), one)) == repr(expected(one))


def test_the_latest_complete_one_is_read(root: Path, dealt: dict[str, list[Path]]) -> None:
    for number, name in enumerate(['b', 'a', 'c']):
        write_backup(root, name, dealt, started=STARTED + number * 1000, finished=name != 'c')
    assert open_table(backup(root), 't1').name == 'a'
    for node in dealt:
        (root / 'index' / 'backup_index' / 'a' / f'manifest_{node}.json').unlink()
    assert open_table(backup(root), 't1').name == 'b'
    with pytest.raises(ReadError, match=r"index/backup_index: got a, b, c, rule: backup 'd' with a node"):
        open_table(backup(root, 'd'), 't1')


def test_a_node_that_has_not_finished_is_named_with_its_ranges(root: Path, dealt: dict[str, list[Path]]) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED, finished=False)
    with pytest.raises(CoverageError, match=r'no files of node node2\.example\.com, which owned \(-9'):
        open_table(backup(root, 'nightly'), 't1')
    assert open_table(backup(root, 'nightly', replicas='one'), 't1').nodes == tuple(dealt)[:2]
    write_backup(root, 'weekly', dealt, started=STARTED, finished=False, factor=1)
    between = rf'of which there are no files: \({2 * 2**60}, {3 * 2**60}\]'
    with pytest.raises(CoverageError, match=between):
        open_table(backup(root, 'weekly', replicas='one'), 't1')
    with pytest.raises(ReadError, match='rule: a backup that all its nodes have finished'):
        open_table(backup(root), 't1')


def test_each_row_of_one_replica(root: Path, one: Recorded) -> None:
    """Three nodes have all files: of each token, one of them is read."""
    data = sorted(one.folder.glob('*-Data.db'))
    write_backup(root, 'nightly', {f'n{i}': data for i in range(3)}, started=STARTED)
    table = open_table(backup(root, replicas='one'), 't1')
    assert len(table.sstables) == 3 * len(data)
    assert set(table.owned) == {
        ((-(2**63), 2**60), (3 * 2**60, 2**63 - 1)), ((2**60, 2 * 2**60),), ((2 * 2**60, 3 * 2**60),)
    }  # fmt: skip
    assert repr(rows(table, one)) == repr(expected(one))


def test_what_a_node_does_not_own_is_not_read(root: Path, one: Recorded) -> None:
    """One node has everything and owns a part; the others, which own the rest, have nothing."""
    data = sorted(one.folder.glob('*-Data.db'))
    write_backup(root, 'nightly', {'n0': data, 'n1': data[:1], 'n2': data[:1]}, started=STARTED, factor=1)
    table = open_table(backup(root), 't1')
    found = rows(table, one)
    whole = list(zip(*expected(one), strict=True))
    kept = list(zip(*found, strict=True))
    assert 0 < len(kept) < len(whole)
    everything = Reading(table.schema, table.sstables, one.now)
    assert sum(batch.num_rows for batch in everything) == len(whole)


@pytest.mark.parametrize('md5', ['hex', 'etag', 'encrypted'])
def test_sums_of_small_files_are_compared_where_they_are_md5(
    root: Path, one: Recorded, dealt: dict[str, list[Path]], md5: str
) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED, md5=md5)
    assert repr(rows(open_table(backup(root), 't1'), one)) == repr(expected(one))
    toc = next((root / 'node0.example.com/nightly/data/recorded' / f't1-{ID}').glob('*-TOC.txt'))
    toc.write_bytes(toc.read_bytes().replace(b'Filter.db', b'Data.db\n\n'))
    if md5 == 'hex':
        with pytest.raises(ReadError, match=r'-TOC.txt: got another MD5, rule: [0-9a-f]{32}, as the manifest says'):
            open_table(backup(root), 't1')
    else:
        open_table(backup(root), 't1')


def in_folder(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: change(next((root / 'node1.example.com').glob('nightly/data/*/*/*-Data.db')))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (in_folder(Path.unlink), r'-Data.db: got no file, rule: \d+ bytes, as the manifest says'),
        (in_folder(lambda path: path.write_bytes(b'')), r'-Data.db: got 0 bytes, rule: \d+ bytes, as the manifest'),
        (lambda root: next(root.glob('index/*/*/manifest_*')).write_text('[]'), r'nightly: got no recorded.t1 in its'),
        (lambda root: next(root.glob('index/*/*/manifest_*')).write_text('[{}]'), r'manifest_.*rule: a manifest of'),
        (lambda root: next(root.glob('index/*/*/tokenmap_*')).write_text('{'), r'tokenmap_.*rule: nodes with their'),
        (lambda root: next(root.glob('index/*/*/schema_*')).unlink(), r'nightly: got no schema of node.*, rule: what'),
    ],
)
def test_what_is_not_whole_is_refused(
    root: Path, dealt: dict[str, list[Path]], damage: Callable[[Path], object], message: str
) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED)
    damage(root)
    with pytest.raises(ReadError, match=message):
        open_table(backup(root, 'nightly'), 't1')


@pytest.mark.parametrize('text', ['[', '[{}]', '{"a": 1}', '[3]', 'null'])
def test_a_list_of_backups_names_a_damaged_manifest(root: Path, dealt: dict[str, list[Path]], text: str) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED)
    (found,) = listed(str(root))
    size = sum(path.stat().st_size for path in root.glob('*/nightly/data/*/*/*'))
    assert (found.tables, found.nodes, found.bytes) == (1, 3, size + 3)  # each node has a file of an index
    next(root.glob('index/*/*/manifest_*')).write_text(text)
    with pytest.raises(ReadError, match=r'manifest_node.*: got .*, rule: a manifest of Medusa'):
        listed(str(root))


def test_another_table_is_refused(root: Path, dealt: dict[str, list[Path]]) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED)
    with pytest.raises(SchemaError, match=r'got no CREATE TABLE recorded.t9, rule'):
        open_table(backup(root), 't9')
    with pytest.raises(SchemaError, match='got a table of counters'):
        open_table(backup(root), 'other')


def test_without_an_index_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match='got nothing, rule: a backup that all its nodes have finished'):
        open_table(backup(tmp_path), 't1')


def test_the_moment_is_that_of_the_node_that_began_last(root: Path, dealt: dict[str, list[Path]]) -> None:
    write_backup(root, 'nightly', dealt, started=STARTED)
    index = root / 'index' / 'backup_index' / 'nightly'
    (index / f'started_node1.example.com_{STARTED}.timestamp').rename(
        index / f'started_node1.example.com_{STARTED + 5}.timestamp'
    )
    moment = datetime.datetime.fromtimestamp(STARTED + 5, datetime.timezone.utc)
    assert open_table(backup(root), 't1').created_at == moment
    assert json.loads((index / 'tokenmap_node0.example.com.json').read_text())
