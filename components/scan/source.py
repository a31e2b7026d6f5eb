"""Where tables are read from: a live cluster, by its connection, or what a Source stands for, such as a backup.

Everything that scans tables goes through the functions here, so that one path of code serves all sources:
describe -> plan_splits -> opened, which reads splits -> verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterator, Sequence

from cassandra.cluster import Session

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan import identity, ledger, plan, recount, sampling, survey
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import Fetches, ReadRequest, Source, TableRead
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.sampling import Bounds

_log = logging.getLogger(__name__)

Opened = contextlib.AbstractContextManager[Callable[[Scan, int], Fetches]]


def source_of(connection: CassandraConnection | Source) -> Source:
    """Returns the source of tables that a request's `connection` names."""
    return LiveCluster(connection) if isinstance(connection, CassandraConnection) else connection


def kept(connection: CassandraConnection | Source) -> contextlib.AbstractContextManager[object]:
    """Reads the small files of a backup once for all of a `with` block; for a live cluster, it does nothing."""
    return contextlib.nullcontext() if isinstance(connection, CassandraConnection) else connection.held()


def describe(request: ReadRequest) -> TableRead:
    """Checks a request against its table.

    Raises:
      SchemaError: The table or a column does not exist, or is of another type than the request needs.
      ReadError: The nodes do not say.
    """
    return source_of(request.connection).describe(request)


def plan_splits(request: ReadRequest) -> Plan:
    """Plans a scan.

    Raises:
      SchemaError: The table or a column does not exist, or the cluster's partitioner is not Murmur3.
      ReadError: The nodes do not say.
    """
    return source_of(request.connection).plan(request)


def opened(request: ReadRequest) -> Opened:
    """Connects for the duration of a `with` block; gives what reads splits of a scan, by pages of so many rows."""
    return source_of(request.connection).opened(request)


def verified(request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
    """Adds up what the workers read of a plan, and proves that it is what was planned.

    Raises:
      CoverageError: The areas that were read do not tile what was asked for exactly once; or, where a second count
        was asked for, it finds another number of rows; or not every row of a file was read.
      SchemaError: The table, or a type of its columns, was changed while it was read.
      ReadError: The cluster does not answer any more.
    """
    return source_of(request.connection).verified(request, planned, reads)


def check_unchanged(request: ReadRequest, planned: Plan) -> None:
    """Raises SchemaError if the table that a plan is of has been replaced or altered since."""
    source_of(request.connection).check_unchanged(planned)


@dataclasses.dataclass(frozen=True)
class LiveCluster:
    """Reads tables from the nodes of a cluster."""

    connection: CassandraConnection

    @property
    def keyspace(self) -> str:
        return self.connection.keyspace

    def moment(self, request: ReadRequest) -> datetime.datetime:
        return datetime.datetime.now(datetime.timezone.utc)

    def held(self) -> contextlib.AbstractContextManager[Session]:
        return connections.session(self.connection, keep=True)

    def _raw(self) -> contextlib.AbstractContextManager[Session]:
        return connections.session(self.connection, RawHandler, keep=True)

    def describe(self, request: ReadRequest) -> TableRead:
        with _answering(request), self.held() as session:
            scan = request.scan(session)
            return TableRead(request, scan, survey.arrow_schema(session, scan, request.options.decoding))

    def plan(self, request: ReadRequest) -> Plan:
        connection, options = self.connection, request.options
        with _answering(request), self.held() as session, self._raw() as raw:
            scan = request.scan(session)
            local = None if connection.secure_connect_bundle else connection.local_datacenter
            owned = survey.owned_ranges(session, scan.table.keyspace, local)
            if local is not None and options.consistency.upper().startswith('LOCAL_'):
                survey.check_replicated(session, scan.table.keyspace, owned, local)
            scan = _as_allowed(session, raw, scan)
            nodes = sorted({node for owner in owned for node in owner.replicas})
            keys = survey.key_tokens(session, scan, consistency_level(options.consistency))
            return plan.plan(
                scan,
                owned,
                survey.size_estimates(session, scan.table, nodes),
                sampling.sample(
                    raw, scan, keys, Bounds(options.page_rows, options.rows_per_second, options.bytes_per_second)
                ),
                keys=keys,
                min_splits=options.splits,
                page_rows=options.page_rows,
                one_worker=options.limited,
            )

    @contextlib.contextmanager
    def opened(self, request: ReadRequest) -> Iterator[Callable[[Scan, int], Fetches]]:
        with self._raw() as session:
            yield lambda scan, page_rows: Fetcher(session, scan, request.planned(page_rows))

    def verified(self, request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
        coverage = ledger.verified(reads, planned.wanted)
        with self._raw() as raw:
            identity.check_unchanged(raw, planned.scan.table)
            if request.recount:
                recount.check(raw, planned, reads, request.options.consistency)
        return coverage

    def check_unchanged(self, planned: Plan) -> None:
        with self._raw() as raw:
            identity.check_unchanged(raw, planned.scan.table)


@contextlib.contextmanager
def _answering(request: ReadRequest) -> Iterator[None]:
    """Raises ReadError for what nodes refuse or leave unanswered while a scan is planned."""
    try:
        yield
    except DRIVER_ERRORS as error:
        rule = f'a table that this user may read, on nodes that answer ({one_line(error)})'
        raise ReadError(f'table: got {request.table!r}, rule: {rule}') from error


def _as_allowed(session: Session, raw: Session, scan: Scan) -> Scan:
    """Notes which table a scan is of, and goes without slices of time where the cluster forbids these."""
    if not survey.takes_slices(session, scan):
        _log.warning('%s: the cluster forbids ALLOW FILTERING, so all rows are read and filtered here', scan.table)
        scan = dataclasses.replace(scan, slices=False)
    table = dataclasses.replace(scan.table, identity=identity.identity(raw, scan))
    return dataclasses.replace(scan, table=table)
