"""Whether a majority of a keyspace's replicas can be live: without one, no lightweight transaction succeeds in it."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Mapping

from cassandra.cluster import Session

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS
from tfx_cassandra.components.errors import SchemaError

_PATIENCE, _PAUSE = 5.0, 0.5  # seconds for nodes that have just started to be seen


def check_quorum(session: Session, keyspace: str, replication: Mapping[str, str], *, exists: bool) -> None:
    """Checks that the live nodes can hold a majority of the replicas of a keyspace.

    Args:
      session: The driver's session.
      keyspace: The keyspace.
      replication: Its replication, as Cassandra stores it.
      exists: Whether it exists; else it is about to be created so.

    Raises:
      SchemaError: They cannot; the message has the copies, the live nodes, and what to do.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        live = collections.Counter(
            str(host.datacenter) for host in session.cluster.metadata.all_hosts() if host.is_up is not False
        )
        if (lack := lacking(replication, live)) is None:
            return
        if time.monotonic() > end:
            break
        time.sleep(_PAUSE)
        with contextlib.suppress(*DRIVER_ERRORS):  # a node that leaves meanwhile; the next look may succeed
            session.cluster.refresh_nodes()
    fewer = f'ALTER KEYSPACE "{keyspace}" WITH replication' if exists else 'a --replication'
    rule = f'a majority of the copies live, since the lease of schema apply needs it: start nodes, or {fewer} of fewer'
    raise SchemaError(f'{keyspace}: got {lack}, rule: {rule}')


def lacking(replication: Mapping[str, str], live: Mapping[str, int]) -> str | None:
    """Returns the copies and live nodes of a keyspace where these cannot be a majority; None where they can.

    Args:
      replication: As Cassandra stores it.
      live: Live nodes by data center.
    """
    options = dict(replication)
    kind = options.pop('class').rpartition('.')[2]
    if kind == 'SimpleStrategy':
        copies, nodes = {'': _copies(options['replication_factor'])}, {'': sum(live.values())}
    elif kind == 'NetworkTopologyStrategy':
        copies, nodes = {center: _copies(text) for center, text in options.items()}, dict(live)
    else:  # EverywhereStrategy and the like have as many copies as nodes
        return None
    total, reachable = sum(copies.values()), sum(min(count, nodes.get(name, 0)) for name, count in copies.items())
    needed = total // 2 + 1
    if reachable >= needed:
        return None
    parts = []
    for name, count in copies.items():
        where = f' in {name}' if name else ''
        parts.append(f'{count} copies on {nodes.get(name, 0)} live nodes{where}')
    return f'{" and ".join(parts)}, {reachable} of {needed} that are needed'


def _copies(text: str) -> int:
    """Returns the full replicas of '3', or of '3/1' with a transient one."""
    return int(text.partition('/')[0])
