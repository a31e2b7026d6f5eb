"""Lists the files of a model, and rejects names and kinds of files that cannot be copied."""

from __future__ import annotations

import os
import stat

from tfx.dsl.io import fileio

_KINDS = {
    stat.S_IFIFO: 'a FIFO',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a character device',
    stat.S_IFBLK: 'a block device',
}


class UnfitFileError(OSError):
    """A file or directory cannot be copied. `path` is its path in printable form; `rule` says what is allowed there."""

    def __init__(self, path: str, rule: str) -> None:
        self.path = os.fsencode(path).decode('utf-8', 'backslashreplace')
        self.rule = rule
        super().__init__(f'{self.path!r} is not {rule}')


def local_path(path: str) -> str | None:
    """Returns a path in the form of the operating system; None for a path of another file system."""
    local = path.removeprefix('file://')
    return None if '://' in local else local


def files(directory: str) -> list[str]:
    """Returns the sorted relative paths of all files under a directory; an empty list if it does not exist.

    No file is opened: reading a FIFO waits for a writer, and reading a device may never end.

    Raises:
      UnfitFileError: A local directory holds a name that is not UTF-8, a special file, or a link that is dangling,
        circular or leads out of the directory, whose target is not part of the model and may be secret.
    """
    if not fileio.isdir(directory):
        return []
    local = local_path(directory)
    return sorted(_remote(directory.rstrip('/')) if local is None else _local(local))


def names(directory: str) -> list[str]:
    """Returns the sorted names in a directory, without those that are not UTF-8, which no push creates."""
    local = local_path(directory)
    if local is None:
        return sorted(str(name).rstrip('/') for name in fileio.listdir(directory))
    return sorted(name for name in os.listdir(local) if _is_utf8(name))


def _remote(root: str) -> list[str]:
    paths = []
    for folder, _, file_names in fileio.walk(root, onerror=_raise):
        # Object stores end folder names with a slash, file systems do not.
        parts = [part for part in str(folder)[len(root) :].split('/') if part]
        paths += ['/'.join([*parts, str(name)]) for name in file_names]
    return paths


def _raise(error: Exception) -> None:
    raise error


def _local(root: str) -> list[str]:
    paths = []
    top = os.path.realpath(root)
    # (relative path, real paths of the directory and its parents) of each directory
    pending: list[tuple[str, tuple[str, ...]]] = [('', (top,))]
    while pending:
        folder, above = pending.pop()
        for name in os.listdir(os.path.join(root, folder)):
            path = os.path.join(folder, name)
            full_path = os.path.join(root, path)
            mode = _mode(full_path)
            real = os.path.realpath(full_path) if os.path.islink(full_path) else os.path.join(above[-1], name)
            if real in above:
                raise UnfitFileError(full_path, 'a directory of its own, but a link to one that it is in')
            if os.path.commonpath((top, real)) != top:
                raise UnfitFileError(full_path, f'in the same directory, but a link to {real!r}')
            if stat.S_ISDIR(mode):
                pending.append((path, (*above, real)))
            else:
                paths.append(path)
    return paths


def _mode(full_path: str) -> int:
    """Returns the mode of a file or directory, links followed; raises UnfitFileError for anything else."""
    if not _is_utf8(full_path):
        raise UnfitFileError(full_path, 'a name in UTF-8')
    try:
        mode = os.stat(full_path).st_mode
    except OSError as error:
        if os.path.islink(full_path):
            raise UnfitFileError(full_path, f'a link to a file or directory ({error.strerror})') from error
        raise
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind:
        raise UnfitFileError(full_path, f'a regular file or a directory, but {kind}')
    return mode


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True
