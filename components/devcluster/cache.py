"""The user's cache folder, which several processes may fill at the same time: content appears there atomically."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import requests

from tfx_cassandra.components.errors import DevClusterError


def cache_folder() -> Path:
    """Returns the cache folder of this package; creates it if necessary.

    Raises:
        DevClusterError: the folder cannot be created.
    """
    with writing():
        return platformdirs.user_cache_path('tfx-cassandra', ensure_exists=True).resolve()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; it is moved to a path when the block ends without an error.

    Raises:
        DevClusterError: the folder cannot be created.
    """
    with writing(), tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as scratch:
        part = Path(scratch, path.name)
        part.mkdir()
        yield part
        try:
            part.rename(path)
        except OSError:
            if not path.exists():  # if it does, another process was faster and has put the same files there
                raise


@contextmanager
def writing() -> Iterator[None]:
    """Converts errors of the file system within a block to a DevClusterError; errors of downloads are unchanged."""
    try:
        yield
    except requests.RequestException:
        raise
    except OSError as error:
        rule = f'a folder with room that can be written ({error.strerror or error})'
        raise DevClusterError(f'XDG_CACHE_HOME: got {error.filename}, rule: {rule}') from error
