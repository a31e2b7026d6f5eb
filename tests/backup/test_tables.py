"""Tables of a backup as a source of scans, on files that a real Cassandra wrote."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from medusa_layout import write_backup
from recorded_sstables import Recorded, unpacked
from scanned import scanned

from tfx_cassandra.components.backup import tables
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import BackupTable, open_table
from tfx_cassandra.components.backup.remote import RemoteFile
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.sstable import chunks, index, sstable
from tfx_cassandra.components.sstable.read import Reading


@pytest.fixture(scope='module')
def of_text(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A table whose partition key is a text."""
    return unpacked(tmp_path_factory.mktemp('recorded'), only='t3')['t3']


def source(folder: Path) -> BackupTables:
    return BackupTables(CassandraBackup(str(folder), keyspace='recorded'))


def test_a_key_that_no_partition_can_have_gives_no_rows(of_text: Recorded) -> None:
    request = ReadRequest(source(of_text.folder), 't3', filters=(('Partition 0', ('',)),))
    rows, _, coverage = scanned(request)
    assert (rows, coverage.rows) == ([], 0)


def test_threads_that_start_together_open_a_table_once(of_text: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, usual, ready = [], tables._opened, threading.Barrier(4)

    def slowly(of: BackupTables, name: str) -> BackupTable:
        opened.append(name)
        time.sleep(0.2)
        return usual(of, name)

    monkeypatch.setattr(tables, '_opened', slowly)
    request = ReadRequest(source(of_text.folder), 't3')

    def describe(_: int) -> object:
        ready.wait(60)
        return request.connection.describe(request).scan.table

    with request.connection.held(), ThreadPoolExecutor(4) as threads:
        assert len({str(one) for one in threads.map(describe, range(4))}) == 1
    assert opened == ['recorded.t3']


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Folders are read as object stores are, in small pieces; returns what will be asked for: path, start, length."""
    asked, usual = [], RemoteFile._fetched

    def fetched(file: RemoteFile, start: int, length: int) -> bytes:
        asked.append((file._path, start, length))
        return usual(file, start, length)

    monkeypatch.setattr(RemoteFile, '_fetched', fetched)
    monkeypatch.setattr(Store, 'is_local', False)
    monkeypatch.setattr(chunks, '_READ', 1)
    monkeypatch.setattr(sstable, '_SLACK', 1)
    return asked


def reading(table: BackupTable, of: Recorded) -> Iterator[object]:
    return iter(Reading(table.schema, table.sstables, of.now, batch_rows=10))


@pytest.mark.parametrize('layout', ['snapshot', 'medusa'])
def test_readings_at_the_same_time_ask_for_no_more_than_one_after_the_other(
    requests: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory, layout: str
) -> None:
    many = unpacked(tmp_path_factory.mktemp('recorded'), 'recorded_nb', 'many')['many']
    root = tmp_path_factory.mktemp('medusa')
    write_backup(root, 'nightly', {'n0': sorted(many.folder.glob('*-Data.db'))}, started=1_750_000_000)
    place = many.folder if layout == 'snapshot' else root
    table = open_table(CassandraBackup(str(place), layout=layout, keyspace='recorded'), 'many')
    requests.clear()
    alone = sum(batch.num_rows for batch in reading(table, many))
    once = len([path for path, *_ in requests if path.endswith('-Data.db')])
    requests.clear()
    pairs = list(itertools.zip_longest(reading(table, many), reading(table, many)))
    assert sum(batch.num_rows for pair in pairs for batch in pair) == 2 * alone > 1000
    assert 2 < len([path for path, *_ in requests if path.endswith('-Data.db')]) <= 2 * once


@pytest.mark.parametrize('version', ['nb', 'oa', 'da'])
def test_ranges_ask_for_little_more_than_they_need(
    requests: list[tuple[str, int, int]], tmp_path: Path, version: str
) -> None:
    many = unpacked(tmp_path, f'recorded_{version}', 'many')['many']
    table = open_table(CassandraBackup(str(many.folder), keyspace='recorded'), 'many')
    ends = [-(2**63), -(2**62), 0, 2**62, 2**63 - 1]
    found = 0
    for tokens in itertools.pairwise(ends):
        part = Reading(table.schema, table.sstables, many.now, tokens=tokens)
        found += sum(batch.num_rows for batch in part)
    asked = sum(length for path, _, length in requests if path.endswith('-Data.db'))
    stored = sum(one.files.ranges('Data.db').size for one in table.sstables)
    assert found == sum(batch.num_rows for batch in reading(table, many)) > 1000
    assert asked < 2 * stored


def test_a_range_looks_into_several_sstables_at_a_time(
    requests: list[tuple[str, int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = unpacked(tmp_path, 'recorded_nb', 'many')['many']
    table = open_table(CassandraBackup(str(many.folder), keyspace='recorded'), 'many')
    for module, name in ((index, 'place_of'), (chunks, 'compression')):
        both, usual = threading.Barrier(len(table.sstables), timeout=60), getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, both=both, usual=usual: (both.wait(), usual(*given))[1])
    assert len(table.sstables) == 2
    found = Reading(table.schema, table.sstables, many.now, tokens=(0, 2**63 - 1))
    assert sum(batch.num_rows for batch in found) > 1000
