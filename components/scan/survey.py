"""What the live cluster says of a table before it is read: its schema, who holds which range, how large it is.

session -> values: the one module of the plan that asks Cassandra
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.cluster import Session
from cassandra.metadata import Murmur3Token

from tfx_cassandra.components.cql import layout, types, values
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.buckets import Buckets
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import page, ring
from tfx_cassandra.components.scan.area import Area, Slice
from tfx_cassandra.components.scan.plan import OwnedRange, SizeEstimate
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange

MOST_KEYS = 10_000  # partitions read one by one; beyond that a scan of the ring costs less

_MOMENT = Area(TokenRange(0, 1), Slice(0, 1))

_log = logging.getLogger(__name__)


def arrow_schema(session: Session, scan: Scan, decoding: Decoding = types.DEFAULT) -> pa.Schema:
    """Returns the schema of the batches of a scan, known before the first one comes."""
    columns = session.prepare(scan.cql()).result_metadata
    schema = types.schema_of([column[2] for column in columns], [column[3] for column in columns], decoding)
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


def check_replicated(session: Session, keyspace: str, owned: Sequence[OwnedRange], datacenter: str) -> None:
    """Raises SchemaError if a keyspace has no replica in the data center that `owned` is about."""
    if any(owner.replicas for owner in owned):
        return
    tokens = session.cluster.metadata.token_map
    holders = {
        str(host.datacenter)
        for between in ring.ring_ranges(token.value for token in tokens.ring)
        for host in tokens.get_replicas(keyspace, Murmur3Token(between.end))
    }
    rule = f'a data center that keyspace {keyspace} is replicated to ({", ".join(sorted(holders)) or "none"})'
    raise SchemaError(f'local_datacenter: got {datacenter!r}, rule: {rule}')


def takes_slices(session: Session, scan: Scan) -> bool:
    """Says whether the cluster allows what a slice of time needs, ALLOW FILTERING; a guardrail may forbid it."""
    if scan.sliced_column is None:
        return True
    try:
        statement = session.prepare(scan.cql(_MOMENT.times))  # the guardrail refuses it here already
        statement.fetch_size, statement.consistency_level = 1, ConsistencyLevel.ONE
        session.execute(statement, scan.values(_MOMENT))
    except InvalidRequest as error:
        if 'filtering' not in str(error).lower():
            raise SchemaError(f'table: got {scan.table}, rule: a table that can be read ({one_line(error)})') from error
        return False
    except DRIVER_ERRORS as error:  # whatever it is, the scan will meet it, and has patience
        _log.info('Slices of %s not tried: %s', scan.table, one_line(error))
    return True


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


def key_tokens(session: Session, scan: Scan, level: int) -> list[int] | None:
    """Returns the tokens of the partitions that the scan's filters allow, each once; None where they allow many.

    A key of a type whose equal values are stored in several forms is not told by its value. Of a table with a layout
    the filters need not name its columns: salts are computed, and buckets are those of the window that have rows.

    Args:
      session: An open session.
      scan: The scan.
      level: The driver's number of the consistency level at which the table's buckets are read.
    """
    allowed = dict(scan.filters)
    table, kinds = scan.table, dict(scan.table.types)
    if any(column not in allowed or not values.has_one_form(kinds[column]) for column in table.own_partition_key):
        return None
    count = math.prod(len(allowed[column]) for column in table.own_partition_key)
    if count > MOST_KEYS:
        return None
    buckets = _buckets(session, scan, level)
    if count * len(buckets) * (table.layout.salt.count if table.layout.salt else 1) > MOST_KEYS:
        return None
    where = ' AND '.join(f'{quoted(column)} = ?' for column in table.partition_key)
    name = f'{quoted(table.keyspace)}.{quoted(table.name)}'
    statement = session.prepare(f'SELECT {quoted(table.partition_key[0])} FROM {name} WHERE {where}')
    found = set()
    for key in itertools.product(*(allowed[column] for column in table.own_partition_key)):
        given = dict(zip(table.own_partition_key, key, strict=True))
        bound = {column: values.bound(kinds[column], value) for column, value in given.items()}
        for place in itertools.product(buckets, table.salts(given)):
            bound |= zip(table.layout.columns, (value for value in place if value is not None), strict=True)
            stored = statement.bind([bound[column] for column in table.partition_key]).values
            if values.is_key(stored):
                found.add(page.token_of(stored))
    return sorted(found)


def _buckets(session: Session, scan: Scan, level: int) -> Sequence[int | None]:
    """Returns the buckets that may hold rows of a scan; None alone for a table without buckets."""
    bucket = scan.table.layout.bucket
    if bucket is None:
        return (None,)
    start, end = scan.window.bounds if scan.window and scan.time_column == bucket.time_column else (None, None)
    return layout.known(Buckets(session, scan.table).read(level), bucket, start, end)
