"""The second count, with a fake server."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from fake_server import NODE, TABLE, FakeSession, Row

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import recount
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.plan import OwnedRange, plan
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import RING

ROWS = [Row(k, n, 600_000) for k in range(4) for n in range(30)]
SCAN = plan_scan(TABLE)


class Counted(FakeSession):
    """A fake session whose futures can be paged through, as the driver's can."""

    def execute_async(self, bound: Any, **options: Any) -> SimpleNamespace:
        state: dict[str, Any] = {}

        def fetch() -> None:
            state['answer'] = super(Counted, self).execute_async(bound, paging_state=state.get('at'), **options)
            state['at'] = future._paging_state = state['answer']._paging_state
            future.has_more_pages = state['at'] is not None

        future = SimpleNamespace(start_fetching_next_page=fetch)
        fetch()
        future.result = lambda: state['answer'].result()
        future.add_callbacks = lambda came, failed: state['answer'].add_callbacks(came, failed)
        return future


def test_areas_that_were_cut_while_they_were_read_are_counted_with_their_split() -> None:
    planned = plan(SCAN, [OwnedRange(RING, (NODE,))], min_splits=2)
    reads = [found for found in Fetcher(FakeSession(ROWS), SCAN).fetch(planned.splits) if isinstance(found, RangeRead)]
    assert len(reads) > len(planned.splits)
    session = Counted(ROWS)
    recount.check(session, planned, reads, 'ONE')
    assert max(page.bytes for page in session.asked) < 5 << 20  # a node reads whole rows
    assert all('"v"' not in page.cql for page in session.asked)
    lost = next(i for i, entry in enumerate(reads) if entry.rows)
    reads[lost] = dataclasses.replace(reads[lost], rows=reads[lost].rows - 1)
    with pytest.raises(CoverageError, match=r'^ks\.t token ranges \(.*\] \d+ rows read, \d+ counted \(rule: '):
        recount.check(session, planned, reads, 'ONE')
