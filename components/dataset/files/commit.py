"""Puts complete files in their places, once they are known to hold all that was encoded.

A runner may repeat the writing of a file, also at the same time on two workers. Each attempt writes under a name of its
own, and `commit` renames those that counted. A worker that is lost with its pieces has its rows read again, maybe in
other chunks, after other files were written of the first ones: so `commit` compares what the files hold with what was
encoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from tfx_cassandra.components.dataset.files.spool import make_folder
from tfx_cassandra.components.errors import DatasetError


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
    for folder in sorted({os.path.dirname(attempt.path) for attempt in attempts}):
        make_folder(folder)
    for attempt in attempts:
        _rename(attempt.temporary, attempt.path)
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
