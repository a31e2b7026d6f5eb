"""Checks of a table before a pipeline starts, by the same scan but without Beam."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.source import opened, plan_splits, verified

_PROBE_PAGE_ROWS = 200  # of a page, where the first row that is found ends the scan


def has_rows(request: ReadRequest) -> bool:
    """Says whether a scan would return any row. Stops at the first one; if there is none, it reads the whole scan.

    Raises:
      SchemaError, ReadError: The table could not be read.
    """
    small_pages = dataclasses.replace(
        request, options=request.planned(min(request.options.page_rows, _PROBE_PAGE_ROWS))
    )
    plan = plan_splits(small_pages)
    for item in _scan(small_pages, plan):
        if not isinstance(item, RangeRead) and small_pages.kept(filtered(item, plan.scan), plan.scan).num_rows:
            return True
    return False


def fingerprint(request: ReadRequest) -> str:
    """Returns the fingerprint that a scan would have now, by reading all of it in this process.

    Raises:
      SchemaError, ReadError, CoverageError: The table could not be read.
    """
    plan = plan_splits(request)
    reads = [item for item in _scan(request, plan) if isinstance(item, RangeRead)]
    coverage = verified(request, plan, reads)
    return coverage.fingerprint(plan.scan.cql(plan.scan.times), str(request.window))


def count(request: ReadRequest) -> int:
    """Returns the number of rows of a scan, by reading all of it in this process.

    Raises:
      SchemaError, ReadError, CoverageError: The table could not be read.
    """
    plan = plan_splits(request)
    return verified(request, plan, [item for item in _scan(request, plan) if isinstance(item, RangeRead)]).rows


def _scan(request: ReadRequest, plan: Plan) -> Iterator[pa.RecordBatch | RangeRead]:
    with opened(request) as fetches:
        for group in plan.groups:
            yield from fetches(plan.scan, plan.page_rows).fetch(group)
