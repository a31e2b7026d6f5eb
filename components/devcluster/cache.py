"""The user's cache folder: whatever is put there appears in one move, however many processes do it at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import requests

from tfx_cassandra.components.errors import DevClusterError


def cache_folder() -> Path:
    """Returns the cache folder of this package, which exists afterwards.

    Raises:
        DevClusterError: the folder cannot be made.
    """
    with writing():
        return platformdirs.user_cache_path('tfx-cassandra', ensure_exists=True).resolve()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which becomes the folder at a path when the block ends without an error.

    Raises:
        DevClusterError: the folder cannot be made.
    """
    with writing(), tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as scratch:
        part = Path(scratch, path.name)
        part.mkdir()
        yield part
        try:
            part.rename(path)
        except OSError:
            if not path.exists():  # otherwise another process was faster, and has put the same files there
                raise


@contextmanager
def writing() -> Iterator[None]:
    """Turns what the file system refuses within a `with` block into a DevClusterError; a failed download stays."""
    try:
        yield
    except requests.RequestException:
        raise
    except OSError as error:
        rule = f'a folder with room that can be written ({error.strerror or error})'
        raise DevClusterError(f'XDG_CACHE_HOME: got {error.filename}, rule: {rule}') from error
