"""Files that hold rows, or say what was done with them, are for their owner alone, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.ingest.checkpoint import Checkpoint
from tfx_cassandra.components.ingest.dead_letters import DeadLetters
from tfx_cassandra.components.ingest.records import Broken
from tfx_cassandra.components.table_copy.record import Record


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    assert path.stat().st_size > 0
    return stat.S_IMODE(path.stat().st_mode)


def test_dead_letters(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / 'dead.jsonl')
    letters.add_broken('rows.csv', Broken(record=1, line=2, error='why', text='a,b'))
    letters.flush()
    assert mode(tmp_path / 'dead.jsonl') == 0o600


def test_checkpoints_of_ingest_and_of_copies(tmp_path: Path) -> None:
    Checkpoint(tmp_path / 'ingest.json', {'table': 't'}).begin()
    Record(tmp_path / 'copy.json', {'source': 's'}).done(0, 1)
    assert mode(tmp_path / 'ingest.json') == mode(tmp_path / 'copy.json') == 0o600


def test_copies_of_snapshots_in_a_folder(tmp_path: Path) -> None:
    Store(str(tmp_path)).write('node/backup/data/k/t/nb-1-big-Data.db', iter([b'rows']))
    assert mode(tmp_path / 'node/backup/data/k/t/nb-1-big-Data.db') == 0o600


def test_what_its_owner_has_opened_to_others_stays_so(tmp_path: Path) -> None:
    path = tmp_path / 'dead.jsonl'
    path.touch()
    path.chmod(0o640)
    letters = DeadLetters(path)
    letters.add_broken('rows.csv', Broken(record=1, line=2, error='why', text='a,b'))
    letters.flush()
    assert mode(path) == 0o640
