"""The files of an input: found by globs, local or remote, opened as streams of decompressed bytes, and identified."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa

from tfx_cassandra.components.errors import InputError, invalid

STDIN = '-'
HEAD = 1 << 16  # bytes whose checksum identifies an input
Format = Literal['csv', 'jsonl', 'parquet', 'arrow', 'tfrecord']
FORMATS: tuple[Format, ...] = ('csv', 'jsonl', 'parquet', 'arrow', 'tfrecord')
_CODECS = {'gz': 'gzip', 'gzip': 'gzip', 'zst': 'zstd', 'zstd': 'zstd'}
_ENDINGS: dict[str, Format] = {
    'csv': 'csv', 'tsv': 'csv', 'jsonl': 'jsonl', 'ndjson': 'jsonl', 'json': 'jsonl', 'parquet': 'parquet',
    'arrow': 'arrow', 'arrows': 'arrow', 'feather': 'arrow', 'ipc': 'arrow', 'tfrecord': 'tfrecord',
    'tfrecords': 'tfrecord',
}  # fmt: skip
_MAGIC = {b'\x1f\x8b': 'gzip', b'\x28\xb5\x2f\xfd': 'zstd'}


@dataclasses.dataclass(frozen=True)
class Input:
    """A file, or standard input.

    Attributes:
      path: Its path or URI; '-' for standard input.
      format: The format of its records.
      size: Its bytes, as stored; None for standard input.
      modified: When it was changed, in seconds since 1970; None where that is not known.
    """

    path: str
    format: Format
    size: int | None = None
    modified: float | None = None


def find(paths: Sequence[str], chosen: Format | None = None) -> list[Input]:
    """Returns the inputs of paths and globs, in order, those of a glob by name.

    Args:
      paths: Local paths, URIs, globs of either, or '-'.
      chosen: The format of all; None to take that which each name ends with.

    Raises:
      ValueError: A path matches no file, or its name says no format.
    """
    found: dict[str, Input] = {}
    for pattern in paths:
        matches = [(STDIN, None, None)] if pattern == STDIN else _matches(pattern)
        if not matches and os.path.isdir(pattern):
            raise invalid('path', pattern, f'a file, or a glob of files such as {os.path.join(pattern, "*")}')
        if not matches:
            raise invalid('path', pattern, 'a file that exists, or a glob of some')
        for path, size, modified in matches:
            found.setdefault(path, Input(path, chosen or format_of(path), size, modified))
    return list(found.values())


def format_of(path: str) -> Format:
    """Returns the format that the name of a file says; raises ValueError if it says none."""
    endings = os.path.basename(path).lower().split('.')[1:]
    if endings and endings[-1] in _CODECS:
        endings.pop()
    if endings and endings[-1] in _ENDINGS:
        return _ENDINGS[endings[-1]]
    if '_tfrecord' in path or 'tfrecord-' in path:  # as TFX names them
        return 'tfrecord'
    raise invalid('input-format', path, f'one of {", ".join(FORMATS)}, given, or said by the end of the name')


def _matches(pattern: str) -> list[tuple[str, int | None, float | None]]:
    if '://' in pattern:
        from apache_beam.io.filesystems import FileSystems

        try:
            (result,) = FileSystems.match([pattern])
        except Exception as error:  # each file system raises errors of its own
            raise InputError(
                f'path: got {pattern!r}, rule: a readable URI ({" ".join(str(error).split())[:200]})'
            ) from error
        found = sorted(result.metadata_list, key=lambda metadata: metadata.path)
        return [(m.path, m.size_in_bytes, getattr(m, 'last_updated_in_seconds', None)) for m in found]
    paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    stats = [(path, os.stat(path)) for path in paths if not os.path.isdir(path)]
    return [(path, stat.st_size, stat.st_mtime) for path, stat in stats]


class Stream:
    """An open input: its bytes decompressed by what they begin with.

    Attributes:
      head: The checksum of its first bytes, as stored.
    """

    def __init__(self, source: Input, raw: Any) -> None:
        self._source, self._raw = source, raw
        first = _exactly(raw, HEAD)
        self.head = hashlib.sha256(first).hexdigest()[:32]
        self._read, self._pending, self._peeked = 0, first, b''
        codec = next((codec for magic, codec in _MAGIC.items() if first.startswith(magic)), None)
        self._plain = pa.CompressedInputStream(pa.PythonFile(self, 'r'), codec) if codec else None
        self.codec = codec

    def read(self, size: int = -1) -> bytes:
        """Reads bytes as they are stored; for the decompressor."""
        if self._pending:
            size = len(self._pending) if size < 0 else size
            data, self._pending = self._pending[:size], self._pending[size:]
        else:
            data = self._raw.read(size)
        self._read += len(data)
        return data

    closed = False

    def close(self) -> None:
        """Does nothing; for the decompressor, which does not own the file."""

    def take(self, size: int) -> bytes:
        """Reads up to `size` decompressed bytes; b'' at the end.

        Raises:
          InputError: The stream is damaged or ends too early.
        """
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
            return data
        return self._next(size)

    def _next(self, size: int) -> bytes:
        if self._plain is None:
            return self.read(size)
        try:
            return bytes(self._plain.read(size))
        except OSError as error:
            rule = f'a whole {self.codec} stream ({error})'
            raise InputError(f'{self._source.path}: got an error after {self._read:,} bytes, rule: {rule}') from error

    def peek(self, size: int) -> bytes:
        """Returns the first decompressed bytes, which are still to be read; before anything else is."""
        self._peeked = self._next(size)
        return self._peeked

    def skip(self, offset: int) -> None:
        """Skips decompressed bytes."""
        while offset > 0:
            data = self.take(min(offset, 1 << 22))
            if not data:
                raise InputError(f'{self._source.path}: got fewer bytes than were read before, rule: the same input')
            offset -= len(data)

    @property
    def share(self) -> float | None:
        """How much has been read, from 0 to 1; None for standard input."""
        return min(1.0, self._read / self._source.size) if self._source.size else None


def _exactly(raw: Any, size: int) -> bytes:
    parts, left = [], size
    while left and (data := raw.read(left)):
        parts.append(data)
        left -= len(data)
    return b''.join(parts)


@contextmanager
def opened(source: Input) -> Iterator[Stream]:
    """Opens an input as a stream.

    Raises:
      InputError: It cannot be read.
    """
    if source.path == STDIN:
        yield Stream(source, sys.stdin.buffer)
        return
    try:
        raw: Any = _remote(source.path) if '://' in source.path else open(source.path, 'rb')  # noqa: SIM115
    except OSError as error:
        raise InputError(f'path: got {source.path!r}, rule: a readable file ({error.strerror or error})') from error
    with raw:
        yield Stream(source, raw)


def _remote(path: str) -> Any:
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@contextmanager
def seekable(source: Input, stream: Stream) -> Iterator[Any]:
    """Gives what is left of a stream as a file that can be sought in: itself, or a temporary copy."""
    if stream.codec is None and '://' not in source.path and source.path != STDIN:
        with pa.memory_map(source.path) as mapped:
            yield mapped
        return
    with tempfile.TemporaryFile() as copy:
        while data := stream.take(1 << 22):
            copy.write(data)
        copy.seek(0)
        yield copy
