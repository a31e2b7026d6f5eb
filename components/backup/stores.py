"""Files by URI: folders of this machine and object stores, listed and read through pyarrow.fs."""

from __future__ import annotations

import functools
import posixpath
import re
from pathlib import Path

from pyarrow import fs

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable.files import LocalFile, Ranges

_SCHEME = re.compile('[A-Za-z][A-Za-z0-9+.-]*://')


class Store:
    """The files below a URI.

    Args:
      uri: A path, or a URI with a scheme that pyarrow.fs knows.

    Attributes:
      root: The path of the URI within its file system.

    Raises:
      ReadError: There is no file system for the URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files, self.root = _opened(uri)

    def sizes(self, folder: str = '') -> dict[str, int]:
        """Returns the bytes of each file below a folder, by its path relative to the URI; none where nothing is."""
        base = posixpath.join(self.root, folder).rstrip('/')
        selector = fs.FileSelector(base, allow_not_found=True, recursive=True)
        try:
            infos = self._files.get_file_info(selector)
        except OSError as error:
            raise ReadError(f'{self.at(folder)}: got {error}, rule: a folder that can be listed') from error
        found = (info for info in infos if info.type == fs.FileType.File)
        return {posixpath.relpath(info.path, self.root): info.size for info in found}

    def modified(self, path: str) -> float:
        """Returns the seconds since 1970 at which a file was written."""
        return float(self._files.get_file_info(posixpath.join(self.root, path)).mtime_ns) / 1e9

    def file(self, path: str, size: int) -> Ranges:
        """Returns a file of `size` bytes."""
        return LocalFile(Path(self.root, path))

    def content(self, path: str) -> bytes:
        """Returns the bytes of a file; raises ReadError where it cannot be read."""
        try:
            with self._files.open_input_stream(posixpath.join(self.root, path)) as stream:
                return stream.read()
        except OSError as error:
            raise ReadError(f'{self.at(path)}: got {error}, rule: a file that can be read') from error

    def at(self, path: str) -> str:
        """Returns how messages call a file or folder."""
        return posixpath.join(self.uri.partition('?')[0], path) if path else self.uri


@functools.lru_cache(maxsize=64)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """Returns the file system of a URI, and the path in it."""
    if not _SCHEME.match(uri):
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        files, path = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise ReadError(f'{uri}: got {error}, rule: a path, file://, s3:// or gs://') from error
    return files, path
