"""Facts of a healthy cluster, and ways to spoil them: what the tests of the doctor start from."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from tfx_cassandra.components.doctor.facts import Clock, Facts, Histogram, Keyspace, Node, Reading, Table

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
SETTINGS = {
    'compaction_throughput': '64MiB/s',
    'stream_throughput_outbound': '24MiB/s',
    'internode_compression': 'dc',
    'max_hint_window': '3h',
    'tombstone_warn_threshold': '1000',
    'tombstone_failure_threshold': '100000',
}
TWCS = {
    'class': 'TimeWindowCompactionStrategy',
    'compaction_window_size': '1',
    'compaction_window_unit': 'DAYS',
}
MONTH = 30 * 86400


def node(number: int, datacenter: str = 'dc1', **changes: Any) -> Node:
    healthy = Node(f'127.0.0.{number}:9042', datacenter, '', '5.0.9', 'a' * 36, Clock(0.001, 0.002), SETTINGS)
    return dataclasses.replace(healthy, **changes)


def table(**changes: Any) -> Table:
    healthy = Table(
        'events',
        TWCS,
        {'class': 'org.apache.cassandra.io.compress.LZ4Compressor', 'chunk_length_in_kb': '16'},
        MONTH,
        864000,
        ('timestamp',),
        NOW - datetime.timedelta(days=300),
        NOW - datetime.timedelta(days=3),
        True,
    )
    return dataclasses.replace(healthy, **changes)


def reading(**changes: Any) -> Reading:
    healthy = Reading(
        '127.0.0.1:9042', 'events', 50_000_000, 1_000_000, 128, Histogram(500, 0, 1, 3), Histogram(500, 10, 50, 90),
        500, 500,
    )  # fmt: skip
    return dataclasses.replace(healthy, **changes)


def healthy(**changes: Any) -> Facts:
    """Returns the facts of three nodes with a table of three copies, in which no check finds anything."""
    facts = Facts(
        NOW, 'dc1', Keyspace('shop', 'NetworkTopologyStrategy', {'dc1': 3}), tuple(node(n) for n in (1, 2, 3)),
        (table(),), (reading(),), '3.30.1', (3, 10),
    )  # fmt: skip
    return dataclasses.replace(facts, **changes)


def with_table(**changes: Any) -> Facts:
    return healthy(tables=(table(**changes),))


def with_nodes(*nodes: Node, **changes: Any) -> Facts:
    return healthy(nodes=nodes, **changes)
