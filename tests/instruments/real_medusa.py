"""Cassandra Medusa itself, in an environment of its own, on the dev cluster's node, with a local folder as store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.cluster import DevCluster

MEDUSA = 'cassandra-medusa==0.31.0'
CHECKOUT = Path(__file__).parents[2]


def medusa() -> Path:
    """Returns the command of Medusa, which uv installs once."""
    folder = cache_folder() / MEDUSA
    if not (folder / 'bin' / 'medusa').exists():
        _uv('venv', '--clear', '--python', '3.11', folder)  # the first that it takes
        _uv('pip', 'install', '--python', folder / 'bin' / 'python', MEDUSA)
    return folder / 'bin' / 'medusa'


def _uv(*arguments: object) -> None:
    subprocess.run([CHECKOUT / '.venv' / 'bin' / 'uv', *map(str, arguments)], check=True, capture_output=True)


class Medusa:
    """Medusa on the node of a dev cluster; its backups are in `root`."""

    def __init__(self, cluster: DevCluster, folder: Path) -> None:
        (node,) = cluster.ring
        self.root = folder / 'bucket'
        nodetool = folder / 'nodetool'
        command = f'{CHECKOUT}/.venv/bin/tfx-cassandra cluster nodetool --directory {cluster.directory} -- "$@"'
        # An option of the JVM may come first.
        nodetool.write_text(f'#!/bin/sh\n[ "${{1#-D}}" = "$1" ] || shift\nexec {command}\n')
        nodetool.chmod(0o755)
        self._config = folder / 'medusa.ini'
        self._config.write_text(
            f'[cassandra]\nconfig_file = {node.folder}/cassandra.yaml\nnodetool_executable = {nodetool}\n'
            'stop_cmd = false\nstart_cmd = false\nresolve_ip_addresses = False\nuse_sudo = False\n'
            f'[storage]\nstorage_provider = local\nbucket_name = bucket\nbase_path = {folder}\nfqdn = {node.address}\n'
            f'concurrent_transfers = 1\nmulti_part_upload_threshold = 20971520\n'
            f'[logging]\nenabled = 0\n[checks]\nhealth_check = cql\n'
        )
        self._folder = folder

    def back_up(self, name: str, mode: str) -> None:
        """Makes a backup, 'full' or 'differential'."""
        command = [medusa(), f'--config-file={self._config}', 'backup', f'--backup-name={name}', f'--mode={mode}']
        environment = {**os.environ, 'TMPDIR': str(self._folder)}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
