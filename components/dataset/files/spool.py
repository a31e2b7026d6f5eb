"""Passes record batches between two stages through files: the runner only shuffles their positions.

    (key, batch) -> appended to the bundle's spool file; (key, Place)  -> grouped by the runner -> read when iterated

Beam's local runner shuffles in memory and copies every element several times; a Place takes next to no memory. Other
runners write shuffled elements to disk; here they are in a folder next to the output, which every worker must reach:
`spooling` leaves a mark in it that each worker looks for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.windowed_value import WindowedValue

from tfx_cassandra.components.dataset.files.gather import Held
from tfx_cassandra.components.errors import DatasetError

MAX_OPEN_FILES = 16  # of one reader
MARK = 'reachable'  # the file that the pipeline's own process leaves in a spool folder

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """A range of bytes in a spool file."""

    path: str
    offset: int
    size: int


class SpoolFile:
    """The spool file of one bundle, created when something is appended.

    A bundle that is retried writes another file, and the runner passes on only the places of the successful attempt.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._end = folder, 0
        self._file: Any = None

    def append(self, content: bytes) -> Place:
        """Appends bytes and returns their place."""
        if self._file is None:
            make_folder(self._folder)
            self._path = os.path.join(self._folder, uuid.uuid4().hex)
            self._file = FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
        self._file.write(content)
        self._end += len(content)
        return Place(self._path, self._end - len(content), len(content))

    def close(self) -> None:
        """Closes the file, which may be read only then. Closing it again does nothing."""
        if self._file is not None and not self._file.closed:
            self._file.close()


def read(places: Iterable[Place]) -> Iterator[bytes]:
    """Yields the bytes at each place, in the order given; keeps at most MAX_OPEN_FILES files open."""
    files: dict[str, Any] = {}  # least recently read first
    try:
        for place in places:
            file = files.pop(place.path, None)
            if file is None:
                while len(files) >= MAX_OPEN_FILES:
                    files.pop(next(iter(files))).close()
                file = FileSystems.open(place.path, compression_type=CompressionTypes.UNCOMPRESSED)
                if hasattr(file, '_chunk_size'):
                    file._chunk_size = 1  # of gs://: the least that a read transfers, 16 MB of Beam's own
            files[place.path] = file
            yield _exactly(file, place)
    finally:
        for file in files.values():
            file.close()


def _exactly(file: Any, place: Place) -> bytes:
    """Reads a place without what stands after it: the buffer of an object store's file is 16 MB."""
    raw = getattr(file, 'raw', file)
    raw.seek(place.offset)
    parts: list[bytes] = []
    missing = place.size
    while missing and (part := raw.read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise DatasetError(f'spool file {place.path}: got an end {missing} bytes early, rule: all of {place}')
    return b''.join(parts)


def serialized(batch: pa.RecordBatch) -> bytes:
    """Returns a record batch in the format that `Spooled` reads."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def make_folder(folder: str) -> None:
    """Creates a folder unless it exists."""
    try:
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)
    except OSError:  # another worker was first
        if not FileSystems.exists(folder):
            raise


def clean(folder: str) -> None:
    """Removes a folder and the files in it, if it exists; in an object store there are the files alone."""
    system: Any = FileSystems.get_filesystem(folder)
    if not system.has_dirs():
        FileSystems.delete([os.path.join(folder, '')])  # all at once: of a list, gs:// looks up and deletes each file
    elif FileSystems.exists(folder):
        FileSystems.delete([folder])


@contextlib.contextmanager
def spooling(make_pipeline: Callable[[], beam.Pipeline], folder: str) -> Iterator[beam.Pipeline]:
    """Opens a pipeline that keeps its spool files in a folder, and removes the folder when it has run or failed.

    A folder that cannot be removed is logged: it neither fails a pipeline that has run nor hides why one has failed.
    """
    made = make_pipeline()  # which sets the options that a file system may need
    try:
        with made as pipeline:
            make_folder(folder)
            with FileSystems.create(os.path.join(folder, MARK), compression_type=CompressionTypes.UNCOMPRESSED) as file:
                file.write(b'Each worker of the pipeline must find this file.')
            yield pipeline
    finally:
        try:
            clean(folder)
        except Exception as error:
            _log.warning('spool folder %s: not removed (%s)', folder, ' '.join(str(error).split())[:500])


def check_reachable(folder: str) -> None:
    """Checks that this process finds the spool folder of a pipeline that another one has started.

    Raises:
      DatasetError: It does not: the folder is of another machine, or relative to another process's folder.
    """
    if not FileSystems.exists(os.path.join(folder, MARK)):
        got = f'{folder!r}, which the worker on {socket.gethostname()} does not find'
        rule = (
            "one that the pipeline's process and all its workers reach, on a shared mount or in s3://, gs:// or hdfs://"
        )
        raise DatasetError(f'spool folder: got {got}, rule: {rule}')


@dataclasses.dataclass(frozen=True)
class Spooled:
    """Record batches in spool files, which are read during iteration."""

    places: tuple[Place, ...]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for _, places in itertools.groupby(sorted(self.places), lambda place: place.path):
            for content in read(places):
                yield from pa.ipc.open_stream(content)


class Gather(beam.DoFn):
    """Record batches -> those of each bundle, gathered into larger ones; see gather.py."""

    def start_bundle(self) -> None:
        self._held = Held()

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        yield from self._held.add(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for batch in self._held.combined():
            yield beam.transforms.window.GlobalWindows.windowed_value(batch)


class SpoolBatches(beam.PTransform[Any, Any]):
    """Record batches -> one Spooled for each."""

    def __init__(self, folder: str) -> None:
        """Spools into a folder that all workers can reach; the caller must `clean` it when everything is read."""
        super().__init__()
        self._folder = folder

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | beam.WithKeys(None) | beam.ParDo(_Spool(self._folder)) | beam.Values()


class CoGroupBatches(beam.PTransform[Any, Any]):
    """{name: (key, record batch)} -> (key, {name: record batches}): CoGroupByKey through spool files."""

    def __init__(self, folder: str) -> None:
        """See SpoolBatches."""
        super().__init__()
        self._folder = folder

    def expand(self, tables: Mapping[str, beam.PCollection]) -> beam.PCollection:
        spooled = {name: table | f'Spool[{name}]' >> beam.ParDo(_Spool(self._folder)) for name, table in tables.items()}
        return spooled | 'Group' >> beam.CoGroupByKey() | 'Open' >> beam.MapTuple(_opened)


class Spooling(beam.DoFn):
    """A DoFn with a spool file for each bundle.

    Args:
      folder: Where `spooling` keeps the pipeline's spool files.
      files: The folder of this file, where it is not that one.
    """

    def __init__(self, folder: str, files: str | None = None) -> None:
        self._spool, self._folder = folder, files or folder
        self._file = SpoolFile(self._folder)

    def setup(self) -> None:
        check_reachable(self._spool)

    def start_bundle(self) -> None:
        self._file.close()  # the file of a bundle that failed
        self._file = SpoolFile(self._folder)

    def finish_bundle(self) -> None:
        self._file.close()

    def teardown(self) -> None:
        self._file.close()  # the file of a bundle that failed


class _Spool(Spooling):
    """(key, record batch) -> (key, Spooled)."""

    def process(self, keyed: tuple[Any, pa.RecordBatch]) -> Iterator[tuple[Any, Spooled]]:
        key, batch = keyed
        yield key, Spooled((self._file.append(serialized(batch)),))


def _opened(key: Any, parts: Mapping[str, Iterable[Spooled]]) -> tuple[Any, dict[str, Spooled]]:
    return key, {
        name: Spooled(tuple(place for part in spooled for place in part.places)) for name, spooled in parts.items()
    }
