"""Checks of replication: consistency levels that do not meet, replicas that cannot exist, failures that it survives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tfx_cassandra.components.doctor.facts import Facts, Keyspace
from tfx_cassandra.components.doctor.finding import Finding

_COPIES = 3
_LOCAL = ('LOCAL_ONE', 'LOCAL_QUORUM', 'LOCAL_SERIAL')
_FIXED = {'ANY': 0, 'ONE': 1, 'LOCAL_ONE': 1, 'TWO': 2, 'THREE': 3}


@dataclasses.dataclass(frozen=True)
class Use:
    """How tables are written and read.

    Attributes:
      name: What uses them.
      tables: Their names; none for all that no other use names.
      write: Consistency level of the writes.
      read: Consistency level of the reads.
      telemetry: Whether a value that is not seen yet is as good as one that comes a little later.
      change: What makes the levels meet.
    """

    name: str
    tables: tuple[str, ...]
    write: str
    read: str
    telemetry: bool = False
    change: str = ''


_OWN = Use('this package', (), 'LOCAL_QUORUM', 'LOCAL_QUORUM')
# The defaults of this package; tests/doctor/test_replicas.py compares them with the code.
USES = (
    dataclasses.replace(
        _OWN, name='FeatureStore', tables=('feature_store', 'entity_features'),
        change="FeatureStore(connection, consistency='LOCAL_QUORUM')",
    ),
    Use(
        'InferenceLogger and ABEvaluator', ('inference_results', 'inference_results_bucketed', 'inference_outcomes'),
        'LOCAL_ONE', 'LOCAL_QUORUM', telemetry=True,
        change="InferenceLogger(connection, consistency='LOCAL_QUORUM'), or evaluate a window that ended hours ago",
    ),
    Use('ModelRegistry', ('model_versions', 'model_claims', 'model_aliases'), 'SERIAL', 'LOCAL_QUORUM'),
    dataclasses.replace(
        _OWN, name='WriteToCassandra and ReadFromCassandra', change="consistency='LOCAL_QUORUM' in both",
    ),
)  # fmt: skip


def consistency(facts: Facts, uses: Sequence[Use] = USES) -> Iterator[Finding]:
    """Yields uses whose reads may miss what was written (R + W <= RF), within a data center and between them."""
    keyspace, local = facts.keyspace, facts.local_datacenter
    for use, tables in _used(facts, uses):
        # A lightweight transaction is committed at the session's level.
        written = 'LOCAL_QUORUM' if use.write == 'SERIAL' else use.write
        seen = overlap(keyspace, local, written, use.read)
        if seen is not None and seen.written + seen.read <= seen.copies:
            where = f'RF {seen.copies}' + (f' in {local}' if use.read in _LOCAL and local in keyspace.copies else '')
            yield Finding(
                'consistency',
                'info' if use.telemetry else 'warning',
                f'{keyspace.name}: {", ".join(tables)}',
                f'{use.name} write {use.write} ({seen.written}) and read {use.read} ({seen.read}): '
                f'R + W = {seen.written + seen.read} <= {where}, so a read may miss what was written',
                (use.change or 'write and read with LOCAL_QUORUM',),
            )
    if len(keyspace.copies) > 1:
        centers = ', '.join(f'{center}:{copies}' for center, copies in keyspace.copies.items())
        for use, tables in _used(facts, uses):
            if use.write in _LOCAL and use.read in _LOCAL:
                yield Finding(
                    'consistency',
                    'info',
                    f'{keyspace.name}: {", ".join(tables)}',
                    f'{use.name} write {use.write} in one data center and read {use.read} in another ({centers}): '
                    'R and W do not meet, so values arrive within milliseconds as a rule, after failures by hints',
                    ('write with EACH_QUORUM where another data center must see a value at once',),
                )


def replication(facts: Facts) -> Iterator[Finding]:
    """Yields data centers with too few replicas, more replicas than nodes, or none although clients use them."""
    keyspace = facts.keyspace
    centers = sorted({node.datacenter for node in facts.nodes})
    wanted = {center: min(_COPIES, len(facts.nodes_of(center))) for center in centers}
    alter = _alter(keyspace, wanted)
    if keyspace.strategy == 'SimpleStrategy' and len(facts.nodes) > 1:
        yield Finding(
            'replication', 'warning' if len(centers) > 1 else 'info', keyspace.name,
            f'SimpleStrategy on {len(facts.nodes)} nodes in {len(centers)} data centers: it knows neither racks nor '
            'data centers', alter,
        )  # fmt: skip
    if keyspace.strategy != 'SimpleStrategy' and not keyspace.copies.get(facts.local_datacenter):
        yield Finding(
            'replication', 'error', keyspace.name,
            f'0 replicas in {facts.local_datacenter}, the data center of the client: LOCAL_QUORUM fails', alter,
        )  # fmt: skip
    for center, copies in keyspace.copies.items():
        nodes, place = len(facts.nodes_of(center)), center or 'the cluster'
        if copies > nodes:
            quorum = copies // 2 + 1
            seen = f'{copies} replicas in {place}, which has {nodes} nodes' + (
                f': QUORUM needs {quorum} of them and fails' if quorum > nodes else ': ALL fails'
            )
            yield Finding('replication', 'error' if quorum > nodes else 'warning', keyspace.name, seen, alter)
        elif copies < _COPIES and nodes > copies:
            seen = f'{copies} replicas in {place}, which has {nodes} nodes: '
            seen += 'a node that is down takes its rows with it' if copies == 1 else 'QUORUM needs both of them'
            yield Finding('replication', 'warning', keyspace.name, seen, alter)


def availability(facts: Facts, uses: Sequence[Use] = USES) -> Iterator[Finding]:
    """Yields uses that fail now for some rows, as too few nodes of the replicas are up."""
    down = [node for node in facts.nodes if node.down]
    if not down:
        return
    for use, tables in _used(facts, uses):
        for verb, level in (('writes', use.write), ('reads', use.read)):
            local = level in _LOCAL and facts.keyspace.strategy != 'SimpleStrategy'
            center = facts.local_datacenter if local else ''
            copies = facts.keyspace.copies.get(center, 0) if local else facts.keyspace.total
            lost = min(copies, sum(node.datacenter == center or not local for node in down))
            needed = _needed(level, copies)
            if needed and copies - lost < needed:
                names = ', '.join(node.name for node in down)
                yield Finding(
                    'availability', 'error', f'{facts.keyspace.name}: {", ".join(tables)}',
                    f'{use.name} {verb} {level} ({needed} of {copies} replicas), and {lost} of them can be down for a '
                    f'row: {names}', ('start the nodes that are down',),
                )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Replicas that answered a write and a read, of the replicas that both are about."""

    written: int
    read: int
    copies: int


def overlap(keyspace: Keyspace, local: str, write: str, read: str) -> Overlap | None:
    """Returns how many replicas a write and a read at the two levels are sure of; None without replicas.

    A read in the local data center is compared with the replicas there that the write is sure of, any other read with
    all replicas.
    """
    copies = keyspace.copies.get(local, 0) if keyspace.strategy != 'SimpleStrategy' else keyspace.total
    total = keyspace.total
    if not copies:
        return None
    if read in _LOCAL or len(keyspace.copies) == 1:
        return Overlap(_sure_of(write, copies, total), _needed(read, copies), copies)
    written = sum(_quorum(each) for each in keyspace.copies.values()) if write == 'EACH_QUORUM' else (
        _needed(write, copies) if write in _LOCAL else _needed(write, total)
    )  # fmt: skip
    return Overlap(written, _needed(read, total), total)


def _sure_of(level: str, copies: int, total: int) -> int:
    """Returns the replicas of one data center that a write has certainly reached."""
    if level in _LOCAL or level == 'EACH_QUORUM':
        return _needed('LOCAL_QUORUM' if level == 'EACH_QUORUM' else level, copies)
    return max(0, _needed(level, total) - (total - copies))


def _needed(level: str, copies: int) -> int:
    """Returns how many of the replicas that a level counts have to answer."""
    if level in _FIXED:
        return _FIXED[level]
    return copies if level == 'ALL' else _quorum(copies)


def _quorum(copies: int) -> int:
    return copies // 2 + 1


def _used(facts: Facts, uses: Sequence[Use]) -> Iterator[tuple[Use, list[str]]]:
    """Yields each use with those of the tables that it uses."""
    named = {table for use in uses for table in use.tables}
    for use in uses:
        names = [table.name for table in facts.tables]
        used = [name for name in names if name in use.tables or (not use.tables and name not in named)]
        if used:
            yield use, used


def _alter(keyspace: Keyspace, wanted: dict[str, int]) -> tuple[str, ...]:
    centers = ', '.join(f"'{center}': '{copies}'" for center, copies in wanted.items())
    return (
        f"ALTER KEYSPACE \"{keyspace.name}\" WITH replication = {{'class': 'NetworkTopologyStrategy', {centers}}}",
        f'nodetool repair --full {keyspace.name} -- on each node: new replicas are empty',
    )
