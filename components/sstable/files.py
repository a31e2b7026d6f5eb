"""The files of one SSTable: their names, and ranges of their bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from tfx_cassandra.components.errors import ReadError, invalid

VERSIONS = {'nb': 'big', 'oa': 'big', 'da': 'bti'}  # version -> format
_NAME = re.compile(r'([a-z]{2})-([0-9a-z_]+)-([a-z]+)-([A-Za-z0-9+_]+\.[a-z0-9]+)')
_DATA = 'Data.db'


class Ranges(Protocol):
    """A file whose bytes can be read in any order.

    Attributes:
      size: Number of its bytes.
    """

    size: int

    def read(self, start: int, length: int) -> bytes:
        """Returns the bytes from `start` on: `length` of them, or fewer where the file ends."""

    def in_order(self, end: int) -> Ranges:
        """Returns this file for one reader, which reads it in order, probably up to byte `end`."""


class LocalFile:
    """A file on this machine. It is open only while it is read, so that thousands do not exhaust descriptors.

    Raises:
      ReadError: It cannot be read, such as one that is gone: at once, or at a read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._named():
            self.size = path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        """Returns the bytes from `start` on: `length` of them, or fewer where the file ends."""
        with self._named(), self.path.open('rb', buffering=0) as file:
            return os.pread(file.fileno(), length, start)

    def in_order(self, end: int) -> LocalFile:
        """Returns itself: the operating system reads ahead."""
        return self

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReadError(f'{self.path}: got {error.strerror}, rule: a file that stays as it is') from error


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of one SSTable.

    Attributes:
      name: What their names have in common, such as 'nb-1-big'.
      version: Version of the format: a key of VERSIONS.
      components: The rest of each file's name, such as 'Data.db' -> the file.
    """

    name: str
    version: str
    components: Mapping[str, Ranges]

    def content(self, component: str) -> bytes:
        """Returns all bytes of a small file; raises ReadError if it is missing."""
        return read_all(self.ranges(component), f'{self.name}-{component}')

    def ranges(self, component: str) -> Ranges:
        """Returns a file; raises ReadError if it is missing."""
        if component not in self.components:
            raise ReadError(f'{self.name}: got no {component}, rule: all files of an SSTable')
        return self.components[component]

    def __contains__(self, component: str) -> bool:
        return component in self.components


def read_all(file: Ranges, name: str) -> bytes:
    """Returns all bytes of a file; raises ReadError if it has become shorter."""
    content = file.read(0, file.size)
    if len(content) != file.size:
        raise ReadError(f'{name}: got {len(content)} bytes, rule: {file.size}')
    return content


def split_name(name: str) -> tuple[str, str, str]:
    """Splits a file's name: 'nb-1-big-Data.db' -> ('nb', 'nb-1-big', 'Data.db').

    Raises:
      ReadError: It is no file of an SSTable, or of a version that cannot be read.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ReadError(f'{name}: got a name, rule: VERSION-ID-FORMAT-COMPONENT, such as nb-1-big-Data.db')
    version, number, form, component = match.groups()
    if VERSIONS.get(version) != form:
        known = ', '.join(f'{v}-{f}' for v, f in VERSIONS.items())
        raise ReadError(f'{name}: got version {version}-{form}, rule: one of {known} (Cassandra 4.0 to 5.0)')
    return version, f'{version}-{number}-{form}', component


def local_files(path: Path) -> Files:
    """Returns the files of the SSTable whose Data.db is `path`.

    Raises:
      ReadError: A file is missing that TOC.txt names, or the version cannot be read.
      ValueError: The path is not that of a Data.db.
    """
    version, name, component = split_name(path.name)
    if component != _DATA:
        raise invalid('path', str(path), 'that of a Data.db')
    found = {file.name[len(name) + 1 :]: LocalFile(file) for file in path.parent.glob(f'{name}-*') if file.is_file()}
    return checked(Files(name, version, found))


def checked(files: Files) -> Files:
    """Returns the files of an SSTable; raises ReadError unless all are there that TOC.txt names."""
    for component in [_DATA, *files.content('TOC.txt').decode('ascii', 'replace').split()]:
        files.ranges(component)
    return files


def data_files(paths: list[Path]) -> list[Path]:
    """Returns the Data.db files of `paths`: themselves, or those in folders; raises ReadError where there are none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob(f'*-{_DATA}')) if path.is_dir() else [path]
        if not inside:
            raise ReadError(f'{path}: got a folder without Data.db files, rule: the folder of a snapshot')
        found += inside
    return found
