"""Checks of sizes: partitions over the limit, and reads that meet tombstones. Facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from tfx_cassandra.components.doctor.facts import Facts, Histogram, Partition, Reading, Table
from tfx_cassandra.components.doctor.finding import Finding, megabytes

PARTITION_LIMIT = 100_000_000  # bytes; docs/schema.md says why
_FAR = 10  # times the limit: reads of such a partition time out
_RATIO = 10  # tombstones for a row that a read returns
_FEW = 100  # tombstones for which no ratio counts
_DROPPABLE = 0.2  # the server's default of tombstone_threshold
_WARN, _FAIL = 1_000, 100_000  # tombstone_warn_threshold and tombstone_failure_threshold where they were not read


def partition_size(facts: Facts, limit: int = PARTITION_LIMIT) -> Iterator[Finding]:
    """Yields tables with a partition over the limit: in an SSTable, in the mean of a range of tokens, or in the sample.

    Args:
      facts: The facts.
      limit: Bytes.
    """
    for table in facts.tables:
        sizes: list[tuple[float, str]] = [
            (size, f'{what} has {megabytes(size)} on {reading.node}')
            for reading in facts.of(table.name)
            for size, what in _sizes(reading)
        ]
        sampled = [each for each in facts.partitions if each.table == table.name]
        sizes += [(each.size, _of_sample(each)) for each in sampled]
        size, what = max(sizes, default=(0, ''))
        if size > limit:
            named = [_of_sample(each) for each in sampled if each.size > limit]
            yield Finding(
                'partition-size',
                'error' if size > _FAR * limit else 'warning',
                facts.qualified(table.name),
                f'{"; ".join(dict.fromkeys([what, *named]))}, limit {megabytes(limit)}',
                (
                    f'nodetool toppartitions {facts.keyspace.name} {table.name} 10000',
                    f'nodetool tablestats {facts.qualified(table.name)}',
                    f'tfx-cassandra schema plan {table.name} --rate N/s --retention TIME -- see docs/layouts.md',
                ),
            )


def _of_sample(partition: Partition) -> str:
    least = '' if partition.counted else 'at least '
    rows = f'{least}{partition.rows:,} rows of {partition.row_bytes:,.0f} bytes'
    return f'partition {partition.key} has about {megabytes(partition.size)}: {rows}'


def _sizes(reading: Reading) -> Iterator[tuple[int, str]]:
    if reading.max_partition is not None:
        yield reading.max_partition, 'the largest partition'
    if reading.mean_partition is not None:
        yield reading.mean_partition, 'the mean partition of a range of tokens'


def tombstones(facts: Facts) -> Iterator[Finding]:
    """Yields tables whose reads meet many tombstones: more than the server warns of, or many for each row returned."""
    warn, fail = (
        _threshold(facts, name, usual)
        for name, usual in (('tombstone_warn_threshold', _WARN), ('tombstone_failure_threshold', _FAIL))
    )
    for table in facts.tables:
        met = [reading for reading in facts.of(table.name) if reading.tombstones and reading.tombstones.count]
        worst = max(met, key=_greatest, default=None)
        if worst is None or worst.tombstones is None:
            continue
        seen, rows = worst.tombstones, worst.rows or Histogram(0, 0, 0, 0)
        ratio = seen.p99 / max(rows.p99, 1)
        if seen.max < warn and (seen.p99 < _FEW or ratio < _RATIO):
            continue
        yield Finding(
            'tombstones',
            'error' if seen.max >= fail else 'warning',
            facts.qualified(table.name),
            f'reads on {worst.node} meet up to {seen.max:,.0f} tombstones, p99 {seen.p99:,.0f} for {rows.p99:,.0f} '
            f'rows, ratio {ratio:.3g}; the server warns at {warn:,} and fails a read at {fail:,}',
            tuple(_against_tombstones(facts, table)),
        )


def droppable(facts: Facts) -> Iterator[Finding]:
    """Yields tables on whose disks tombstones stay that could be dropped; nodetool tells their share."""
    for table in facts.tables:
        shares = [
            (reading.droppable, reading.node) for reading in facts.of(table.name) if reading.droppable is not None
        ]
        share, node = max(shares, default=(0.0, ''))
        if share > _DROPPABLE:
            options = {**table.compaction, 'unchecked_tombstone_compaction': 'true'}
            yield Finding(
                'droppable-tombstones',
                'warning',
                facts.qualified(table.name),
                f'{share:.0%} of the cells on {node} are tombstones that could be dropped, compaction begins at '
                f'{_DROPPABLE:.0%}: they lie over SSTables with older rows of their partitions',
                (
                    f'ALTER TABLE {facts.in_cql(table.name)} WITH compaction = {options}',
                    f'nodetool garbagecollect {facts.keyspace.name} {table.name}',
                ),
            )


def _greatest(reading: Reading) -> float:
    return reading.tombstones.max if reading.tombstones else 0


def _against_tombstones(facts: Facts, table: Table) -> Iterator[str]:
    if not table.default_ttl:
        yield f'ALTER TABLE {facts.in_cql(table.name)} WITH default_time_to_live = 2592000 -- instead of deletes'
    yield 'restrict reads to a window of time, and write no nulls: an unset column leaves no tombstone'
    yield f'nodetool garbagecollect {facts.keyspace.name} {table.name}'


def _threshold(facts: Facts, name: str, usual: int) -> int:
    values = [int(value) for value in facts.setting(name) if value.isdigit()]
    return min(values, default=usual)
