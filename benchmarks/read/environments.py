"""Fetches what the peers need, each into a folder of its own: Python packages with uv, jars with Maven."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

_TIMEOUT = 900  # seconds of one install
_POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>bench</groupId>'
    '<artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging><dependencies>{dependencies}'
    '</dependencies></project>\n'
)
_DEPENDENCY = '<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>'


class AbsentError(Exception):
    """A peer cannot be had here; the message is the reason, in one line."""


@dataclasses.dataclass(frozen=True)
class Packages:
    """Packages of PyPI.

    Attributes:
      name: Of the environment.
      specs: What is installed.
      built: What is built from source afterwards, against the packages that are there.
    """

    name: str
    specs: tuple[str, ...]
    built: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Jars:
    """Artifacts of Maven Central, 'group:artifact:version', and all they depend on; a `java` on PATH runs them."""

    name: str
    artifacts: tuple[str, ...]


def python_of(packages: Packages, home: Path) -> Path:
    """Returns the interpreter of an environment below `home` with these packages; raises AbsentError."""
    folder = home / packages.name
    python = folder / 'bin' / 'python'
    if not _made(folder, packages):
        uv = Path(sys.executable).with_name('uv')
        _run([uv, 'venv', '--quiet', '--clear', '--python', sys.executable, folder])
        install = [uv, 'pip', 'install', '--quiet', '--python', python]
        _run([*install, *packages.specs])
        if packages.built:
            _run([*install, '--no-build-isolation', *packages.built])
        _mark(folder, packages)
    return python


def jars_of(jars: Jars, home: Path) -> Path:
    """Returns a folder below `home` that holds these artifacts and their dependencies; raises AbsentError."""
    for tool in ('java', 'mvn'):
        if shutil.which(tool) is None:
            raise AbsentError(f'no {tool} on PATH')
    folder = home / jars.name
    if not _made(folder, jars):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wanted = ''.join(_DEPENDENCY.format(*map(escape, artifact.split(':'))) for artifact in jars.artifacts)
        (folder / 'pom.xml').write_text(_POM.format(name=jars.name, dependencies=wanted))
        goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', f'-DoutputDirectory={folder}/lib']
        _run(['mvn', '--quiet', '--batch-mode', '--file', folder / 'pom.xml', *goal])
        _mark(folder, jars)
    return folder / 'lib'


def _made(folder: Path, what: object) -> bool:
    mark = folder / '.made-from'
    return mark.exists() and mark.read_text() == repr(what)


def _mark(folder: Path, what: object) -> None:
    (folder / '.made-from').write_text(repr(what))


def _run(command: list) -> None:
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(f'{Path(words[0]).name}: {error}') from error
    if result.returncode:
        lines = [line.strip() for line in (result.stderr + result.stdout).splitlines()]
        errors = [line for line in lines if 'error' in line.lower()] or lines or ['no output']
        raise AbsentError(f'{Path(words[0]).name} {words[1]}: {errors[0][:200]}')
