"""One container step as a process of its own: clean environment, own working folder, its output in a log."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components.errors import PipelineError, invalid

_TAIL = 4000  # characters of a log in which an error's last line is looked for
_SIGNALS = {137: 'killed: out of memory, or by hand', 139: 'segmentation fault', 143: 'terminated'}
# Ends a step whose runner has been killed; of util-linux.
_WITH_PARENT = ('setpriv', '--pdeathsig', 'KILL', '--')
# Arguments: the root, the number of folders, the folders, the command. The mounts end with the step.
_ENTER = """set -e; root=$1; count=$2; shift 2
while [ "$count" -gt 0 ]; do mkdir -p "$root$1"; mount --bind "$1" "$root$1"; shift; count=$((count - 1)); done
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; PATH=$PATH:/usr/sbin:/sbin exec chroot "$root" "$@"
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where steps run.

    Attributes:
      python: The interpreter that `python` in a command line stands for.
      chroot: A folder that is the steps' root, such as that of an image; None for this machine's.
      images: Such folders by the image that a step's container names; a step of any other image fails.
      shared: Folders that steps in such a root see at their own paths, beside that of the runs.
      environment: Variables of every step, over those of its container.
    """

    python: str = sys.executable
    chroot: str | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: tuple[str, ...] = ()
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        roots = [*self.images.values(), *([] if self.chroot is None else [self.chroot])]
        for root in roots:
            if not os.path.isdir(root):
                raise invalid('root', root, 'an existing folder')
            if os.geteuid() != 0:
                raise invalid('root', root, 'used by the user root alone, who may enter it')
        if not roots and not os.access(self.python, os.X_OK):
            raise invalid('python', self.python, 'an interpreter')
        if self.images and self.chroot is not None:
            raise invalid('root', self.chroot, 'not together with the folders of images')

    def root_of(self, image: str | None) -> str | None:
        """Returns the folder that is the root of a step with this image; None for this machine's.

        Raises:
          PipelineError: Folders are given by image, and none for this one.
        """
        if not self.images:
            return self.chroot
        if image is None or image not in self.images:
            raise PipelineError(f'image: got {image!r}, rule: one with a root folder: {", ".join(self.images)}')
        return self.images[image]


class Steps:
    """The processes that run, so that all of them can be ended."""

    def __init__(self, place: Place, runs: str) -> None:
        self._place, self._runs = place, runs
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path, image: str | None = None
    ) -> int:
        """Runs a command to its end; returns the exit code, 128 + N for signal N as a shell has it.

        Args:
          command: The container's command line.
          environment: The container's variables; of this process's none is passed on.
          log: Takes what the step writes.
          image: The container's, see `Place.images`.

        Raises:
          PipelineError: The command could not be started.
        """
        root = self._place.root_of(image)
        home = log.parent / 'home'
        home.mkdir(parents=True, exist_ok=True)
        variables = {**self._base(home, root), **environment, **self._place.environment}
        with log.open('ab') as output:
            try:
                with self._lock:
                    if self._ended:
                        return 143
                    process = subprocess.Popen(
                        self._command(command, root), env=variables, cwd=None if root else home, stdout=output,
                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                    )  # fmt: skip
                    self._running.add(process)
            except OSError as error:
                rule = f'can be started ({error.strerror})'
                raise PipelineError(f'command: got {" ".join(command)[:200]}, rule: {rule}') from error
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        return 128 - code if code < 0 else code

    def end(self) -> None:
        """Ends every step that runs, and starts none any more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _base(self, home: pathlib.Path, root: str | None) -> dict[str, str]:
        folders = ['/usr/local/bin', '/usr/bin', '/bin']
        if root is None:
            return {
                'PATH': os.pathsep.join([os.path.dirname(os.path.abspath(self._place.python)), *folders]),
                'HOME': str(home), 'LANG': 'C.UTF-8',
            }  # fmt: skip
        return {'PATH': os.pathsep.join(['/opt/venv/bin', *folders]), 'HOME': '/tmp', 'LANG': 'C.UTF-8'}  # noqa: S108

    def _command(self, command: Sequence[str], root: str | None) -> list[str]:
        words = list(command)
        if root is not None:
            shared = (self._runs, *self._place.shared)
            enter = ('unshare', '--mount', '--propagation', 'private', 'sh', '-c', _ENTER, 'enter')
            words = [*enter, root, str(len(shared)), *shared, *words]
        elif words[:1] and words[0] in ('python', 'python3'):
            words[0] = self._place.python
        return [*_WITH_PARENT, *words] if shutil.which(_WITH_PARENT[0]) else words


def reason(code: int, log: pathlib.Path) -> str:
    """Returns why a step failed, in one line: the exit code, and the error that its log ends with."""
    told = f' ({_SIGNALS[code]})' if code in _SIGNALS else ''
    last = _last_error(log)
    return f'exit code {code}{told}{f": {last}" if last else ""}'


def _last_error(log: pathlib.Path) -> str:
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors='replace').splitlines()
    errors = [line.strip() for line in lines if 'error' in line.lower()]
    return errors[-1][:500] if errors else ''


def secrets(platform: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that Kubernetes would set from secrets, with their values of this process's environment.

    Raises:
      PipelineError: The environment lacks one.
    """
    values = {}
    for secret in platform.get('secretAsEnv') or ():
        for pair in secret['keyToEnv']:
            variable = pair['envVar']
            if variable not in environ:
                if secret.get('optional'):
                    continue
                rule = f'the environment variable {variable} holds it in a local run'
                raise PipelineError(f'secret: got {secret.get("secretName")}/{pair["secretKey"]}, rule: {rule}')
            values[variable] = environ[variable]
    return values
