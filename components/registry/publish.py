"""Copies a model into a directory of integer-named versions so that a model server never sees an incomplete one."""

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
# TensorFlow Serving loads directories whose name is an integer and ignores all others.
TEMPORARY = '.pushing-'
_CHUNK = 1 << 20  # bytes
# What TFX's fileio raises if a file or directory cannot be read or written.
FAILURES = (OSError, tf.errors.OpError)


def content_digest(directory: str) -> str:
    """Returns the SHA-256 that identifies a model by its files: their relative paths, sizes and contents.

    Args:
      directory: A path that TFX's fileio reads, local or remote. Empty directories in it are ignored.

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
    """Makes `base_directory/version` a complete copy of a model; calling it again changes nothing.

    On a local file system the copy is made under a name that a model server ignores, and renamed. If directories cannot
    be renamed atomically (see `can_rename`), the files are copied to their place, and `saved_model.pb` last, without
    which a model cannot be loaded.

    Args:
      model_path: The directory of the model.
      base_directory: The directory that a model server watches.
      version: The version claimed for the model.
      digest: `content_digest(model_path)`.

    Returns:
      The version's directory.

    Raises:
      RegistryError: The version's directory holds other files, the model changed meanwhile or lacks the
        `saved_model.pb` that must be copied last, or the copy failed.
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
    # A unique name, because another pusher may be copying the same version.
    temporary = os.path.join(base_directory, f'{TEMPORARY}{version}-{uuid.uuid4().hex}')
    fileio.makedirs(base_directory)
    try:
        if can_rename(base_directory):
            _copy_and_rename(model_path, temporary, directory, digest)
        else:
            _copy_marker_last(model_path, temporary, directory, digest)
    except (*FAILURES, RegistryError):
        # Another pusher of the same model may have finished first, and removed the temporary directory as a leftover.
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
    expected, existing = _manifest(model_path), _manifest(directory)
    if _digest(expected) != digest:
        raise _changed(model_path, directory)
    if MARKER not in expected:
        raise RegistryError(f'model: got {model_path!r}, rule: holds {MARKER}, which is copied last to {directory!r}')
    if not existing.keys() <= expected.keys():
        raise _occupied(directory)
    for path in expected:
        # Files of an interrupted run stay, because another pusher of the same model may be completing them.
        if path != MARKER and existing.get(path) != expected[path]:
            _copy(model_path, directory, path)
    _copy(model_path, temporary, MARKER)
    # The marker makes the version final, so everything is checked first, and the marker is moved there in one step.
    if {**_manifest(directory), **_manifest(temporary)} != expected:
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
    """Returns whether the version's directory is complete; raises RegistryError if it holds other files."""
    if half_copied(directory):
        return False
    with contextlib.suppress(files.UnfitFileError):
        if _digest(_manifest(directory)) == digest:
            return True
    raise _occupied(directory)


def half_copied(directory: str) -> bool:
    """Returns whether the version's directory is missing, or that of a push that has not ended."""
    try:
        paths = files.files(directory)
    except files.UnfitFileError:  # no push copies such a file
        return False
    return not paths or (not can_rename(directory) and MARKER not in paths)


def _remove_leftovers(base_directory: str, version: int) -> None:
    """Removes what interrupted runs left of a version that is now complete."""
    for name in files.names(base_directory):
        # If such a run is still alive, it finds the version complete.
        if name.startswith(f'{TEMPORARY}{version}-'):
            _remove(os.path.join(base_directory, name))


def higher_versions(base_directory: str, version: int) -> list[int]:
    """Returns the versions in a directory above a given one, which a model server serves instead of it."""
    numbers = [int(name) for name in files.names(base_directory) if is_version(name)]
    return sorted(number for number in numbers if number > version)


def is_version(name: str) -> bool:
    """Returns whether TensorFlow Serving reads a directory name as a version: the digits of a 64-bit integer."""
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
    # Two pushers may remove the same directory at once; the next push removes what is left.
    with contextlib.suppress(*FAILURES):
        fileio.rmtree(temporary)


def can_rename(path: str) -> bool:
    """Returns whether the file system of a path renames directories atomically, and never into an existing one.

    Object stores copy file by file, also those that gcsfuse mounts under /gcs/. HDFS moves a directory into an existing
    one, and fileio checks for that only before the move.
    """
    local = files.local_path(path)
    return local is not None and not local.startswith('/gcs/')


def _digest(manifest: dict[str, str]) -> str:
    # No path contains a zero byte, so no two manifests give the same bytes.
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
    """Returns the newest modification time under a directory, or its own if it is empty; None if it is not known."""
    try:
        paths = [os.path.join(directory, path) for path in files.files(directory)] or [directory]
        stats = [fileio.stat(path) for path in paths]
    except FAILURES:  # removed meanwhile
        return None
    # TensorFlow's file systems have their own form of os.stat_result.
    times = [stat.mtime_nsec / 1e9 if hasattr(stat, 'mtime_nsec') else stat.st_mtime for stat in stats]
    return datetime.datetime.fromtimestamp(max(times), datetime.timezone.utc) if any(times) else None
