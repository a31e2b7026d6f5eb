"""Runs a dev cluster for as long as a test module needs it; its data is thrown away."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping

import pytest

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.node import Node


@contextlib.contextmanager
def running(cluster: DevCluster, settings: Mapping[str, object], java_options: str) -> Iterator[None]:
    """Starts a cluster, whatever cluster the environment names, and ends it without writing anything to disk.

    Args:
      cluster: The cluster.
      settings: What its cassandra.yaml has besides.
      java_options: JAVA_TOOL_OPTIONS of its nodes.
    """
    usual = Node.settings
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
        patch.setenv('JAVA_TOOL_OPTIONS', java_options)
        patch.setattr(Node, 'settings', lambda node: {**usual(node), **settings})
        cluster.start()
    try:
        yield
    finally:
        for status in cluster.status():
            if status.pid is not None:
                os.kill(status.pid, signal.SIGKILL)
                status.node.wait_ended(status.pid)
