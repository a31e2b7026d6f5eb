"""Checks of the nodes: down, schema disagreement, clocks, and settings without a limit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tfx_cassandra.components.doctor.facts import Facts
from tfx_cassandra.components.doctor.finding import Finding

_SKEW, _GREAT_SKEW = 0.5, 5.0  # seconds between two clocks


def down(facts: Facts) -> Iterator[Finding]:
    """Yields the nodes that do not answer."""
    for node in facts.nodes:
        if node.down:
            total = len(facts.nodes_of(node.datacenter))
            lost = sum(bool(other.down) for other in facts.nodes_of(node.datacenter))
            yield Finding(
                'node-down',
                'error',
                node.name,
                f'no answer ({node.down}); {lost} of {total} nodes of {node.datacenter} are down',
                (
                    'nodetool status, and start the node',
                    'nodetool repair -pr, on the node if it was down for longer than max_hint_window (3h)',
                ),
            )


def schema_disagreement(facts: Facts) -> Iterator[Finding]:
    """Yields the versions of the schema, if the nodes have more than one."""
    versions: dict[str, list[str]] = {}
    for node in facts.nodes:
        if node.schema_version:
            versions.setdefault(node.schema_version, []).append(node.name)
    if len(versions) > 1:
        text = '; '.join(f'{version[:8]} on {", ".join(names)}' for version, names in sorted(versions.items()))
        smallest = min(versions.values(), key=len)
        yield Finding(
            'schema-disagreement',
            'error',
            'the cluster',
            f'{len(versions)} versions of the schema: {text}',
            ('nodetool describecluster, again after a minute', f'nodetool resetlocalschema, on {", ".join(smallest)}'),
        )


def clock_skew(facts: Facts) -> Iterator[Finding]:
    """Yields nodes whose clock differs from the client's, and the greatest difference between two nodes.

    A difference counts beyond what the reading may be wrong by.
    """
    clocks = [(node.clock.ahead, node.clock.error, node.name) for node in facts.nodes if node.clock is not None]
    changes = (
        'chronyc tracking, on both machines',
        'chronyc makestep, on the one that is wrong; then keep chronyd running',
    )
    for ahead, error, name in clocks:
        if abs(ahead) - error > _SKEW:
            yield Finding(
                'clock-skew', _severity(abs(ahead) - error), name,
                f'{abs(ahead):.3f} s {"ahead of" if ahead > 0 else "behind"} the client, +- {error:.3f} s (limit '
                f'{_SKEW} s): the later of two writes is decided by these clocks', changes,
            )  # fmt: skip
    if len(clocks) > 1:
        (low, low_error, behind), (high, high_error, ahead_name) = min(clocks), max(clocks)
        apart, error = high - low, low_error + high_error
        if apart - error > _SKEW:
            yield Finding(
                'clock-skew', _severity(apart - error), f'{ahead_name} and {behind}',
                f'{apart:.3f} s apart, +- {error:.3f} s (limit {_SKEW} s): rows expire and transactions are ordered by '
                "the nodes' clocks", changes,
            )  # fmt: skip


def _severity(skew: float) -> str:
    return 'error' if skew > _GREAT_SKEW else 'warning'


def throughput(facts: Facts) -> Iterator[Finding]:
    """Yields settings that leave compaction or streaming without a limit, and traffic between data centers plain."""
    for name, usual, command, severity in (
        ('compaction_throughput', '64MiB/s', 'nodetool setcompactionthroughput 64', 'warning'),
        ('stream_throughput_outbound', '24MiB/s', 'nodetool setstreamthroughput 200', 'info'),
    ):
        for value, nodes in facts.setting(name).items():
            if re.match(r'0+(\.0+)?([A-Za-z/]*)$', value):
                yield Finding(
                    'throughput', severity, ', '.join(nodes),
                    f'{name}: {value} is no limit: reads and writes wait for the disk meanwhile',
                    (f'{name}: {usual} -- in cassandra.yaml', f'{command} -- until the next start'),
                )  # fmt: skip
    if len({node.datacenter for node in facts.nodes}) > 1:
        for value, nodes in facts.setting('internode_compression').items():
            if value == 'none':
                yield Finding(
                    'throughput', 'info', ', '.join(nodes),
                    f'internode_compression: {value}, with several data centers',
                    ('internode_compression: dc -- in cassandra.yaml, then restart the nodes one by one',),
                )  # fmt: skip
