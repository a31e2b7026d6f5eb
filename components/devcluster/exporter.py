"""The Java agent that shows Cassandra's metrics to Prometheus."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tfx_cassandra.components.devcluster import download
from tfx_cassandra.components.errors import DevClusterError

# In a checkout and in an installed package alike, `monitoring` stands beside `components`.
CONFIGURATION = Path(__file__).resolve().parents[2] / 'monitoring' / 'jmx-exporter.yml'
_PINNED = Path(__file__).with_name('jmx-exporter.txt')


def find_exporter(cache: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the path of the agent's jar; downloads it unless the cache has it.

    Args:
        cache: folder that keeps downloads.
        environ: environment that may name a mirror of Maven Central in TFX_CASSANDRA_MAVEN.

    Raises:
        DevClusterError: the jar cannot be obtained.
    """
    base_url = environ.get('TFX_CASSANDRA_MAVEN') or download.MAVEN_CENTRAL
    (jar,) = download.fetch_jars(download.parse_jars(_PINNED.read_text()), cache / 'jars', base_url)
    return jar


def check_java(java: Path) -> None:
    """Raises a DevClusterError if a Java lacks the module that the agent answers with, as that of PyPI for 11 does."""
    modules = subprocess.run([java, '--list-modules'], check=False, capture_output=True, text=True).stdout
    if 'jdk.httpserver@' not in modules:
        raise DevClusterError(f'metrics: got {java}, rule: a Java with the module jdk.httpserver (see JAVA_HOME)')


def java_option(jar: Path, address: str, port: int) -> str:
    """Returns java's option that starts the agent, which answers GET /metrics on an address and port."""
    return f'-javaagent:{jar}={address}:{port}:{CONFIGURATION}'
