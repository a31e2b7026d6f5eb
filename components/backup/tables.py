"""The tables of a backup as a source of scans: what scan/source.py does of a live cluster.

A split is a range of tokens, read from all SSTables at once. Its ledger entry has the rows and the checksum that a scan
by CQL has of these tokens, and how many rows were read of each SSTable: over all splits as many as its Statistics.db
says. So the ledger proves that the splits tile the ring, and the files that nothing in them was passed over.
SSTables that a window does not need are not read at all: which they are follows from the window and Statistics.db, so
that whoever verifies the ledger knows it without the workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import LATE, BackupTable, open_table
from tfx_cassandra.components.backup.splits import Splits
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.table import Identity, Table
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CoverageError, ReadError, invalid
from tfx_cassandra.components.scan import ledger, page
from tfx_cassandra.components.scan.area import ALL_TIMES, Area
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import Fetches, ReadRequest, Source, TableRead
from tfx_cassandra.components.scan.plan import Plan, Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import RING, TokenRange
from tfx_cassandra.components.scan.survey import MOST_KEYS

SPLIT_BYTES = 64 << 20  # of Data.db files; seconds of reading
_MAX_SPLITS = 8192
_PER_GROUP = 64  # splits of one partition each that a worker reads


@dataclasses.dataclass(frozen=True)
class BackupTables:
    """Reads tables from the files of a backup.

    Attributes:
      backup: The backup.
      since: An earlier one: only rows written since are read; see changes.py.
      late: How much later than its write time a write may have reached a node.
    """

    backup: CassandraBackup
    since: CassandraBackup | None = None
    late: datetime.timedelta = LATE

    def __str__(self) -> str:
        return str(self.backup) if self.since is None else f'{self.backup} since {self.since}'

    @property
    def keyspace(self) -> str:
        return self.backup.keyspace

    def moment(self, request: ReadRequest) -> datetime.datetime:
        return _memo.table(self, request.full_table).created_at

    def held(self) -> contextlib.AbstractContextManager[None]:
        return _memo.held()

    def describe(self, request: ReadRequest) -> TableRead:
        table = _memo.table(self, request.full_table)
        scan = _scan(table, request)
        named = dataclasses.replace(request, connection=dataclasses.replace(self, backup=_named(self.backup, table)))
        return TableRead(named, scan, _schema(table, scan, request))

    def plan(self, request: ReadRequest) -> Plan:
        table = _memo.table(self, request.full_table)
        scan, least = _scan(table, request), request.options.splits or 1
        keys = _key_tokens(scan)
        if keys is None:
            count = min(-(-_read_of(table, scan).size // SPLIT_BYTES), _MAX_SPLITS)
            count = 1 << max(count - 1, 0).bit_length()
            wanted: tuple[Area, ...] = (Area(RING, scan.times),)
            areas, most = [Area(tokens, scan.times) for tokens in RING.split(max(count, least))], 1
        else:
            wanted = tuple(Area(TokenRange(key - 1, key), scan.times) for key in keys)
            areas, most = list(wanted), _PER_GROUP
        splits = [Split(area) for area in areas]
        groups = tuple(tuple(splits[i : i + most]) for i in range(0, len(splits), most))
        return Plan(scan, wanted, groups, request.options.page_rows, table.size)

    @contextlib.contextmanager
    def opened(self, request: ReadRequest) -> Iterator[Callable[[Scan, int], Fetches]]:
        found: list[BackupTable] = []  # one at most: all splits that a worker gets are of the same plan

        def fetches(scan: Scan, page_rows: int) -> Fetches:
            if not found:
                found.append(_read_of(self._planned(scan), scan))
            return Splits(found[0], scan, request.planned(page_rows))

        with _memo.held():  # by all threads of a worker at once
            yield fetches

    def verified(self, request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
        coverage = ledger.verified(reads, planned.wanted)
        whole_table = self._planned(planned.scan)
        table = _read_of(whole_table, planned.scan)
        if other := next((len(read.files) for read in reads if len(read.files) != len(table.sstables)), None):
            raise CoverageError(
                f'{planned.scan.table}: got {other} files read, rule: {len(table.sstables)}, as planned'
            )
        found = [sum(read.files[i] for read in reads) for i in range(len(table.sstables))]
        whole = bool(planned.wanted) and all(area.tokens == RING for area in planned.wanted)
        for sstable, count in zip(table.sstables, found, strict=True):
            if whole and count != sstable.statistics.rows:
                rule = f'{sstable.statistics.rows}, as its statistics say'
                raise CoverageError(f'{sstable.name}: got {count} rows read over all token ranges, rule: {rule}')
        files = [[sstable.name, count] for sstable, count in zip(table.sstables, found, strict=True)]
        left_out = len(whole_table.sstables) - len(table.sstables)
        facts = {**_facts(self.backup, whole_table), 'rows_of_files': files, 'files_left_out': left_out}
        return dataclasses.replace(coverage, backup=facts)

    def check_unchanged(self, planned: Plan) -> None:
        self._planned(planned.scan, _opened)

    def _planned(self, scan: Scan, get: Callable[[BackupTables, str], BackupTable] | None = None) -> BackupTable:
        """Returns the table that a scan was planned for; raises ReadError if its files are not the same any more."""
        name, digest = name_and_digest(scan.table)
        backup = dataclasses.replace(self.backup, backup=name) if self.backup.layout == 'medusa' else self.backup
        table = (get or _memo.table)(dataclasses.replace(self, backup=backup), str(scan.table))
        if table.digest != digest:
            raise ReadError(
                f'{backup}: got other files of {scan.table} than planned, rule: a backup that stays as it is'
            )
        return table


def origin(connection: CassandraConnection | None, source: CassandraBackup | None) -> CassandraConnection | Source:
    """Returns where tables are read from: a connection, or the tables of a backup.

    Raises:
      ValueError: Neither is given, or both are.
    """
    if source is None:
        if connection is None:
            raise invalid('connection', None, 'given, unless source is')
        return connection
    if connection is not None:
        raise invalid('source', str(source), 'not together with connection')
    return BackupTables(source)


def name_and_digest(table: Table) -> tuple[str, str]:
    """Returns the name of the backup that a described table is of, and the digest of its files."""
    name, _, digest = str(table.identity and table.identity.id).rpartition('@')
    return name, digest


def digest_of(tables: Sequence[str]) -> str:
    """Returns one digest for those of several tables."""
    return tables[0] if len(tables) == 1 else hashlib.sha256('\n'.join(tables).encode()).hexdigest()


class _Memo:
    """Keeps tables that were opened while somebody holds them: their small files are many, and in a store far away."""

    def __init__(self) -> None:
        self._users, self._lock = 0, threading.Lock()
        self._tables: dict[tuple[BackupTables, str], BackupTable] = {}
        self._opening: dict[tuple[BackupTables, str], threading.Lock] = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._tables.clear()
                    self._opening.clear()

    def table(self, tables: BackupTables, name: str) -> BackupTable:
        with self._lock:
            opening = threading.Lock()
            if self._users:
                opening = self._opening.setdefault((tables, name), opening)
        with opening:  # by one thread, for which the others wait
            found = self._tables.get((tables, name)) or _opened(tables, name)
            named = dataclasses.replace(tables, backup=_named(tables.backup, found))
            with self._lock:
                if self._users:
                    self._tables.update({(tables, name): found, (named, name): found})
        return found


_memo = _Memo()


def _opened(tables: BackupTables, name: str) -> BackupTable:
    return open_table(tables.backup, name, tables.since, tables.late)


def _read_of(table: BackupTable, scan: Scan) -> BackupTable:
    """Returns a table with the SSTables that a scan reads: all but those that its window does not need."""
    return table if scan.times == ALL_TIMES else table.within(scan.times.start, scan.times.end)


def _scan(table: BackupTable, request: ReadRequest) -> Scan:
    """Checks a request against a table.

    Raises:
      SchemaError: They differ.
      ValueError: It asks for what a backup cannot give.
    """
    if request.as_of is not None and request.as_of < table.created_at:
        rule = f'at or after the moment of the backup, {table.created_at.isoformat()}, which has no older values'
        raise invalid('as_of', request.as_of.isoformat(), rule)
    if request.recount:
        raise invalid('recount', True, 'False with a backup, whose rows are compared with its statistics anyway')
    scan = request.scan_of(table.schema.table)
    known = dataclasses.replace(scan.table, identity=Identity(f'{table.name}@{table.digest}', (), pa.schema([])))
    return dataclasses.replace(scan, table=known)


def _schema(table: BackupTable, scan: Scan, request: ReadRequest) -> pa.Schema:
    """Returns the schema of the batches that a request gets."""
    return Splits(table, scan, request.options).schema


def _named(backup: CassandraBackup, table: BackupTable) -> CassandraBackup:
    """Returns a backup that stays the same when a later one is made."""
    return dataclasses.replace(backup, backup=table.name) if backup.layout == 'medusa' else backup


def _facts(backup: CassandraBackup, table: BackupTable) -> dict[str, Any]:
    return {
        'name': table.name,
        'digest': table.digest,
        'created_at': table.created_at.isoformat(),
        'nodes': list(table.nodes),
        'replicas': backup.replicas,
        **({} if table.since is None else {'since': table.since.isoformat()}),
    }


def _key_tokens(scan: Scan) -> list[int] | None:
    """Returns the tokens of the partitions that the filters allow, as a scan by CQL restricts itself to them.

    None where they allow many, and for tables with time buckets: which of them have rows only the cluster knows.
    """
    table, kinds, allowed = scan.table, dict(scan.table.types), dict(scan.filters)
    if any(column not in allowed or not values.has_one_form(kinds[column]) for column in table.own_partition_key):
        return None
    salts = table.layout.salt.count if table.layout.salt else 1
    count = math.prod(len(allowed[column]) for column in table.own_partition_key)
    if table.layout.bucket is not None or count * salts > MOST_KEYS:
        return None
    found = set()
    for key in itertools.product(*(allowed[column] for column in table.own_partition_key)):
        given = dict(zip(table.own_partition_key, key, strict=True))
        for salt in table.salts(given):
            placed = given if salt is None else {**given, table.layout.columns[0]: salt}
            stored = [values.serialized(kinds[column], placed[column]) for column in table.partition_key]
            if values.is_key(stored):
                found.add(page.token_of(stored))
    return sorted(found)
