"""Questions about a table that a pipeline's beginning depends on, asked without Beam through the same scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered, plan_splits, verified
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan

_FEW_ROWS = 200  # of a page, where the first row that is found ends the reading


def has_rows(request: ReadRequest) -> bool:
    """Whether a scan would give a row. Ends with the first it finds; where there is none it reads what the scan reads.

    Raises:
      SchemaError, ReadError: The table could not be read.
    """
    few = dataclasses.replace(request, options=request.planned(min(request.options.page_rows, _FEW_ROWS)))
    plan = plan_splits(few)
    for found in _found(few, plan):
        if not isinstance(found, RangeRead) and few.kept(filtered(found, plan.scan), plan.scan).num_rows:
            return True
    return False


def fingerprint(request: ReadRequest) -> str:
    """Returns the fingerprint a scan would have now, by reading all of it in this process.

    Raises:
      SchemaError, ReadError, CoverageError: The table could not be read.
    """
    plan = plan_splits(request)
    reads = [found for found in _found(request, plan) if isinstance(found, RangeRead)]
    coverage = verified(request, plan, reads)
    return coverage.fingerprint(plan.scan.cql(plan.scan.times), str(request.window))


def _found(request: ReadRequest, plan: Plan) -> Iterator[pa.RecordBatch | RangeRead]:
    with connections.session(request.connection, RawHandler) as session:
        for group in plan.groups:
            yield from Fetcher(session, plan.scan, request.planned(plan.page_rows)).fetch(group)
