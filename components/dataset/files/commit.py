"""Puts complete files in their places, once they are known to hold all that was encoded.

A runner may repeat the writing of a file, also at the same time on two workers. Each attempt writes under a name of its
own, and `commit` renames those that counted. A worker that is lost with its pieces has its rows read again, maybe in
other chunks, after other files were written of the first ones: so `commit` compares what the files hold with what was
encoded.

A step that is repeated as a whole writes into the same folders, maybe another number of files, which their names say:
those of the attempt before are removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from tfx_cassandra.components.dataset.files.spool import make_folder
from tfx_cassandra.components.errors import DatasetError

PREFIX = 'data_tfrecord-'  # of the names of a split's files


class Attempt(NamedTuple):
    """A file of a split that is complete and not yet in its place: where it is, where it belongs, what it holds."""

    split: str
    temporary: str
    path: str
    examples: int
    checksum: str


def sum_checksums(checksums: Iterable[str]) -> str:
    """Adds checksums up, modulo 2^64; all in hexadecimal."""
    return f'{sum(int(checksum, 16) for checksum in checksums) % 2**64:016x}'


def commit(attempts: list[Attempt], counts: Mapping[str, int], checksum: str) -> Iterator[Attempt]:
    """Renames files to their places, once they are known to hold what was encoded; a repetition changes nothing.

    Raises:
      DatasetError: They hold other examples.
    """
    for split in sorted({attempt.split for attempt in attempts}):
        count = sum(attempt.examples for attempt in attempts if attempt.split == split)
        if count != counts.get(split, 0):
            raise _repeated(f'{count} examples of split {split}', counts.get(split, 0))
    if (written := sum_checksums(attempt.checksum for attempt in attempts)) != checksum:
        raise _repeated(f'examples of checksum {written}', checksum)
    folders = sorted({os.path.dirname(attempt.path) for attempt in attempts})
    for folder in folders:
        make_folder(folder)
    for attempt in attempts:
        _rename(attempt.temporary, attempt.path)
    # After the renames: a commit that comes late has no files left to rename, and has failed before.
    for folder in folders:
        _remove_others(folder, {os.path.split(attempt.path) for attempt in attempts})
    yield from attempts


def _repeated(got: str, encoded: object) -> DatasetError:
    rule = f'the {encoded} that were encoded (a worker was lost and its rows were read again, not as before: run again)'
    return DatasetError(f'files: got {got}, rule: {rule}')


def _rename(temporary: str, path: str) -> None:
    """Renames a file, in place of the one that an attempt before may have left; HDFS replaces none by itself."""
    try:
        FileSystems.rename([temporary], [path])
    except BeamIOError:
        if FileSystems.exists(temporary):
            FileSystems.delete([path])
            FileSystems.rename([temporary], [path])
        elif not FileSystems.exists(path):
            raise


def _remove_others(folder: str, written: set[tuple[str, str]]) -> None:
    """Removes the files of an earlier attempt of the step: those of the folder that this one has not written."""
    (found,) = FileSystems.match([os.path.join(folder, f'{PREFIX}*')])
    names = [os.path.basename(file.path) for file in found.metadata_list]
    others = [os.path.join(folder, name) for name in names if (folder, name) not in written]
    if others:
        FileSystems.delete(others)
