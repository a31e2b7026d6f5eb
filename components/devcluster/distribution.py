"""The Cassandra release to run: the distribution at CASSANDRA_HOME, or else the pinned jars."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tfx_cassandra.components.devcluster import download, releases
from tfx_cassandra.components.errors import DevClusterError

_CASSANDRA = re.compile(r'(?:apache-cassandra|cassandra-all)-(\d[\w.-]*)\.jar')


@dataclass(frozen=True)
class Distribution:
    """One Cassandra release: its version, its jars and the Java agent that measures objects (jamm)."""

    version: str
    jars: tuple[Path, ...]
    agent: Path

    @property
    def class_path(self) -> str:
        """Returns the jars in the format of java's option -cp."""
        return ':'.join(map(str, self.jars))

    def __str__(self) -> str:
        size = sum(jar.stat().st_size for jar in self.jars)
        return f'{self.version}, {len(self.jars)} jars, {size / 1e6:.0f} MB'


def find_distribution(
    cache: Path,
    progress: Callable[[str], None] = lambda detail: None,
    environ: Mapping[str, str] = os.environ,
    version: str = releases.DEFAULT,
) -> Distribution:
    """Returns the Cassandra to run; downloads pinned jars that the cache lacks.

    Args:
        cache: folder that keeps downloads.
        progress: called with the number of jars so far.
        environ: environment with CASSANDRA_HOME, and a mirror of Maven Central in TFX_CASSANDRA_MAVEN.
        version: one of the known releases, to run where CASSANDRA_HOME is not set.

    Raises:
        DevClusterError: CASSANDRA_HOME is not a Cassandra 4.1 or 5, or a pinned jar cannot be obtained.
    """
    if home := environ.get('CASSANDRA_HOME'):
        jars = sorted(Path(home).expanduser().resolve().glob('lib/*.jar'))
        progress(f'{len(jars)} jars of CASSANDRA_HOME')
    else:
        pinned = download.parse_jars(releases.jars_file(version).read_text())
        base_url = environ.get('TFX_CASSANDRA_MAVEN') or download.MAVEN_CENTRAL
        jars = download.fetch_jars(pinned, cache / 'jars', base_url, progress)
    versions = [match[1] for jar in jars if (match := _CASSANDRA.fullmatch(jar.name))]
    agents = [jar for jar in jars if jar.name.startswith('jamm-')]
    if not versions or not versions[0].startswith(('4.1.', '5.')) or not agents:
        found = f'Cassandra {versions[0]}' if versions else f'{len(jars)} jars'
        raise DevClusterError(
            f'CASSANDRA_HOME: got {home} with {found}, rule: lib/ holds the jars of Cassandra 4.1 or 5'
        )
    return Distribution(versions[0], tuple(jars), agents[0])
