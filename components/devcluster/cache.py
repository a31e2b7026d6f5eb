"""The user's cache folder: whatever is put there appears in one move, however many processes do it at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tfx_cassandra.components.errors import DevClusterError


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the cache folder of this package, which exists afterwards.

    Raises:
        DevClusterError: the folder cannot be made.
    """
    base = environ.get('XDG_CACHE_HOME')
    folder = (Path(base) if base else Path.home() / '.cache') / 'tfx-cassandra'
    with _told():
        folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that no reader and no other writer ever sees a part of it.

    Raises:
        DevClusterError: the file cannot be written.
    """
    with _told():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f'.{path.name}.', delete=False) as part:
            try:
                part.write(content)
                part.flush()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which becomes the folder at a path when the block ends without an error.

    Raises:
        DevClusterError: the folder cannot be made.
    """
    with _told(), tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as scratch:
        part = Path(scratch, path.name)
        part.mkdir()
        yield part
        try:
            part.rename(path)
        except OSError:
            if not path.exists():  # otherwise another process was faster, and has put the same files there
                raise


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        rule = f'a folder with room that can be written ({error.strerror or error})'
        raise DevClusterError(f'XDG_CACHE_HOME: got {error.filename}, rule: {rule}') from error
