"""How commands run nodetool: against the dev cluster's nodes, or by a command that the user gives."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.errors import UnavailableError, invalid

_HOST = '{host}'


@dataclasses.dataclass(frozen=True)
class Nodetool:
    """Runs nodetool against nodes.

    Attributes:
      command: Its words, in which {host} stands for a node's address; empty where nothing here reaches the nodes.
    """

    command: tuple[str, ...]

    def run(self, hosts: Sequence[str], words: Sequence[str]) -> None:
        """Runs a command of nodetool against nodes, all at the same time.

        Raises:
          UnavailableError: It fails for a node; the message names the node and ends with what it said.
        """
        with ThreadPoolExecutor(len(hosts)) as threads:
            done = dict(zip(hosts, threads.map(lambda host: self._run(host, words), hosts), strict=True))
        failed = {host: said for host, said in done.items() if said is not None}
        if failed:
            worked = ', '.join(host for host in hosts if host not in failed) or 'none'
            texts = '; '.join(f'{host}: {said}' for host, said in failed.items())
            raise UnavailableError(f'nodetool {words[0]}: got {texts}, rule: it works on all nodes (did on: {worked})')

    def _run(self, host: str, words: Sequence[str]) -> str | None:
        """Returns None, or the last line of what nodetool said when it failed."""
        command = [word.replace(_HOST, host) for word in (*self.command, *words)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, errors='replace')
        except OSError as error:
            return str(error)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return None if done.returncode == 0 else (lines[-1] if lines else f'exit code {done.returncode}')


def nodetool_of(given: str | None, hosts: Sequence[str]) -> Nodetool:
    """Returns the nodetool for nodes: the one given, or that of the dev cluster where they are its nodes.

    Raises:
      ValueError: The one given does not say where the host stands, though there are several nodes.
    """
    if given is not None:
        words = tuple(shlex.split(given))
        if not words or (len(hosts) > 1 and not any(_HOST in word for word in words)):
            raise invalid('nodetool', given, 'a command with {host} for the address of each node')
        return Nodetool(words)
    cluster = dev_cluster(hosts)
    if cluster is None:
        return Nodetool(())
    program = (sys.executable, '-m', 'tfx_cassandra.components.cli.main', 'cluster', 'nodetool')
    return Nodetool((*program, '--directory', str(cluster.directory), '--node', _HOST, '--'))


def dev_cluster(hosts: Sequence[str]) -> DevCluster | None:
    """Returns the dev cluster if nodes are its own; None otherwise."""
    cluster = DevCluster.saved(default_directory())
    return cluster if cluster is not None and set(hosts) <= set(cluster.contact_points) else None


def data_folders(given: Sequence[str], host: str) -> list[Path]:
    """Returns the data folders of a node as they are seen here: those given, or those of the dev cluster's node."""
    if given:
        return [Path(text.replace(_HOST, host)) for text in given]
    cluster = dev_cluster([host])
    return [] if cluster is None else [node.folder / 'data' for node in cluster.ring if node.address == host]
