"""JVMs of an engine or a store: started one by one, kept, and ended together."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import engine_parts

HOST = '127.0.0.1'
PACKAGES = (
    'java.lang', 'java.lang.invoke', 'java.lang.reflect', 'java.nio', 'java.net', 'java.io', 'java.util',
    'java.util.concurrent', 'java.util.concurrent.atomic', 'sun.nio.ch', 'sun.nio.cs', 'sun.security.action',
    'sun.util.calendar',
)  # fmt: skip
OPENS = [f'--add-opens=java.base/{package}=ALL-UNNAMED' for package in PACKAGES]
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, host: str = HOST) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f'{what} is not ready after {START_SECONDS} s')
        time.sleep(0.2)


class Jvms:
    """JVMs with a log and a folder each, ended together."""

    def __init__(self, folder: Path, jars: Path, resources: Path | None = None) -> None:
        self._folder, self._jars = folder, jars
        self._classes = f'{jars}/*' if resources is None else f'{jars}/*:{resources}'
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping, self._keepers = threading.Event(), list[threading.Thread]()

    def keep(self, name: str, start: Callable[[], None]) -> None:
        """Starts a JVM, and once more whenever it has ended, as an operator of Kubernetes does."""

        def watch() -> None:
            while not self._stopping.wait(0.5):
                if self.started[name].poll() is not None:
                    start()

        start()
        self._keepers.append(threading.Thread(target=watch, name=f'keeps {name}', daemon=True))
        self._keepers[-1].start()

    def start(
        self, name: str, main: str, arguments: Sequence[str], port: int, heap: str, options: Sequence[str] = (),
        host: str = HOST,
    ) -> None:  # fmt: skip
        """Starts a JVM in a folder of its own, and waits until it listens on a port."""
        with self._log(name).open('ab') as log:
            self.started[name] = subprocess.Popen(
                self._command(main, arguments, heap, options), cwd=self._log(name).parent, env=self._environ(),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not answers(port, host):
            if self.started[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'{name} does not answer on port {port}: {self._log(name).read_text()[-2000:]}')
            time.sleep(0.2)

    def run(self, name: str, main: str, arguments: Sequence[str]) -> None:
        """Runs a JVM to its end."""
        with self._log(name).open('wb') as log:
            command = self._command(main, arguments, '256m', ())
            subprocess.run(command, env=self._environ(), stdout=log, stderr=log, check=True, timeout=START_SECONDS)

    def _log(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / 'log'

    def _command(self, main: str, arguments: Sequence[str], heap: str, options: Sequence[str]) -> list[str]:
        java = str(engine_parts.java())
        return [java, f'-Xmx{heap}', *OPENS, *options, '-cp', self._classes, main, *arguments]

    def _environ(self) -> dict[str, str]:
        home = str(engine_parts.java().resolve().parents[1])
        return {**os.environ, 'SPARK_HOME': str(self._jars.parent), 'SPARK_SCALA_VERSION': '2.12', 'JAVA_HOME': home}

    def stop(self) -> None:
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join()
        for process in reversed(self.started.values()):
            process.terminate()
        for process in self.started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
