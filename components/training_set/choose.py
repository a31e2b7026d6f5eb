"""Chooses which views are looked up by key and which are scanned: the cheaper plan, or the configured one."""

from __future__ import annotations

import logging

from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.lookup.spine import unavailable
from tfx_cassandra.components.scan import read
from tfx_cassandra.components.scan.options import TableRead
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.sources import LABELS, Sources

# Per worker, from one node: only the ratio matters, and only roughly.
SCAN_BYTES_PER_SECOND = 40e6
LOOKUPS_PER_SECOND = 2000
_MAX_COUNTED = 200_000  # rows of the spine; with more, views are scanned

_log = logging.getLogger(__name__)


def lookups(settings: TrainingSetOptions, sources: Sources) -> tuple[str, ...]:
    """Returns the names of the views that are looked up.

    The estimated cost of a scan is the view's bytes; that of lookups is a read for each row of the spine and each
    partition with its values. The spine is counted only up to the size at which scans are cheaper.

    Raises:
      SchemaError: join_plan is 'lookup', and a view cannot be read by key; the message says why.
    """
    # A lookup reads current values of a live cluster, and stops at the newest one.
    scan_only = settings.as_of is not None or settings.history is not None or settings.connection is None
    if settings.labels is None or settings.join_plan == 'scan' or scan_only:
        return ()
    reasons = unavailable((view, sources.reads[view.name].table) for view in settings.views)
    if settings.join_plan == 'lookup':
        if reasons:
            why = '; '.join(f'view {name}: {reason}' for name, reason in reasons.items())
            raise SchemaError(f"join_plan: got 'lookup', rule: every view can be read by its key ({why})")
        return tuple(view.name for view in settings.views)
    limits = {view.name: _max_lookup_rows(sources, view) for view in settings.views if view.name not in reasons}
    max_rows = min(max(limits.values(), default=0), _MAX_COUNTED)
    rows = 1
    if max_rows and settings.connection is not None:
        with connections.session(settings.connection, keep=True) as session:
            rows = _count(session, sources.reads[LABELS], max_rows + 1)
    chosen = tuple(name for name, limit in limits.items() if rows <= min(limit, max_rows))
    _log.info('Views looked up for %s events: %s; the others are scanned.', rows, chosen or 'none')
    return chosen


def _max_lookup_rows(sources: Sources, view: FeatureView) -> int:
    """Returns the number of rows of the spine that can be looked up in the time of a scan."""
    table_read = sources.reads[view.name]
    seconds = read.plan_splits(table_read.request).bytes / SCAN_BYTES_PER_SECOND
    reads = 1
    entity = {source.column for source in view.entity}
    for column, values in view.filters:
        if column in table_read.table.partition_key and column not in entity:
            reads *= len(values)
    salt = table_read.table.layout.salt
    if salt is not None and not {*salt.columns} <= {*entity, *(column for column, _ in view.filters)}:
        reads *= salt.count
    return int(seconds * LOOKUPS_PER_SECOND / reads)


def _count(session: Session, spine: TableRead, max_rows: int) -> int:
    """Counts the rows of the spine's window, up to `max_rows`; returns `max_rows` if counting fails."""
    scan = spine.scan
    table = f'{quoted(scan.table.keyspace)}.{quoted(scan.table.name)}'
    query, values = f'SELECT {quoted(scan.table.partition_key[0])} FROM {table}', []
    if scan.pushed_down and scan.window is not None:
        time = quoted(str(scan.time_column))
        query += f' WHERE {time} >= ? AND {time} < ? LIMIT {max_rows} ALLOW FILTERING'
        values = list(scan.window.bounds)
    else:  # the rows of the whole table, an upper bound
        query += f' LIMIT {max_rows}'
    try:
        statement = session.prepare(query)
        # A node reads whole rows even to send keys alone, so pages are as small as those of the scan.
        statement.fetch_size = read.plan_splits(spine.request).page_rows
        return sum(1 for _ in session.execute(statement, values))
    except DRIVER_ERRORS as error:
        _log.info('Events of %s not counted: %s', scan.table, one_line(error))
        return max_rows
