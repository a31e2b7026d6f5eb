"""Reads the facts from a live cluster: every query is bounded, and none changes anything.

Tables of a node alone (`system`, `system_views`) are asked for on each node, by sessions for each data center. What
cannot be read becomes an `Unread` with what would allow it; only a cluster or keyspace that is not there is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cassandra
from cassandra.cluster import Session
from cassandra.pool import Host

from tfx_cassandra.components.doctor import tablestats
from tfx_cassandra.components.doctor.asked import Asked
from tfx_cassandra.components.doctor.facts import Clock, Facts, Histogram, Keyspace, Node, Reading, Table
from tfx_cassandra.components.doctor.sampling import RANGES, sampled
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, UnavailableError, invalid
from tfx_cassandra.components.schema.cql import errors_named

_CLOCK_READINGS = 5  # of each node; the one with the shortest round trip counts
_MOST_ROWS = 10_000  # of one query
_ATTEMPTS, _PAUSE = 100, 0.1  # for a connection to a node that is not known to be down
_SAID_DOWN = 'the driver cannot connect to it'
_MIB = 1024 * 1024
_UUID_EPOCH = datetime.datetime(1582, 10, 15, tzinfo=datetime.timezone.utc)
_UTC = datetime.timezone.utc

_LOCAL = 'SELECT release_version, schema_version FROM system.local'
_CLOCK = 'SELECT toUnixTimestamp(now()) AS moment FROM system.local'
_SETTINGS = f'SELECT name, value FROM system_views.settings LIMIT {_MOST_ROWS}'
_ESTIMATES = (
    'SELECT partitions_count, mean_partition_size FROM system.size_estimates '
    f'WHERE keyspace_name = ? AND table_name = ? LIMIT {_MOST_ROWS}'
)
_REPAIRS = (
    'SELECT status, finished_at FROM system_distributed.repair_history '
    'WHERE keyspace_name = ? AND columnfamily_name = ? ORDER BY id DESC LIMIT 1000'
)
_VIEW = 'SELECT * FROM system_views.{} WHERE keyspace_name = ? AND table_name = ?'
_SCHEMA = 'SELECT * FROM system_schema.{} WHERE keyspace_name = ?'
_WANTED = (
    'compaction_throughput', 'internode_compression', 'max_hint_window', 'stream_throughput_outbound',
    'tombstone_failure_threshold', 'tombstone_warn_threshold',
)  # fmt: skip


def gather(
    connection: CassandraConnection,
    tables: Sequence[str] = (),
    clock: Callable[[], float] = time.time,
    *,
    ranges: int = RANGES,
    nodetool: str | None = None,
) -> Facts:
    """Returns the facts of a cluster, and of one keyspace of it.

    Args:
      connection: The cluster; its keyspace is examined.
      tables: Tables and views to examine, by name or KEYSPACE.TABLE; none for all of the keyspace.
      clock: The client's clock, in Unix seconds.
      ranges: Token ranges of each table in which partitions are sampled; 0 for none.
      nodetool: The command that runs nodetool against a node, with {address} where the node's address belongs; None to
        do without what it says.

    Raises:
      ValueError: The tables are of several keyspaces, or the command has no {address}.
      SchemaError: There is no such keyspace or table.
      UnavailableError: No contact point answers.
    """
    keyspace, names = _named(connection.keyspace, tables)
    tablestats.check(nodetool)
    with contextlib.ExitStack() as stack:
        session, asked = stack.enter_context(connections.session(connection)), Asked()
        defined = _definitions(session, keyspace, names)
        nodes, readings = [], []
        for center, (local, hosts) in _sessions(stack, asked, connection, session).items():
            for host in hosts:
                node = _node(asked, local, host, center, clock)
                nodes.append(node)
                if local is not None and not node.down:
                    stats = tablestats.read(asked, nodetool, host, keyspace)
                    readings += [
                        stats.added_to(_reading(asked, local, host, keyspace, table.name)) for table in defined
                    ]
        partitions = tuple(sampled(asked, connection, keyspace, [table.name for table in defined], ranges))
        replicated = _keyspace(session, keyspace, {node.datacenter for node in nodes})
        if replicated.total > 1:  # else there is nothing to repair
            defined = tuple(_with_repairs(asked, session, keyspace, table) for table in defined)
        return Facts(
            datetime.datetime.fromtimestamp(clock(), _UTC), connection.local_datacenter, replicated,
            tuple(sorted(nodes, key=lambda node: (node.datacenter, node.name))),
            defined, tuple(readings), cassandra.__version__, tuple(sys.version_info[:2]), asked.unread,
            partitions,
        )  # fmt: skip


def _named(keyspace: str, tables: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Returns the keyspace and the names in it of tables that are named with or without one."""
    parts = [name.rpartition('.') for name in tables]
    keyspaces = {before or keyspace for before, _, _ in parts} or {keyspace}
    if len(keyspaces) > 1 or not all(name for _, _, name in parts):
        raise invalid('tables', ','.join(tables), 'names of tables of one keyspace')
    return keyspaces.pop(), tuple(name for _, _, name in parts)


def _sessions(
    stack: contextlib.ExitStack, asked: Asked, connection: CassandraConnection, session: Session
) -> dict[str, tuple[Session | None, list[Host]]]:
    """Returns the nodes of each data center with a session that connects to them; None if there can be none.

    A session connects to the nodes of one data center alone.
    """
    hosts: dict[str, list[Host]] = {}
    for host in session.cluster.metadata.all_hosts():
        hosts.setdefault(str(host.datacenter), []).append(host)
    opened: dict[str, tuple[Session | None, list[Host]]] = {}
    for center, nodes in hosts.items():
        if center == connection.local_datacenter or len(hosts) == 1:
            opened[center] = session, nodes
            continue
        points = tuple(str(host.endpoint.address) for host in nodes)
        there = dataclasses.replace(connection, contact_points=points, local_datacenter=center)
        try:
            local = stack.enter_context(connections.session(there))
            known = {host.endpoint: host for host in local.cluster.metadata.all_hosts()}
            opened[center] = local, [known.get(host.endpoint, host) for host in nodes]
        except UnavailableError as error:
            asked.failed('the nodes', error, center)
            opened[center] = None, nodes
    return opened


def _node(asked: Asked, session: Session | None, host: Host, center: str, clock: Callable[[], float]) -> Node:
    name = str(host.endpoint)
    if session is None:  # other nodes may say that it is down; that this client does not reach it proves nothing
        return Node(name, center, _SAID_DOWN if host.is_up is False else '')
    down = _unreachable(session, host)
    local = None if down else asked.attempt(session, _LOCAL, host=host)
    if not local:
        return Node(name, center, down or 'it answers no query')
    settings = {row.name: row.value for row in asked.rows(session, _SETTINGS, host=host) if row.name in _WANTED}
    return Node(
        name, center, '', local[0].release_version, str(local[0].schema_version),
        _clock(asked, session, host, clock), settings,
    )  # fmt: skip


def _unreachable(session: Session, host: Host) -> str:
    """Returns why a node cannot be asked; '' if it can."""
    for _ in range(_ATTEMPTS):
        if host in session.get_pool_state():
            return ''
        if host.is_up is False:
            return _SAID_DOWN
        time.sleep(_PAUSE)  # a new session connects in the background
    return f'no connection within {_ATTEMPTS * _PAUSE:.0f} s'


def _clock(asked: Asked, session: Session, host: Host, clock: Callable[[], float]) -> Clock | None:
    readings = []
    asked.rows(session, _CLOCK, host=host)  # the first one prepares the statement
    for _ in range(_CLOCK_READINGS):
        before, began = clock(), time.perf_counter()
        rows = asked.rows(session, _CLOCK, host=host)
        took = time.perf_counter() - began  # the clock itself may be set meanwhile
        if rows and rows[0].moment is not None:
            readings.append(Clock(rows[0].moment / 1000 - (before + took / 2), took / 2 + 0.001))
    return min(readings, key=lambda reading: reading.error, default=None)


def _reading(asked: Asked, session: Session, host: Host, keyspace: str, table: str) -> Reading:
    key = (keyspace, table)

    def view(name: str) -> Any:
        rows = asked.rows(session, _VIEW.format(name), key, host)
        return rows[0] if rows else None

    estimates = asked.rows(session, _ESTIMATES, key, host)
    largest, reads, writes = (
        view(name) for name in ('max_partition_size', 'local_read_latency', 'local_write_latency')
    )
    return Reading(
        str(host.endpoint), table,
        None if largest is None else largest.mebibytes * _MIB,
        max((row.mean_partition_size for row in estimates), default=None),
        sum(row.partitions_count for row in estimates) if estimates else None,
        _histogram(view('tombstones_per_read')), _histogram(view('rows_per_read')),
        None if reads is None else reads.count, None if writes is None else writes.count,
    )  # fmt: skip


def _histogram(row: Any) -> Histogram | None:
    """Returns a row of a virtual table of histograms; percentiles are null where there were no reads."""
    return None if row is None else Histogram(row.count or 0, row.p50th or 0, row.p99th or 0, row.max or 0)


def _keyspace(session: Session, name: str, centers: set[str]) -> Keyspace:
    (row,) = _schema(session, 'keyspaces', name)
    options = {key: value.rpartition('.')[2] for key, value in row.replication.items()}
    strategy = options.pop('class')
    if strategy == 'SimpleStrategy':
        copies = {'': _copies(options['replication_factor'])}
        return Keyspace(name, strategy, {centers.pop(): copies['']} if len(centers) == 1 else copies)
    return Keyspace(name, strategy, {center: _copies(value) for center, value in options.items()})


def _schema(session: Session, table: str, keyspace: str) -> list[Any]:
    """Returns the rows of a table of `system_schema`, without which there is nothing to examine."""
    with errors_named(f'system_schema.{table}'):
        return list(session.execute(session.prepare(_SCHEMA.format(table)), (keyspace,)))


def _copies(text: str) -> int:
    """Returns the full replicas of '3', or of '3/1' with a transient one."""
    return int(text.partition('/')[0])


def _definitions(session: Session, keyspace: str, names: Sequence[str]) -> tuple[Table, ...]:
    if not _schema(session, 'keyspaces', keyspace):
        raise SchemaError(f'keyspace: got {keyspace!r}, rule: a keyspace of the cluster')
    clustering: dict[str, list[tuple[int, str]]] = {}
    for row in _schema(session, 'columns', keyspace):
        if row.kind == 'clustering':
            clustering.setdefault(row.table_name, []).append((row.position, row.type))
    tables = [
        _table(row, name, clustering.get(name, []))
        for kind, field in (('tables', 'table_name'), ('views', 'view_name'))
        for row in _schema(session, kind, keyspace)
        if (name := getattr(row, field)) in names or not names
    ]
    for name in names:
        if name not in {table.name for table in tables}:
            raise SchemaError(f'tables: got {name!r}, rule: a table or view of keyspace {keyspace}')
    return tuple(sorted(tables, key=lambda table: table.name))


def _table(row: Any, name: str, clustering: list[tuple[int, str]]) -> Table:
    compaction = {**row.compaction, 'class': row.compaction.get('class', '').rpartition('.')[2]}
    return Table(
        name, compaction, _plain(row.compression), row.default_time_to_live, row.gc_grace_seconds,
        tuple(kind for _, kind in sorted(clustering)), _created(row.id),
    )  # fmt: skip


def _plain(options: Mapping[str, str] | None) -> dict[str, str]:
    return dict(options or {})


def _created(table_id: uuid.UUID) -> datetime.datetime | None:
    """Returns the moment in the id of a table, if it is a time-based one; ids may be derived from the name instead."""
    if table_id.version != 1:
        return None
    return _UUID_EPOCH + datetime.timedelta(microseconds=table_id.time / 10)


def _with_repairs(asked: Asked, session: Session, keyspace: str, table: Table) -> Table:
    rows = asked.attempt(session, _REPAIRS, (keyspace, table.name))
    if rows is None:
        return table
    ended = [row.finished_at.replace(tzinfo=_UTC) for row in rows if row.status == 'SUCCESS' and row.finished_at]
    return dataclasses.replace(table, repaired_at=max(ended, default=None), repairs_known=True)
