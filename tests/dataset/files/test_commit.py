"""Files are put in their places once and whole, however often and late a runner repeats what writes them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError

from tfx_cassandra.components.dataset.files import tfrecord
from tfx_cassandra.components.dataset.files.commit import Attempt, commit, sum_checksums
from tfx_cassandra.components.dataset.files.spool import FileSystems, SpoolFile
from tfx_cassandra.components.errors import DatasetError

COUNTS = {'train': 60, 'eval': 20}


def pieces(folder: Path, split: str, count: int) -> list[tfrecord.Piece]:
    file = SpoolFile(str(folder / tfrecord.SPOOL))
    made = [
        tfrecord.Piece(split, n * 2**61 % 2**64, file.append(gzip.compress(b'%d' % n)), 10, f'{2**63 + n:x}')
        for n in range(count // 10)
    ]
    file.close()
    return made


def attempts(folder: Path) -> list[Attempt]:
    """Writes the file of each split, as one attempt of a runner does."""
    writing = tfrecord._Write(str(folder))
    return [
        attempt
        for split, count in COUNTS.items()
        for attempt in writing.process(((split, 0, 1), pieces(folder, split, count)))
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: gzip.decompress(path.read_bytes()) for path in folder.glob('Split-*/*')}


def checksum(made: list[Attempt]) -> str:
    return sum_checksums(attempt.checksum for attempt in made)


def test_attempts_that_do_not_count_change_nothing(tmp_path: Path) -> None:
    first, second = attempts(tmp_path), attempts(tmp_path)
    assert not contents(tmp_path), 'nothing is in its place before all is written'
    assert len({attempt.temporary for attempt in first + second}) == 4
    assert list(commit(first, COUNTS, checksum(first))) == first
    got = contents(tmp_path)
    assert set(got) == {'Split-train', 'Split-eval'}
    attempts(tmp_path)  # of a worker that was taken for lost
    assert contents(tmp_path) == got


def test_a_commit_that_was_interrupted_is_repeated(tmp_path: Path) -> None:
    made = attempts(tmp_path)
    FileSystems.mkdirs(str(Path(made[0].path).parent))
    FileSystems.rename([made[0].temporary], [made[0].path])
    for _ in range(3):
        assert list(commit(made, COUNTS, checksum(made))) == made
    assert contents(tmp_path) == {'Split-train': b'012345', 'Split-eval': b'01'}


def test_a_file_system_that_replaces_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HDFS is; the files in the places are those of a commit whose worker was lost."""
    real = FileSystems.rename

    def renaming(sources: list[str], targets: list[str]) -> None:
        if any(map(FileSystems.exists, targets)):
            raise BeamIOError('exists')
        real(sources, targets)

    monkeypatch.setattr(FileSystems, 'rename', renaming)
    for _ in range(2):
        made = attempts(tmp_path)
        list(commit(made, COUNTS, checksum(made)))
    assert contents(tmp_path) == {'Split-train': b'012345', 'Split-eval': b'01'}


def test_files_without_all_that_was_encoded_are_an_error(tmp_path: Path) -> None:
    made = attempts(tmp_path)
    with pytest.raises(DatasetError, match=r'^files: got 60 examples of split train, rule: the 70 that were encoded'):
        list(commit(made, {**COUNTS, 'train': 70}, checksum(made)))
    with pytest.raises(DatasetError, match=rf'^files: got examples of checksum {checksum(made)}, rule: the 00'):
        list(commit(made, COUNTS, '00'))
    with pytest.raises(DatasetError, match=r'^files: got 20 examples of split eval, rule: the 0 that'):
        list(commit(made, {'train': 60}, checksum(made)))
    assert not contents(tmp_path)


def test_a_file_that_is_lost_is_an_error(tmp_path: Path) -> None:
    made = attempts(tmp_path)
    FileSystems.delete([made[1].temporary])
    with pytest.raises(OSError, match='Rename operation failed'):
        list(commit(made, COUNTS, checksum(made)))
