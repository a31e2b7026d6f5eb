"""Reads a live cluster and says what is wrong with it, with the number seen and the change proposed.

`live.py` reads the facts, with bounded queries that change nothing; the checks are pure functions from facts to
findings. The command is `tfx-cassandra doctor`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from tfx_cassandra.components.doctor import cluster, layouts, replicas, sizes, versions
from tfx_cassandra.components.doctor.facts import Facts
from tfx_cassandra.components.doctor.finding import SEVERITIES, Finding
from tfx_cassandra.components.doctor.live import gather
from tfx_cassandra.components.doctor.replicas import USES, Use
from tfx_cassandra.components.doctor.sampling import RANGES
from tfx_cassandra.components.doctor.sizes import PARTITION_LIMIT

__all__ = ['Facts', 'Finding', 'PARTITION_LIMIT', 'RANGES', 'SEVERITIES', 'USES', 'Use', 'examine', 'gather']

Check = Callable[[Facts], Iterable[Finding]]


def examine(facts: Facts, *, partition_limit: int = PARTITION_LIMIT, uses: Sequence[Use] = USES) -> list[Finding]:
    """Returns the findings of all checks, the most severe first.

    Args:
      facts: What `gather` has read.
      partition_limit: Bytes that a partition may have.
      uses: How the tables are written and read.
    """
    found = [finding for check in _checks(partition_limit, uses) for finding in check(facts)]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _checks(partition_limit: int, uses: Sequence[Use]) -> Iterator[Check]:
    yield from (cluster.down, cluster.schema_disagreement, cluster.clock_skew)
    yield functools.partial(replicas.availability, uses=uses)
    yield replicas.replication
    yield functools.partial(replicas.consistency, uses=uses)
    yield functools.partial(sizes.partition_size, limit=partition_limit)
    yield from (
        sizes.tombstones,
        sizes.droppable,
        layouts.windows,
        layouts.gc_grace,
        layouts.repair,
        layouts.compaction,
    )
    yield from (layouts.compression, cluster.throughput, versions.server_releases, versions.driver_release)
