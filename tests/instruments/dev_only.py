"""Keeps the tests, which drop keyspaces and truncate tables, away from a cluster that is not there for them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cassandra.cluster import Session

from tfx_cassandra.components.devcluster.node import CLUSTER_NAME

ANY_CLUSTER = 'TFX_CASSANDRA_TEST_ANY_CLUSTER'


def check_expendable(session: Session, environ: Mapping[str, str] = os.environ) -> None:
    """Raises RuntimeError for a cluster that `tfx-cassandra cluster` has not made, unless the environment allows it."""
    name = session.execute('SELECT cluster_name FROM system.local').one().cluster_name
    if name != CLUSTER_NAME and environ.get(ANY_CLUSTER) != '1':
        rule = f'{CLUSTER_NAME!r}, a development cluster, for the tests drop keyspaces (or {ANY_CLUSTER}=1)'
        raise RuntimeError(f'cluster_name: got {name!r}, rule: {rule}')
