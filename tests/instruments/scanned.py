"""Everything that a scan of a table gives, of a cluster or of a backup."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from slow_pages import values

from tfx_cassandra.components.scan.ledger import Coverage
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.source import opened, plan_splits, verified


def rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Returns the rows of a batch."""
    return list(zip(*map(values, batch.columns), strict=True))


def scanned(request: ReadRequest) -> tuple[list[tuple[Any, ...]], str, Coverage]:
    """Returns the rows of a scan in a fixed order, its fingerprint, and what was read."""
    plan, reads, found = plan_splits(request), [], []
    with opened(request) as fetches:
        for group in plan.groups:
            for batch in request.rows(fetches(plan.scan, plan.page_rows).fetch(group), plan.scan, reads):
                found += rows(batch)
    coverage = verified(request, plan, reads)
    return sorted(found, key=repr), coverage.fingerprint(plan.scan.cql(plan.scan.times), str(request.window)), coverage
