"""The Cassandra releases that can be run: each has a pinned list of jars, and the Java that it is made for."""

from __future__ import annotations

from pathlib import Path

from tfx_cassandra.components.errors import invalid

DEFAULT = '5.0.8'

_LISTS = Path(__file__).parent


def known() -> tuple[str, ...]:
    """Returns the versions that have a list of jars, oldest first."""
    versions = [file.stem.partition('-')[2] for file in _LISTS.glob('jars-*.txt')]
    return tuple(sorted(versions, key=lambda version: [int(number) for number in version.split('.')]))


def resolve(version: str) -> str:
    """Returns the one known version that a version, or the first numbers of one such as 4.1, names.

    Raises:
        ValueError: no known version, or more than one, begins with these numbers.
    """
    found = [release for release in known() if f'{release}.'.startswith(f'{version}.')]
    if len(found) != 1:
        raise invalid('version', version, f'one of {", ".join(known())}, or the first numbers of exactly one')
    return found[0]


def jars_file(version: str) -> Path:
    """Returns the file that lists the jars of a known version."""
    return _LISTS / f'jars-{version}.txt'


def java_version(version: str) -> int:
    """Returns the major version of the Java that a Cassandra runs on: 11 for Cassandra 4.1, 17 for 5."""
    return 11 if version.startswith('4.') else 17
