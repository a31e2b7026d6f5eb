"""Copies a model into a directory of integer-named versions so that a model server never sees half of it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import uuid

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from tfx_cassandra.components.errors import RegistryError

_MARKER = 'saved_model.pb'
# TensorFlow Serving loads directories whose name is an integer and looks at no other.
TEMPORARY = '.pushing-'
_CHUNK = 1 << 20  # bytes
# What TFX's fileio raises where a file or directory cannot be read or written.
FAILURES = (OSError, tf.errors.OpError)


def content_digest(directory: str) -> str:
    """Returns the SHA-256 that identifies a model by its files: their relative paths, sizes and contents.

    Args:
      directory: A path TFX's fileio reads, local or remote. Empty directories in it do not count.

    Returns:
      64 hexadecimal digits.

    Raises:
      RegistryError: The directory holds no file, or one that cannot be read.
    """
    try:
        manifest = _manifest(directory)
    except FAILURES as error:
        raise RegistryError(f'model: got {directory!r}, rule: readable ({one_line(error)})') from error
    if not manifest:
        raise RegistryError(f'model: got {directory!r}, rule: a directory that holds a model')
    return _digest(manifest)


def publish(model_path: str, base_directory: str, version: int, digest: str) -> str:
    """Makes `base_directory/version` a complete copy of a model, once, however often it is called.

    On a file system the copy is made under a name a model server does not look at, and renamed. An object store
    cannot rename a directory, so there the files go to their place and `saved_model.pb`, without which a model
    cannot be loaded, goes last.

    Args:
      model_path: The directory of the model.
      base_directory: The directory a model server watches.
      version: The version claimed for the model.
      digest: `content_digest(model_path)`.

    Returns:
      The version's directory.

    Raises:
      RegistryError: The version's directory holds something else, the model changed meanwhile, or the copy failed.
    """
    directory = os.path.join(base_directory, str(version))
    try:
        if not holds(directory, digest):
            fileio.makedirs(base_directory)
            if _can_rename(base_directory):
                _copy_and_rename(model_path, directory, digest)
            else:
                _copy_marker_last(model_path, directory, digest)
        _remove_leftovers(base_directory, version)
    except FAILURES as error:
        rule = f'a directory this process can write ({one_line(error)})'
        raise RegistryError(f'push_destination: got {base_directory!r}, rule: {rule}') from error
    return directory


def _copy_and_rename(model_path: str, directory: str, digest: str) -> None:
    base_directory, version = os.path.split(directory)
    # A name of this run's own, for another pusher may be at work on the same version.
    temporary = os.path.join(base_directory, f'{TEMPORARY}{version}-{uuid.uuid4().hex}')
    try:
        io_utils.copy_dir(model_path, temporary)
        _check_unchanged(model_path, temporary, digest)
        fileio.rename(temporary, directory)
    except (*FAILURES, RegistryError):
        # Another pusher of the same model may have been first, and have removed the temporary directory as a leftover.
        if not holds(directory, digest):
            raise
    finally:
        _remove(temporary)


def _copy_marker_last(model_path: str, directory: str, digest: str) -> None:
    there, wanted = _manifest(directory), _manifest(model_path)
    for path in sorted(wanted, key=lambda path: path == _MARKER):
        # What a run that died halfway copied stays, for another pusher of the same model may be completing it.
        if there.get(path) != wanted[path]:
            target = os.path.join(directory, path)
            fileio.makedirs(os.path.dirname(target))
            fileio.copy(os.path.join(model_path, path), target, overwrite=True)
    _check_unchanged(model_path, directory, digest)


def _check_unchanged(model_path: str, copy: str, digest: str) -> None:
    if _digest(_manifest(copy)) != digest:
        raise RegistryError(f'model: got {model_path!r}, rule: unchanged while it is pushed to {copy!r}')


def holds(directory: str, digest: str) -> bool:
    """Returns whether the version's directory is complete; raises where something else stands in its place."""
    manifest = _manifest(directory)
    if not manifest or (not _can_rename(directory) and _MARKER not in manifest):
        return False
    if _digest(manifest) == digest:
        return True
    raise RegistryError(f'push_destination: got {directory!r}, rule: free, or a copy of the pushed model')


def _remove_leftovers(base_directory: str, version: int) -> None:
    """Removes what runs that died left of a version that is complete now."""
    for name in map(str, fileio.listdir(base_directory)):
        # If the run was alive after all it finds the version complete.
        if name.startswith(f'{TEMPORARY}{version}-'):
            _remove(os.path.join(base_directory, name))


def _remove(temporary: str) -> None:
    # Two pushers may remove the same directory at once; what resists, the next push removes.
    with contextlib.suppress(*FAILURES):
        fileio.rmtree(temporary)


def _can_rename(path: str) -> bool:
    scheme, separator, _ = path.partition('://')
    return not separator or scheme in ('file', 'hdfs')


def _digest(manifest: dict[str, str]) -> str:
    # No path contains the byte zero, so no two manifests give the same bytes.
    return hashlib.sha256(''.join(f'{path}\0{content}\0' for path, content in manifest.items()).encode()).hexdigest()


def _manifest(directory: str) -> dict[str, str]:
    """Returns the size and SHA-256 of each file under a directory by its relative path, sorted."""
    return {path: _content(os.path.join(directory, path)) for path in _files(directory)}


def _content(path: str) -> str:
    size, content = 0, hashlib.sha256()
    with fileio.open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            content.update(chunk)
    return f'{size}\0{content.hexdigest()}'


def _files(directory: str) -> list[str]:
    """Returns the sorted relative paths of all files under a directory; none where it does not exist."""
    if not fileio.isdir(directory):
        return []
    root = directory.rstrip('/')
    paths = []
    for folder, _, names in fileio.walk(root, onerror=_raise):
        # Object stores end folder names with a slash, file systems do not.
        parts = [part for part in str(folder)[len(root) :].split('/') if part]
        paths += ['/'.join([*parts, str(name)]) for name in names]
    return sorted(paths)


def _raise(error: Exception) -> None:
    raise error


def modified(directory: str) -> datetime.datetime | None:
    """Returns the newest time of a file under a directory, or of itself where it has none; None where none is kept."""
    try:
        paths = [os.path.join(directory, path) for path in _files(directory)] or [directory]
        stats = [fileio.stat(path) for path in paths]
    except FAILURES:  # removed meanwhile
        return None
    # TensorFlow's file systems have their own form of os.stat_result.
    times = [stat.mtime_nsec / 1e9 if hasattr(stat, 'mtime_nsec') else stat.st_mtime for stat in stats]
    return datetime.datetime.fromtimestamp(max(times), datetime.timezone.utc) if any(times) else None


def one_line(error: Exception) -> str:
    """Returns what went wrong with a file: the error's type and message."""
    return ' '.join(f'{type(error).__name__}: {error}'.split())
