"""Record batches by way of files: what a runner holds between two stages is where they stand.

    (key, batch) -> appended to the bundle's spool file; (key, Place)  -> grouped by the runner -> read when iterated

Beam's local runner shuffles in memory and copies what it shuffles several times over; of a Place that is nothing. Other
runners write to disk what they shuffle, and so do we, into a folder beside the output, which every worker can reach.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

OPEN_FILES = 16  # that one reader holds open at once


class Place(NamedTuple):
    """Where something stands in a spool file, in bytes."""

    path: str
    offset: int
    size: int


class SpoolFile:
    """A file of its own for a bundle, made when something is appended.

    A bundle that is tried again spools into another file, and only the places of the one that counts arrive.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._end = folder, 0
        self._file: Any = None

    def append(self, content: bytes) -> Place:
        """Writes bytes behind those before, and returns where."""
        if self._file is None:
            make_folder(self._folder)
            self._path = os.path.join(self._folder, uuid.uuid4().hex)
            self._file = FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
        self._file.write(content)
        self._end += len(content)
        return Place(self._path, self._end - len(content), len(content))

    def close(self) -> None:
        """Ends the file; before that nobody may read it. A closed one stays closed."""
        if self._file is not None and not self._file.closed:
            self._file.close()


def read(places: Iterable[Place]) -> Iterator[bytes]:
    """Gives what stands at each place, in the order given; holds the files read last open, at most OPEN_FILES."""
    files: dict[str, Any] = {}  # that read last is the last
    try:
        for place in places:
            file = files.pop(place.path, None)
            if file is None:
                while len(files) >= OPEN_FILES:
                    files.pop(next(iter(files))).close()
                file = FileSystems.open(place.path, compression_type=CompressionTypes.UNCOMPRESSED)
            files[place.path] = file
            file.seek(place.offset)
            yield file.read(place.size)
    finally:
        for file in files.values():
            file.close()


def serialized(batch: pa.RecordBatch) -> bytes:
    """Returns a record batch as `Spooled` reads it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def make_folder(folder: str) -> None:
    """Makes a folder, unless there is one."""
    try:
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)
    except OSError:  # another worker was first
        if not FileSystems.exists(folder):
            raise


def clean(folder: str) -> None:
    """Removes a folder and what is in it, if it is there."""
    if FileSystems.exists(folder):
        FileSystems.delete([folder])


@contextlib.contextmanager
def cleaned(folder: str) -> Iterator[None]:
    """Removes a folder at the end, if it is there then, whether the work within has failed or not."""
    try:
        yield
    finally:
        clean(folder)


@dataclasses.dataclass(frozen=True)
class Spooled:
    """Record batches in spool files, read as they are iterated over."""

    places: tuple[Place, ...]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for _, of_file in itertools.groupby(sorted(self.places), lambda place: place.path):
            for content in read(of_file):
                yield from pa.ipc.open_stream(content)


class SpoolBatches(beam.PTransform):
    """Record batches -> Spooled, one each."""

    def __init__(self, folder: str) -> None:
        """Spools into a folder that all workers reach, for the caller to `clean` when all is read."""
        super().__init__()
        self._folder = folder

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | beam.WithKeys(None) | beam.ParDo(_Spool(self._folder)) | beam.Values()


class CoGroupBatches(beam.PTransform):
    """{name: (key, record batch)} -> (key, {name: record batches}): CoGroupByKey, of what is spooled."""

    def __init__(self, folder: str) -> None:
        """See SpoolBatches."""
        super().__init__()
        self._folder = folder

    def expand(self, tables: Mapping[str, beam.PCollection]) -> beam.PCollection:
        spooled = {name: table | f'Spool[{name}]' >> beam.ParDo(_Spool(self._folder)) for name, table in tables.items()}
        return spooled | 'Group' >> beam.CoGroupByKey() | 'Open' >> beam.MapTuple(_opened)


class _Spool(beam.DoFn):
    """(key, record batch) -> (key, Spooled)."""

    def __init__(self, folder: str) -> None:
        self._folder, self._file = folder, SpoolFile(folder)

    def start_bundle(self) -> None:
        self._file.close()  # that of a bundle which failed
        self._file = SpoolFile(self._folder)

    def process(self, keyed: tuple[Any, pa.RecordBatch]) -> Iterator[tuple[Any, Spooled]]:
        key, batch = keyed
        yield key, Spooled((self._file.append(serialized(batch)),))

    def finish_bundle(self) -> None:
        self._file.close()

    def teardown(self) -> None:
        self._file.close()  # that of a bundle which failed


def _opened(key: Any, parts: Mapping[str, Iterable[Spooled]]) -> tuple[Any, dict[str, Spooled]]:
    return key, {name: Spooled(tuple(place for one in some for place in one.places)) for name, some in parts.items()}
