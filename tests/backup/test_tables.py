"""Tables of a backup as a source of scans, on files that a real Cassandra wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_sstables import Recorded, unpacked
from scanned import scanned

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.scan.options import ReadRequest


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
