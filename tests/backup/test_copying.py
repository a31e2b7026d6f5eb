"""Copies of snapshots in Medusa's layout: whole or not there, here and in a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from backup_rows import STARTED, expected, node_snapshots, rows
from recorded_sstables import Recorded, unpacked

from tfx_cassandra.components.backup import copying
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.copying import NodeSnapshot, copy, remove
from tfx_cassandra.components.backup.listing import listed
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.errors import CoverageError, ReadError


@pytest.fixture(scope='module')
def one(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return unpacked(tmp_path_factory.mktemp('recorded'))['t1']


@pytest.fixture
def snapshots(one: Recorded, tmp_path: Path) -> list[NodeSnapshot]:
    return node_snapshots(one, tmp_path)


def backup(place: str | Path, name: str | None = None) -> CassandraBackup:
    return CassandraBackup(str(place), name, layout='medusa', keyspace='recorded')


def test_a_copy_is_read_listed_and_removed(one: Recorded, snapshots: list[NodeSnapshot], tmp_path: Path) -> None:
    place, said = tmp_path / 'copies', []
    files, size = copy(snapshots, str(place), 'nightly', said.append)
    table = open_table(backup(place), 't1')
    assert repr(rows(table, one)) == repr(expected(one))
    assert (table.nodes, table.created_at.timestamp()) == (('10.0.0.0', '10.0.0.1'), STARTED + 1)
    whole = [path for path in one.folder.iterdir() if path.suffix not in ('.json', '.cql') and path.name != 'cql.txt']
    assert (files, size) == (len(whole), sum(path.stat().st_size for path in whole))
    assert said[-1] == f'{files:,} files, {size / 1e6:,.1f} MB'
    (found,) = listed(str(place))
    assert (found.name, found.complete, found.nodes, found.tables) == ('nightly', True, 2, 1)
    assert (found.files, found.bytes) == (files, size)
    with pytest.raises(ValueError, match=r"^name: got 'nightly', rule: one that .* does not have yet"):
        copy(snapshots, str(place), 'nightly', said.append)
    assert remove(str(place), 'nightly') == 2
    assert not [path for path in place.rglob('*') if path.is_file()]
    with pytest.raises(ReadError, match="got no 'nightly', rule: the name of a backup"):
        remove(str(place), 'nightly')


def interrupted(count: int) -> Callable[..., dict[str, object]]:
    usual, copied = copying._copy_file, []

    def failing(*arguments: object) -> dict[str, object]:
        copied.append(arguments)
        if len(copied) > count:
            raise ReadError('no space is left')
        return usual(*arguments)

    return failing


@pytest.mark.parametrize('count', [0, 5, 40])
def test_an_interrupted_copy_is_not_whole(
    snapshots: list[NodeSnapshot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    place = tmp_path / 'copies'
    monkeypatch.setattr(copying, '_copy_file', interrupted(count))
    with pytest.raises(ReadError, match='no space is left'):
        copy(snapshots, str(place), 'nightly', str)
    with pytest.raises(ReadError, match='rule: a backup that all its nodes have finished'):
        open_table(backup(place), 't1')
    with pytest.raises((ReadError, CoverageError), match=r'has finished|no files of node'):
        open_table(backup(place, 'nightly'), 't1')
    assert [one.complete for one in listed(str(place))] == [False]


def test_a_place_that_cannot_be_written_is_named(snapshots: list[NodeSnapshot], tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(ReadError, match=r'/file/10.0.0.0/.*, rule: a place that can be written'):
        copy(snapshots, str(tmp_path / 'file'), 'nightly', str)
