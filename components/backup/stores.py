"""Files by URI: folders of this machine and object stores, listed and read through pyarrow.fs.

What fails is tried again a few times: a store answers some of many thousands of requests with an error.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import tenacity
from pyarrow import fs

from tfx_cassandra.components.backup.remote import RemoteFile
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable.files import LocalFile, Ranges

THREADS = 16  # requests at a time: each waits for the store
ATTEMPTS = 5
_SCHEME = re.compile('[A-Za-z][A-Za-z0-9+.-]*://')
_REFUSED = re.compile('ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|NO_SUCH_BUCKET|Bucket .* not found')
T = TypeVar('T')


class Store:
    """The files below a URI. It is pickled to workers: it holds no connection.

    Args:
      uri: A path, or a URI with a scheme that pyarrow.fs knows.

    Raises:
      ReadError: There is no file system for the URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.root = _opened(uri, os.getpid())[1]

    @property
    def filesystem(self) -> fs.FileSystem:
        """The file system of the URI, the same for all stores of a process."""
        return _opened(self.uri, os.getpid())[0]

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, path: str) -> str:
        """Returns a path relative to the URI as one of the file system."""
        return posixpath.join(self.root, path).rstrip('/')

    def sizes(self, folder: str = '') -> dict[str, int]:
        """Returns the bytes of each file below a folder, by its path relative to the URI; none where nothing is."""
        selector = fs.FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        infos = self.asked(folder, lambda: self.filesystem.get_file_info(selector))
        # Some tools mark a folder by an empty object whose name ends with a slash.
        found = (info for info in infos if info.type == fs.FileType.File and not info.path.endswith('/'))
        return {posixpath.relpath(info.path, self.root): info.size for info in found}

    def modified(self, path: str) -> float:
        """Returns the seconds since 1970 at which a file was written."""
        return float(self.asked(path, lambda: self.filesystem.get_file_info(self.path(path))).mtime_ns) / 1e9

    def file(self, path: str, size: int) -> Ranges:
        """Returns a file of `size` bytes."""
        return LocalFile(Path(self.path(path))) if self.is_local else RemoteFile(self, path, size)

    def content(self, path: str) -> bytes:
        """Returns the bytes of a file; raises ReadError where it cannot be read."""

        def whole() -> bytes:
            with self.filesystem.open_input_stream(self.path(path)) as stream:
                return bytes(stream.read())

        return self.asked(path, whole)

    def contents(self, paths: Iterable[str]) -> list[bytes]:
        """Returns the bytes of files, read several at a time."""
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(self.content, paths))

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        """Writes a file; raises ReadError naming it where that fails."""
        try:
            if self.is_local:
                Path(self.path(path)).parent.mkdir(parents=True, exist_ok=True)
                Path(self.path(path)).touch(0o600)  # it holds rows
            with self.filesystem.open_output_stream(self.path(path)) as stream:
                for part in parts:
                    stream.write(part)
        except OSError as error:
            raise ReadError(f'{self.at(path)}: got {_line(error)}, rule: a place that can be written') from error

    def asked(self, path: str, request: Callable[[], T]) -> T:
        """Returns what a request for a path gives, repeated where it fails; raises ReadError where it fails often."""
        try:
            return _repeated(request)
        except (OSError, ValueError) as error:
            rule = 'what can be read with the credentials of this environment'
            raise ReadError(f'{self.at(path)}: got {_line(error)}, rule: {rule}') from error

    def at(self, path: str) -> str:
        """Returns how messages call a file or folder."""
        return posixpath.join(self.uri.partition('?')[0], path) if path else self.uri


def _may_pass(error: BaseException) -> bool:
    """Whether an error may be gone in a second: not where something is missing or refused."""
    lasting = isinstance(error, (FileNotFoundError, PermissionError)) or _REFUSED.search(str(error))
    return isinstance(error, OSError) and not lasting


@tenacity.retry(
    retry=tenacity.retry_if_exception(_may_pass),
    stop=tenacity.stop_after_attempt(ATTEMPTS),
    wait=tenacity.wait_random_exponential(0.1, 5),
    reraise=True,
)
def _repeated(request: Callable[[], T]) -> T:
    return request()


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


@functools.lru_cache(maxsize=64)
def _opened(uri: str, process: int) -> tuple[fs.FileSystem, str]:
    """Returns the file system of a URI for a process, and the path in it; a forked child opens its own."""
    if not _SCHEME.match(uri):
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        files, path = _repeated(lambda: fs.FileSystem.from_uri(uri))  # which asks S3 for the region of a bucket
    except (OSError, ValueError) as error:
        rule = 'a path, or a URI that pyarrow.fs knows, such as file://, s3:// and gs://'
        raise ReadError(f'{uri}: got {_line(error)}, rule: {rule}') from error
    return files, path
