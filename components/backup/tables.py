"""The tables of a backup as a source of scans: what scan/source.py does of a live cluster.

A split is a range of tokens, read from all SSTables at once. Its ledger entry has the rows and the checksum that a scan
by CQL has of these tokens, and how many rows were read of each SSTable: over all splits as many as its Statistics.db
says. So the ledger proves that the splits tile the ring, and the files that nothing in them was passed over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfx_cassandra.components import metrics
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import BackupTable, open_table
from tfx_cassandra.components.cql import rows, values
from tfx_cassandra.components.cql.table import Identity
from tfx_cassandra.components.errors import CoverageError, DatasetError, ReadError, invalid
from tfx_cassandra.components.scan import ledger, page
from tfx_cassandra.components.scan.area import ALL_TIMES, Area
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import Fetches, ReadRequest, TableRead
from tfx_cassandra.components.scan.plan import Plan, Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import RING, TokenRange
from tfx_cassandra.components.scan.survey import MOST_KEYS
from tfx_cassandra.components.sstable.read import Reading

SPLIT_BYTES = 64 << 20  # of Data.db files; seconds of reading
_MAX_SPLITS = 8192
_PER_GROUP = 64  # splits of one partition each that a worker reads


@dataclasses.dataclass(frozen=True)
class BackupTables:
    """Reads tables from the files of a backup."""

    backup: CassandraBackup

    def __str__(self) -> str:
        return str(self.backup)

    @property
    def keyspace(self) -> str:
        return self.backup.keyspace

    def moment(self, request: ReadRequest) -> datetime.datetime:
        return _memo.table(self.backup, request.full_table).created_at

    def held(self) -> contextlib.AbstractContextManager[None]:
        return _memo.held()

    def describe(self, request: ReadRequest) -> TableRead:
        table = _memo.table(self.backup, request.full_table)
        scan = _scan(table, request)
        named = dataclasses.replace(request, connection=BackupTables(_named(self.backup, table)))
        return TableRead(named, scan, _schema(table, scan, request))

    def plan(self, request: ReadRequest) -> Plan:
        table = _memo.table(self.backup, request.full_table)
        scan, least = _scan(table, request), request.options.splits or 1
        keys = _key_tokens(scan)
        if keys is None:
            count = min(-(-table.size // SPLIT_BYTES), _MAX_SPLITS)
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
                found.append(self._planned(scan))
            return _Splits(found[0], scan, request.planned(page_rows))

        yield fetches

    def verified(self, request: ReadRequest, planned: Plan, reads: Sequence[RangeRead]) -> Coverage:
        coverage = ledger.verified(reads, planned.wanted)
        table = self._planned(planned.scan)
        found = tuple(map(sum, zip(*(read.files for read in reads), strict=True)))
        whole = all(area.tokens == RING for area in planned.wanted)
        for sstable, count in zip(table.sstables, found, strict=False):
            if whole and count != sstable.statistics.rows:
                rule = f'{sstable.statistics.rows}, as its statistics say'
                raise CoverageError(f'{sstable.name}: got {count} rows read over all token ranges, rule: {rule}')
        files = [[sstable.name, count] for sstable, count in zip(table.sstables, found, strict=False)]
        return dataclasses.replace(coverage, backup={**_facts(self.backup, table), 'rows_of_files': files})

    def check_unchanged(self, planned: Plan) -> None:
        self._planned(planned.scan)

    def _planned(self, scan: Scan) -> BackupTable:
        """Opens the table that a scan was planned for; raises ReadError if its files are not the same any more."""
        identity = scan.table.identity
        name, _, digest = str(identity and identity.id).rpartition('@')
        backup = dataclasses.replace(self.backup, backup=name) if self.backup.layout == 'medusa' else self.backup
        table = open_table(backup, str(scan.table))
        if table.digest != digest:
            raise ReadError(
                f'{backup}: got other files of {scan.table} than planned, rule: a backup that stays as it is'
            )
        return table


class _Memo:
    """Keeps tables that were opened while somebody holds them: their small files are many, and in a store far away."""

    def __init__(self) -> None:
        self._users, self._lock = 0, threading.Lock()
        self._tables: dict[tuple[CassandraBackup, str], BackupTable] = {}

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

    def table(self, backup: CassandraBackup, name: str) -> BackupTable:
        found = self._tables.get((backup, name)) or open_table(backup, name)
        with self._lock:
            if self._users:
                self._tables[backup, name] = found
        return found


_memo = _Memo()


class _Splits:
    """Reads splits of a table of a backup, one after the other."""

    def __init__(self, table: BackupTable, scan: Scan, options: Any) -> None:
        self._table, self._scan, self._options = table, scan, options
        behind, cells = len(scan.columns) + len(scan.selected), len(scan.names) - len(scan.columns)
        # The order of a page: the columns wanted, write times and times to live, what is read besides.
        self._page = (*range(len(scan.columns)), *range(behind, behind + cells), *range(len(scan.columns), behind))
        self._batch = [self._page[i] for i in page.key_columns(scan).columns or ()]
        self._time = None if scan.sliced_column is None else self._page[scan.index(scan.sliced_column)]

    def fetch(self, splits: Sequence[Split], in_order: bool = False) -> Generator[Any, None, None]:
        for split in sorted(splits, key=lambda split: split.area.order()) if in_order else splits:
            try:
                yield from self._read(split.area)
            except (ReadError, DatasetError) as error:
                raise type(error)(f'{self._scan.table} token range {split.area}: {error}') from error

    def _read(self, area: Area) -> Iterator[Any]:
        reading, entry, name = self._reading(area.tokens), RangeRead(area), str(self._scan.table)
        schema = pa.schema([reading.schema[i] for i in self._batch])
        for cells in reading.cells():
            within = self._within(area, reading, cells)
            checksum = rows.checksum([cells[i] for i in self._page], within)
            arrays = [reading.decoded(i, cells[i]) for i in self._batch]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if within is not None:
                batch = batch.filter(pa.array(within.view(bool)))
            entry = entry.with_page(batch.num_rows, 0, checksum)
            metrics.READ_PAGES.add(1, name)
            metrics.READ_ROWS.add(batch.num_rows, name)
            yield batch
        metrics.READ_BYTES.add(reading.bytes, name)
        yield dataclasses.replace(entry, bytes=reading.bytes, files=tuple(count for _, count in reading.counts))

    def _reading(self, tokens: TokenRange) -> Reading:
        return _reading(self._table, self._scan, self._options, (tokens.start, tokens.end))

    def _within(self, area: Area, reading: Reading, cells: list[rows.Cells]) -> Any:
        """Returns for each row whether it is in the area's slice of time, as 1 or 0; None for a whole partition."""
        if area.times == ALL_TIMES or self._time is None:
            return None
        times = reading.decoded(self._time, cells[self._time])
        moments = times.cast(pa.int64()).fill_null(0).to_numpy()
        inside = (moments >= area.times.start) & (moments < area.times.end)
        return (inside & times.is_valid().to_numpy(zero_copy_only=False)).astype(np.uint8)


def _reading(table: BackupTable, scan: Scan, options: Any, tokens: tuple[int, int] | None) -> Reading:
    return Reading(
        table.schema, table.sstables, table.created_at, (*scan.columns, *scan.selected), scan.writetimes,
        options.decoding, options.page_rows, tokens=tokens, owned=table.owned, ttls=scan.ttls,
    )  # fmt: skip


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
    fields = list(_reading(table, scan, request.options, None).schema)
    return pa.schema([*fields[: len(scan.columns)], *fields[len(scan.columns) + len(scan.selected) :]])


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
