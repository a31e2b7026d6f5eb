"""Checks of table options: compaction windows, gc_grace, compaction against workload, compression."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from tfx_cassandra.components.doctor.facts import Facts, Table
from tfx_cassandra.components.doctor.finding import Finding, duration

_UNITS = {'MINUTES': 60, 'HOURS': 3600, 'DAYS': 86400}
_GOOD_WINDOWS, _MANY_WINDOWS, _TOO_MANY_WINDOWS = 30, 100, 1000
_YEAR = 365 * 86400
_HINT_WINDOW = 3 * 3600  # max_hint_window where it was not read
_OPERATIONS = 10_000  # reads and writes, below which a workload is not judged
_MOSTLY = 10  # times as many
_TIMES = ('timestamp', 'timeuuid', 'date', 'time')


def windows(facts: Facts) -> Iterator[Finding]:
    """Yields tables whose time-window compaction has no end, or too many windows."""
    for table in facts.tables:
        if table.compaction.get('class') != 'TimeWindowCompactionStrategy':
            continue
        window = _window(table)
        if not table.default_ttl:
            per_year = _YEAR / window
            yield Finding(
                'twcs-windows',
                'warning' if per_year > _TOO_MANY_WINDOWS else 'info',
                facts.qualified(table.name),
                f'windows of {duration(window)} and no default_time_to_live: {per_year:,.0f} windows a year, none is '
                'ever dropped unless each write has a TTL',
                (
                    f'ALTER TABLE {facts.in_cql(table.name)} WITH default_time_to_live = 2592000 '
                    f'AND compaction = {_compaction(2592000)} -- if rows may expire',
                    f'ALTER TABLE {facts.in_cql(table.name)} WITH compaction = {_forever(facts)} -- if they may not',
                ),
            )
        elif (count := table.default_ttl / window) > _MANY_WINDOWS:
            yield Finding(
                'twcs-windows',
                'warning' if count > _TOO_MANY_WINDOWS else 'info',
                facts.qualified(table.name),
                f'a TTL of {duration(table.default_ttl)} in windows of {duration(window)}: {count:,.0f} windows, '
                f'about {_GOOD_WINDOWS} are good; a read without a restriction of time touches each',
                (f'ALTER TABLE {facts.in_cql(table.name)} WITH compaction = {_compaction(table.default_ttl)}',),
            )


def gc_grace(facts: Facts) -> Iterator[Finding]:
    """Yields tables whose gc_grace_seconds is too short for hints and repair, or longer than their rows live."""
    hints = _hint_window(facts)
    replicated = facts.keyspace.total > 1
    for table in facts.tables:
        alter = f'ALTER TABLE {facts.in_cql(table.name)} WITH gc_grace_seconds = '
        if replicated and table.gc_grace < hints:
            yield Finding(
                'gc-grace',
                'error' if table.gc_grace == 0 else 'warning',
                facts.qualified(table.name),
                f'gc_grace_seconds {table.gc_grace} is below the hint window of {duration(hints)}, with '
                f'{facts.keyspace.total} replicas: hints expire early, and what was deleted comes back from a replica '
                'that was down',
                (f'{alter}864000 -- and repair each node within ten days',),
            )
        elif table.default_ttl and table.gc_grace > max(table.default_ttl, hints):
            yield Finding(
                'gc-grace',
                'info',
                facts.qualified(table.name),
                f'rows live for {duration(table.default_ttl)} and their tombstones for {duration(table.gc_grace)} more',
                (f'{alter}{max(table.default_ttl, 86400, math.ceil(hints))} -- if rows expire and are not deleted',),
            )


def repair(facts: Facts) -> Iterator[Finding]:
    """Yields replicated tables older than gc_grace_seconds without a successful repair within it."""
    if facts.keyspace.total < 2:
        return
    for table in facts.tables:
        if not table.repairs_known or table.created_at is None or table.gc_grace < _hint_window(facts):
            continue  # no repair comes in time there: `gc_grace` says so
        age = (facts.now - table.created_at).total_seconds()
        since = (facts.now - (table.repaired_at or table.created_at)).total_seconds()
        if age <= table.gc_grace or since <= table.gc_grace:
            continue
        last = (
            f'was {duration(since)} ago' if table.repaired_at else f'is not on record, {duration(age)} after creation'
        )
        yield Finding(
            'repair',
            'warning',
            facts.qualified(table.name),
            f'the last repair {last}, and gc_grace_seconds is {duration(table.gc_grace)}: deleted rows may return',
            (f'nodetool repair -pr {facts.keyspace.name} {table.name} -- on each node, within each gc_grace_seconds',),
        )


def compaction(facts: Facts) -> Iterator[Finding]:
    """Yields tables whose compaction strategy does not fit what they are: of time, mostly read, mostly written."""
    for table in facts.tables:
        kind = table.compaction.get('class', '')
        found = _misfit(facts, table, kind)
        if found is not None:
            severity, seen, compaction_cql = found
            alter = f'ALTER TABLE {facts.in_cql(table.name)} WITH compaction = {compaction_cql}'
            yield Finding('compaction', severity, facts.qualified(table.name), seen, (alter,))


def _misfit(facts: Facts, table: Table, kind: str) -> tuple[str, str, str] | None:
    reads, writes = (
        sum(getattr(reading, name) or 0 for reading in facts.of(table.name)) for name in ('reads', 'writes')
    )
    counts = f'{reads:,} reads and {writes:,} writes since the nodes started'
    of_time = table.clustering[:1] and table.clustering[0] in _TIMES
    if kind == 'DateTieredCompactionStrategy':
        return 'error', f'{kind}, which Cassandra 5.0 has not', _compaction(table.default_ttl or 30 * 86400)
    if kind == 'TimeWindowCompactionStrategy' and not any(column in _TIMES for column in table.clustering):
        return (
            'info',
            f'{kind} without a clustering column of time: late and repeated rows mix the windows',
            _forever(facts),
        )
    if kind in ('SizeTieredCompactionStrategy', 'LeveledCompactionStrategy') and table.default_ttl and of_time:
        seen = f'{kind} with a TTL of {duration(table.default_ttl)} in order of time: expired rows are rewritten'
        return 'warning', seen, _compaction(table.default_ttl)
    if reads + writes < _OPERATIONS:
        return None
    if kind == 'LeveledCompactionStrategy' and writes > _MOSTLY * max(reads, 1):
        return 'warning', f'{kind}, which rewrites each row about ten times, with {counts}', _written(facts)
    if kind == 'SizeTieredCompactionStrategy' and reads > _MOSTLY * max(writes, 1):
        return 'info', f'{kind}, where a read touches many SSTables, with {counts}', _read(facts)
    return None


def compression(facts: Facts) -> Iterator[Finding]:
    """Yields tables without compression, and tables with large chunks that are mostly read."""
    for table in facts.tables:
        alter = f"ALTER TABLE {facts.in_cql(table.name)} WITH compression = {{'class': 'LZ4Compressor', "
        if table.compression.get('enabled', 'true') == 'false' or not table.compression:
            yield Finding(
                'compression', 'warning', facts.qualified(table.name), 'compression is off: more disk and page cache',
                (
                    f"{alter}'chunk_length_in_kb': '16'}}",
                    f'nodetool upgradesstables -a {facts.keyspace.name} {table.name}',
                ),
            )  # fmt: skip
            continue
        chunk = int(table.compression.get('chunk_length_in_kb', 16))
        reads = sum(reading.reads or 0 for reading in facts.of(table.name))
        if chunk >= 64 and reads >= _OPERATIONS:
            yield Finding(
                'compression', 'info', facts.qualified(table.name),
                f'chunks of {chunk} KiB with {reads:,} reads: each read by key decompresses a whole chunk',
                (f"{alter}'chunk_length_in_kb': '16'}}",),
            )  # fmt: skip


def _window(table: Table) -> int:
    """Returns the seconds of a compaction window."""
    unit = table.compaction.get('compaction_window_unit', 'DAYS').upper()
    return int(table.compaction.get('compaction_window_size', '1')) * _UNITS.get(unit, 86400)


def _compaction(ttl: float) -> str:
    """Returns time-window compaction with about 30 windows in a TTL."""
    target = max(ttl / _GOOD_WINDOWS, 60)
    unit = max((unit for unit in _UNITS if _UNITS[unit] <= target), key=_UNITS.__getitem__)
    size = math.ceil(target / _UNITS[unit])
    return (
        f"{{'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': '{size}', "
        f"'compaction_window_unit': '{unit}'}}"
    )


def _forever(facts: Facts) -> str:
    """Returns the compaction of rows that never expire."""
    return _unified(facts, 'T4') or "{'class': 'SizeTieredCompactionStrategy'}"


def _written(facts: Facts) -> str:
    return _unified(facts, 'T4') or "{'class': 'SizeTieredCompactionStrategy'}"


def _read(facts: Facts) -> str:
    return _unified(facts, 'L10') or "{'class': 'LeveledCompactionStrategy'}"


def _unified(facts: Facts, scaling: str) -> str:
    """Returns unified compaction where every node has it, from Cassandra 5.0; '' elsewhere."""
    releases = [node.release for node in facts.nodes if node.release]
    if not releases or any(int(release.partition('.')[0]) < 5 for release in releases):
        return ''
    return f"{{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': '{scaling}'}}"


def _hint_window(facts: Facts) -> float:
    """Returns the seconds for which hints are stored for a node that is down."""
    return max((_seconds(value) for value in facts.setting('max_hint_window')), default=_HINT_WINDOW)


def _seconds(value: str) -> float:
    """Returns the seconds of a duration of cassandra.yaml, such as '3h'; those of the default for other texts."""
    units = {'ms': 0.001, 's': 1, 'm': 60, 'h': 3600, 'd': 86400}
    match = re.fullmatch(r'(\d+)(ms|s|m|h|d)', value)
    return int(match[1]) * units[match[2]] if match else _HINT_WINDOW
