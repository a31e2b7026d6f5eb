"""What the live cluster says of a table before it is read: its schema, who holds which range, how large it is.

session -> values: the one module of the plan that asks Cassandra
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.metadata import Murmur3Token
from cassandra.query import BoundStatement

from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import area, page, ring
from tfx_cassandra.components.scan.page import Decoded, Page
from tfx_cassandra.components.scan.plan import Giant, OwnedRange, Sample, SizeEstimate
from tfx_cassandra.components.scan.query import Scan, Table, quoted
from tfx_cassandra.components.scan.ring import TokenRange
from tfx_cassandra.components.store.driver_errors import DRIVER_ERRORS, one_line

_SAMPLE_RANGES = 8
_SAMPLE_ROWS = 500  # of a page; a partition that fills it counts as giant
_SAMPLE_PAGES = 64
MOST_KEYS = 10_000  # partitions read one by one; beyond that a scan of the ring costs less

_log = logging.getLogger(__name__)


def describe(session: Session, keyspace: str, name: str) -> Table:
    """Looks a table or materialized view up in the live schema; raises SchemaError if there is none."""
    metadata = session.cluster.metadata
    if keyspace not in metadata.keyspaces:
        rule = f'a keyspace of the cluster ({", ".join(sorted(metadata.keyspaces))})'
        raise SchemaError(f'keyspace: got {keyspace!r}, rule: {rule}')
    known = metadata.keyspaces[keyspace]
    table = known.tables.get(name) or known.views.get(name)
    if table is None:
        rule = f'a table of keyspace {keyspace} ({", ".join(sorted([*known.tables, *known.views]))})'
        raise SchemaError(f'table: got {name!r}, rule: {rule}')
    return Table(
        keyspace,
        name,
        tuple(column.name for column in table.partition_key),
        tuple(column.name for column in table.clustering_key),
        tuple((column.name, column.cql_type) for column in table.columns.values()),
        descending=any(column.is_reversed for column in table.clustering_key[:1]),
        has_static=any(column.is_static for column in table.columns.values()),
    )


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
    tokens = set()
    for values in itertools.product(*(allowed[column] for column in keys)):
        try:
            tokens.add(Murmur3Token.hash_fn(statement.bind(values).routing_key))
        except (TypeError, ValueError) as error:
            rule = f'values of the types of {", ".join(keys)} ({" ".join(str(error).split())})'
            raise SchemaError(f'where: got {values!r}, rule: {rule}') from error
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
    places = places[:: -(-whole // _SAMPLE_PAGES)]
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
    statement = session.prepare(scan.cql())
    statement.fetch_size, statement.consistency_level = _SAMPLE_ROWS, ConsistencyLevel.ONE
    keyed = page.key_columns(scan)
    rows = size = pages = 0
    share, giants, complete = 0.0, [], 0
    for place in places:
        at: TokenRange | None = place
        while at is not None and pages < _SAMPLE_PAGES:
            pages += 1
            try:
                future = session.execute_async(statement.bind(scan.values(area.Area(at))), execution_profile=profile)
                (found,) = future.result().current_rows
            except DRIVER_ERRORS as error:  # a plan is only rougher without it
                _log.info('No sample of %s in %s: %s', scan.table, at, one_line(error))
                break
            decoded = page.decode(found, keyed)
            rows, size = rows + found.rows, size + len(found.body)
            if future._paging_state is None or decoded.last is None:
                share += at.width / place.width / whole
                complete += 1
                break
            token = decoded.last.token
            share += (token - at.start) / place.width / whole
            if decoded.first is None or decoded.first.token != token:
                break
            giants.append(_giant(session, scan, token, found, decoded))
            at = TokenRange(token, at.end) if token < at.end else None
    if complete == whole and not giants:
        return Sample(rows, size, 1.0)
    return Sample(rows, size, min(share, 0.5), tuple(giants))


def _giant(session: Session, scan: Scan, token: int, found: Page, decoded: Decoded) -> Giant:
    """Looks up between which moments the rows of a giant partition lie; the partition is that of a page's last row."""
    if scan.sliced_column is None or decoded.last_key is None:
        return Giant(token)
    time, keys = quoted(scan.sliced_column), scan.table.partition_key
    where = ' AND '.join(f'{quoted(column)} = ?' for column in keys)
    table = f'{quoted(scan.table.keyspace)}.{quoted(scan.table.name)}'
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
    moments = []
    for order in ('ASC', 'DESC'):
        statement = session.prepare(f'SELECT {time} FROM {table} WHERE {where} ORDER BY {time} {order} LIMIT 1')
        bound = BoundStatement(statement)
        bound.values = list(decoded.last_key)  # as they came: no value is decoded and encoded again
        try:
            (answer,) = session.execute_async(bound, execution_profile=profile).result().current_rows
        except DRIVER_ERRORS:
            return Giant(token)
        moments += page.decode(answer).content.column(0).cast('int64').to_pylist()
    return Giant(token, *moments) if len(moments) == 2 else Giant(token)
