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

from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry import files

MARKER = 'saved_model.pb'
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
      RegistryError: The directory holds no file, or one that cannot be read or copied: see `files`.
    """
    try:
        manifest = _manifest(directory)
    except files.UnfitFileError as error:
        raise RegistryError(f'model: got {error.path!r}, rule: {error.rule}') from error
    except FAILURES as error:
        raise RegistryError(f'model: got {directory!r}, rule: readable ({one_line(error)})') from error
    if not manifest:
        raise RegistryError(f'model: got {directory!r}, rule: a directory that holds a model')
    return _digest(manifest)


def publish(model_path: str, base_directory: str, version: int, digest: str) -> str:
    """Makes `base_directory/version` a complete copy of a model, once, however often it is called.

    On a local file system the copy is made under a name a model server does not look at, and renamed. Where a
    directory cannot be renamed at once (see `can_rename`) the files go to their place and `saved_model.pb`, without
    which a model cannot be loaded, goes last.

    Args:
      model_path: The directory of the model.
      base_directory: The directory a model server watches.
      version: The version claimed for the model.
      digest: `content_digest(model_path)`.

    Returns:
      The version's directory.

    Raises:
      RegistryError: The version's directory holds something else, the model changed meanwhile or lacks the
        `saved_model.pb` that has to go last, or the copy failed.
    """
    directory = os.path.join(base_directory, str(version))
    try:
        if not holds(directory, digest):
            _publish(model_path, directory, digest)
        _remove_leftovers(base_directory, version)
    except FAILURES as error:
        rule = f'a directory this process can write ({one_line(error)})'
        raise RegistryError(f'push_destination: got {base_directory!r}, rule: {rule}') from error
    return directory


def _publish(model_path: str, directory: str, digest: str) -> None:
    base_directory, version = os.path.split(directory)
    # A name of this run's own, for another pusher may be at work on the same version.
    temporary = os.path.join(base_directory, f'{TEMPORARY}{version}-{uuid.uuid4().hex}')
    fileio.makedirs(base_directory)
    try:
        if can_rename(base_directory):
            _copy_and_rename(model_path, temporary, directory, digest)
        else:
            _copy_marker_last(model_path, temporary, directory, digest)
    except (*FAILURES, RegistryError):
        # Another pusher of the same model may have been first, and have removed the temporary directory as a leftover.
        if not holds(directory, digest):
            raise
    finally:
        _remove(temporary)


def _copy_and_rename(model_path: str, temporary: str, directory: str, digest: str) -> None:
    io_utils.copy_dir(model_path, temporary)
    if _digest(_manifest(temporary)) != digest:
        raise _changed(model_path, directory)
    fileio.rename(temporary, directory)


def _copy_marker_last(model_path: str, temporary: str, directory: str, digest: str) -> None:
    wanted, there = _manifest(model_path), _manifest(directory)
    if _digest(wanted) != digest:
        raise _changed(model_path, directory)
    if MARKER not in wanted:
        raise RegistryError(f'model: got {model_path!r}, rule: holds {MARKER}, which goes last to {directory!r}')
    if not there.keys() <= wanted.keys():
        raise _occupied(directory)
    for path in wanted:
        # What a run that died halfway copied stays, for another pusher of the same model may be completing it.
        if path != MARKER and there.get(path) != wanted[path]:
            _copy(model_path, directory, path)
    _copy(model_path, temporary, MARKER)
    # The marker completes the version for ever, so everything is checked before, and half a marker is never there.
    if {**_manifest(directory), **_manifest(temporary)} != wanted:
        raise _changed(model_path, directory)
    fileio.rename(os.path.join(temporary, MARKER), os.path.join(directory, MARKER))


def _copy(model_path: str, directory: str, path: str) -> None:
    target = os.path.join(directory, path)
    fileio.makedirs(os.path.dirname(target))
    fileio.copy(os.path.join(model_path, path), target, overwrite=True)


def _changed(model_path: str, copy: str) -> RegistryError:
    return RegistryError(f'model: got {model_path!r}, rule: unchanged while it is pushed to {copy!r}')


def _occupied(directory: str) -> RegistryError:
    rule = 'free, or a copy of the pushed model; move what is there elsewhere and push again, the number stays'
    return RegistryError(f'push_destination: got {directory!r}, rule: {rule}')


def holds(directory: str, digest: str) -> bool:
    """Returns whether the version's directory is complete; raises where something else stands in its place."""
    if half_copied(directory):
        return False
    with contextlib.suppress(files.UnfitFileError):
        if _digest(_manifest(directory)) == digest:
            return True
    raise _occupied(directory)


def half_copied(directory: str) -> bool:
    """Returns whether the version's directory is absent, or one whose push has not come to its end."""
    try:
        paths = files.files(directory)
    except files.UnfitFileError:  # no push copies such a file
        return False
    return not paths or (not can_rename(directory) and MARKER not in paths)


def _remove_leftovers(base_directory: str, version: int) -> None:
    """Removes what runs that died left of a version that is complete now."""
    for name in files.names(base_directory):
        # If the run was alive after all it finds the version complete.
        if name.startswith(f'{TEMPORARY}{version}-'):
            _remove(os.path.join(base_directory, name))


def higher_versions(base_directory: str, version: int) -> list[int]:
    """Returns the numbers above a version that a model server finds in a directory, and serves instead of it."""
    numbers = [int(name) for name in files.names(base_directory) if is_version(name)]
    return sorted(number for number in numbers if number > version)


def is_version(name: str) -> bool:
    """Returns whether TensorFlow Serving takes a name for a version: the digits of a 64-bit integer."""
    return name.isascii() and name.isdecimal() and int(name) < 1 << 63


def archive(model_path: str, uri: str, digest: str) -> None:
    """Copies a model into an artifact, as TFX's Pusher does.

    Raises:
      RegistryError: The copy failed, or the model changed meanwhile.
    """
    try:
        io_utils.copy_dir(model_path, uri)
        if _digest(_manifest(uri)) != digest:
            raise _changed(model_path, uri)
    except FAILURES as error:
        rule = f'a directory this process can write ({one_line(error)})'
        raise RegistryError(f'pushed_model: got {uri!r}, rule: {rule}') from error


def _remove(temporary: str) -> None:
    # Two pushers may remove the same directory at once; what resists, the next push removes.
    with contextlib.suppress(*FAILURES):
        fileio.rmtree(temporary)


def can_rename(path: str) -> bool:
    """Returns whether a directory is renamed at once there, and never into one that has come there meanwhile.

    On object stores a rename copies file by file, also where gcsfuse mounts one under /gcs/; HDFS moves a directory
    into one that is there, which fileio looks for only before.
    """
    local = files.local_path(path)
    return local is not None and not local.startswith('/gcs/')


def _digest(manifest: dict[str, str]) -> str:
    # No path contains the byte zero, so no two manifests give the same bytes.
    return hashlib.sha256(''.join(f'{path}\0{content}\0' for path, content in manifest.items()).encode()).hexdigest()


def _manifest(directory: str) -> dict[str, str]:
    """Returns the size and SHA-256 of each file under a directory by its relative path, sorted."""
    return {path: _content(os.path.join(directory, path)) for path in files.files(directory)}


def _content(path: str) -> str:
    size, content = 0, hashlib.sha256()
    with fileio.open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            content.update(chunk)
    return f'{size}\0{content.hexdigest()}'


def modified(directory: str) -> datetime.datetime | None:
    """Returns the newest time of a file under a directory, or of itself where it has none; None where none is kept."""
    try:
        paths = [os.path.join(directory, path) for path in files.files(directory)] or [directory]
        stats = [fileio.stat(path) for path in paths]
    except FAILURES:  # removed meanwhile
        return None
    # TensorFlow's file systems have their own form of os.stat_result.
    times = [stat.mtime_nsec / 1e9 if hasattr(stat, 'mtime_nsec') else stat.st_mtime for stat in stats]
    return datetime.datetime.fromtimestamp(max(times), datetime.timezone.utc) if any(times) else None
