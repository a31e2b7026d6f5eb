"""Lists the files of a model, and refuses what cannot be copied: names and kinds of files no copy can hold."""

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
    """A directory holds what no copy of it can hold. `path` is its place, printable; `rule` says what may be there."""

    def __init__(self, path: str, rule: str) -> None:
        self.path = os.fsencode(path).decode('utf-8', 'backslashreplace')
        self.rule = rule
        super().__init__(f'{self.path!r} is not {rule}')


def local_path(path: str) -> str | None:
    """Returns a path as the operating system knows it; None for one of another file system."""
    local = path.removeprefix('file://')
    return None if '://' in local else local


def files(directory: str) -> list[str]:
    """Returns the sorted relative paths of all files under a directory; none where it does not exist.

    No file is opened: reading a FIFO waits for a writer, and a device may never end.

    Raises:
      UnfitFileError: A local directory holds a name that is not UTF-8, a special file, or a link that leads nowhere,
        round in a circle or out of the directory: what is copied then is not what was meant, and may be secret.
    """
    if not fileio.isdir(directory):
        return []
    local = local_path(directory)
    return sorted(_remote(directory.rstrip('/')) if local is None else _local(local))


def names(directory: str) -> list[str]:
    """Returns the sorted names in a directory; those that are not UTF-8, which no push makes, are left out."""
    local = local_path(directory)
    if local is None:
        return sorted(str(name).rstrip('/') for name in fileio.listdir(directory))
    return sorted(name for name in os.listdir(local) if _is_utf8(name))


def _remote(root: str) -> list[str]:
    paths = []
    for folder, _, names in fileio.walk(root, onerror=_raise):
        # Object stores end folder names with a slash, file systems do not.
        parts = [part for part in str(folder)[len(root) :].split('/') if part]
        paths += ['/'.join([*parts, str(name)]) for name in names]
    return paths


def _raise(error: Exception) -> None:
    raise error


def _local(root: str) -> list[str]:
    paths = []
    top = os.path.realpath(root)
    # (relative path, the directory and those it is in) of each directory
    pending: list[tuple[str, tuple[str, ...]]] = [('', (top,))]
    while pending:
        folder, above = pending.pop()
        for name in os.listdir(os.path.join(root, folder)):
            path = os.path.join(folder, name)
            place = os.path.join(root, path)
            mode = _mode(place)
            real = os.path.realpath(place) if os.path.islink(place) else os.path.join(above[-1], name)
            if real in above:
                raise UnfitFileError(place, 'a directory of its own, but a link to one that it is in')
            if os.path.commonpath((top, real)) != top:
                raise UnfitFileError(place, f'in the same directory, but a link to {real!r}')
            if stat.S_ISDIR(mode):
                pending.append((path, (*above, real)))
            else:
                paths.append(path)
    return paths


def _mode(place: str) -> int:
    """Returns the type of a file or directory, or of what a link leads to; raises UnfitFileError for all others."""
    if not _is_utf8(place):
        raise UnfitFileError(place, 'a name in UTF-8')
    try:
        mode = os.stat(place).st_mode
    except OSError as error:
        if os.path.islink(place):
            raise UnfitFileError(place, f'a link to a file or directory ({error.strerror})') from error
        raise
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind:
        raise UnfitFileError(place, f'a regular file or a directory, but {kind}')
    return mode


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True
