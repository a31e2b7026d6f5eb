"""What the live cluster says of a table before it is read: its schema, who holds which range, how large it is.

session -> values: the one module of the plan that asks Cassandra
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.metadata import Murmur3Token
from cassandra.query import BoundStatement

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import area, page, ring
from tfx_cassandra.components.scan.page import Decoded
from tfx_cassandra.components.scan.plan import SPLIT_BYTES, Giant, OwnedRange, Sample, SizeEstimate
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange

_SAMPLE_RANGES = 8
_SAMPLE_ROWS = 200  # of a page; few, for nothing is known yet of how large they are
_SAMPLE_PAGES = 64
MOST_KEYS = 10_000  # partitions read one by one; beyond that a scan of the ring costs less

_log = logging.getLogger(__name__)


def arrow_schema(session: Session, scan: Scan) -> pa.Schema:
    """Returns the schema of the batches of a scan, known before the first one comes."""
    columns = session.prepare(scan.cql()).result_metadata
    schema = types.schema_of([column[2] for column in columns], [column[3] for column in columns])
    return pa.schema(list(schema)[: len(scan.names)])


def owned_ranges(session: Session, keyspace: str, datacenter: str | None) -> list[OwnedRange]:
    """Returns the ranges between the ring's tokens with the nodes of one data center (None: of all) that hold them.

    Raises:
      SchemaError: The cluster's partitioner is not Murmur3.
    """
    metadata = session.cluster.metadata
    if not str(metadata.partitioner).endswith('Murmur3Partitioner'):
        raise SchemaError(f'partitioner: got {metadata.partitioner}, rule: Murmur3Partitioner')
    tokens = metadata.token_map
    return [
        OwnedRange(
            between,
            tuple(
                name_of(host)
                # A range belongs to the node of its end.
                for host in tokens.get_replicas(keyspace, Murmur3Token(between.end))
                if datacenter is None or host.datacenter == datacenter
            ),
        )
        for between in ring.ring_ranges(token.value for token in tokens.ring)
    ]


def name_of(host: Any) -> str:
    """Returns `address:port` of a node of the driver's metadata."""
    return str(host.endpoint)


def size_estimates(session: Session, table: Table, nodes: Sequence[str]) -> list[SizeEstimate]:
    """Asks nodes what they state of a table's sizes in their own ranges; one that does not answer is left out."""
    statement = session.prepare(
        'SELECT range_start, range_end, partitions_count, mean_partition_size FROM system.size_estimates '
        'WHERE keyspace_name = ? AND table_name = ?'
    )
    estimates = []
    for host in session.cluster.metadata.all_hosts():
        if name_of(host) not in nodes:
            continue
        try:
            rows = session.execute(statement, (table.keyspace, table.name), host=host)
            for row in rows:
                for tokens in _unwrapped(int(row.range_start), int(row.range_end)):
                    estimates.append(SizeEstimate(tokens, row.partitions_count, row.mean_partition_size))
        except DRIVER_ERRORS as error:  # a plan is only rougher without it
            _log.info('No size estimates of %s from %s: %s', table, name_of(host), one_line(error))
    return estimates


def _unwrapped(start: int, end: int) -> list[TokenRange]:
    """Returns a range as Cassandra states it; of one that wraps around, the wider part stands for both."""
    if start < end:
        return [TokenRange(start, end)]
    parts = [(start, ring.MAX_TOKEN), (ring.MIN_TOKEN, end)]
    return [TokenRange(*max(parts, key=lambda part: part[1] - part[0]))]


def key_tokens(session: Session, scan: Scan) -> list[int] | None:
    """Returns the tokens of the partitions that the scan's filters allow, each once; None where they allow many.

    Raises:
      SchemaError: A value is none of its column's type.
    """
    allowed = dict(scan.filters)
    keys = scan.table.partition_key
    if any(column not in allowed for column in keys):
        return None
    count = 1
    for column in keys:
        count *= len(allowed[column])
    if count > MOST_KEYS:
        return None
    where = ' AND '.join(f'{quoted(column)} = ?' for column in keys)
    table = f'{quoted(scan.table.keyspace)}.{quoted(scan.table.name)}'
    statement = session.prepare(f'SELECT {quoted(keys[0])} FROM {table} WHERE {where}')
    ids = [dict(scan.table.types)[column] in ('uuid', 'timeuuid') for column in keys]
    tokens = set()
    for given in itertools.product(*(allowed[column] for column in keys)):
        try:
            values = [uuid.UUID(v) if is_id and isinstance(v, str) else v for v, is_id in zip(given, ids, strict=True)]
            tokens.add(Murmur3Token.hash_fn(statement.bind(values).routing_key))
        except (TypeError, ValueError) as error:
            rule = f'values of the types of {", ".join(keys)} ({" ".join(str(error).split())})'
            raise SchemaError(f'where: got {given!r}, rule: {rule}') from error
    return sorted(tokens)


def sample(session: Session, scan: Scan, keys: Sequence[int] | None = None) -> Sample:
    """Reads a few small pages from places spread over the ring; all that costs is milliseconds.

    The window is left out, for a page of a narrow one may be far to find.

    Args:
      session: A session with page.RawHandler.
      scan: What is to be read.
      keys: Tokens of the only partitions wanted; None for all.
    """
    places = ring.RING.split(_SAMPLE_RANGES) if keys is None else [TokenRange(key - 1, key) for key in keys]
    whole = len(places)
    sampler = _Sampler(session, scan)
    for place in places[:: max(1, -(-whole // _SAMPLE_PAGES))]:
        sampler.take(place)
    if sampler.complete == whole:
        return Sample(sampler.rows, sampler.bytes, 1.0)
    return Sample(sampler.rows, sampler.bytes, min(sampler.share / whole, 0.99), tuple(sampler.giants))


class _Sampler:
    """Adds up what the first pages of some places tell."""

    def __init__(self, session: Session, scan: Scan) -> None:
        self._session, self._scan, self._keys = session, scan, page.key_columns(scan)
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
        self._statement = session.prepare(scan.cql())
        self._statement.fetch_size, self._statement.consistency_level = _SAMPLE_ROWS, ConsistencyLevel.ONE
        self._pages = 0
        self.rows = self.bytes = self.complete = 0
        self.share = 0.0  # of places
        self.giants: list[Giant] = []

    def take(self, place: TokenRange) -> None:
        """Reads a page from the start of a place; and goes on behind a partition that is large."""
        at: TokenRange | None = place
        while at is not None and self._pages < _SAMPLE_PAGES:
            self._pages += 1
            try:
                bound = self._statement.bind(self._scan.values(area.Area(at)))
                future = self._session.execute_async(bound, execution_profile=self._profile)
                (found,) = future.result().current_rows
            except DRIVER_ERRORS as error:  # a plan is only rougher without it
                _log.info('No sample of %s in %s: %s', self._scan.table, at, one_line(error))
                return
            decoded = page.decode(found, self._keys)
            if future._paging_state is None or decoded.first is None or decoded.last is None:
                self._add(found.rows, len(found.body), at.width / place.width)
                self.complete += at == place
                return
            token = decoded.last.token
            times = self._larger(decoded) if decoded.first.token == token else 1.0
            self._add(int(found.rows * times), int(len(found.body) * times), (token - at.start) / place.width)
            if not self.giants or self.giants[-1].token != token:
                return
            at = TokenRange(token, at.end) if token < at.end else None

    def _add(self, rows: int, size: int, share: float) -> None:
        self.rows, self.bytes, self.share = self.rows + rows, self.bytes + size, self.share + share

    def _larger(self, decoded: Decoded) -> float:
        """Estimates how many times the page the one partition in it is, and notes a giant.

        By the time that the page spans and the time between the partition's first and last row.
        """
        first, last = decoded.first, decoded.last
        if first is None or last is None or first.time is None or last.time is None:
            return 1.0
        ends = self._ends(decoded)
        if ends is None:
            return 1.0
        times = max(1.0, (ends[1] - ends[0]) / max(1, abs(first.time - last.time)))
        size = int(times * decoded.size)
        if size > SPLIT_BYTES:
            self.giants.append(Giant(last.token, *ends, size))
        return times

    def _ends(self, decoded: Decoded) -> tuple[int, int] | None:
        """Looks up the times of the first and the last row of the partition of a page's last row."""
        time, keys, table = quoted(str(self._scan.sliced_column)), self._scan.table.partition_key, self._scan.table
        where = ' AND '.join(f'{quoted(column)} = ?' for column in keys)
        moments = []
        for order in ('ASC', 'DESC'):
            statement = self._session.prepare(
                f'SELECT {time} FROM {quoted(table.keyspace)}.{quoted(table.name)} WHERE {where} '
                f'ORDER BY {time} {order} LIMIT 1'
            )
            bound = BoundStatement(statement)
            bound.values = list(decoded.last_key or ())  # as they came: no value is decoded and encoded again
            try:
                future = self._session.execute_async(bound, execution_profile=self._profile)
                (answer,) = future.result().current_rows
            except DRIVER_ERRORS as error:
                _log.info('No sample of a partition of %s: %s', table, one_line(error))
                return None
            moments += page.decode(answer).content.column(0).cast('int64').to_pylist()
        return (moments[0], moments[1]) if len(moments) == 2 else None
