"""Writes rows into a table: TableWriter.

rows -> an Arrow array for each column -> serialized values -> batches of one partition each -> their replicas
     -> the rows that failed, each with its error
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session
from numpy.typing import NDArray

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.buckets import Buckets
from tfx_cassandra.components.driver.encoded import EncodedBatch, ending
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, is_of_the_cluster, one_line
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.write.encode import bodies
from tfx_cassandra.components.write.flow import Flow
from tfx_cassandra.components.write.rows import Arrays, Bound, Source
from tfx_cassandra.components.write.statement import Statement, WriteOptions, is_counter

MOST_ROWS = 50_000  # that are grouped by partition at once
# Of a request; a single row may have more. The server's thresholds (batch_size_warn_threshold and its like) are for
# batches of several partitions (CASSANDRA-10876): one of a single partition is one mutation.
BATCH_ROWS, BATCH_BYTES = 1000, 16 * 1024

_log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A row that was not written.

    Attributes:
      row: Its number among the rows, from 0.
      kind: The class of the error: ValueError for a row that has no form in the table, else the driver's.
      message: The error in one line.
    """

    row: int
    kind: str
    message: str


class TableWriter:
    """Writes rows into a table as idempotent upserts, many in one request where they are of one partition.

    Args:
      session: The driver's session.
      table: The table.
      options: How the rows are written.

    Raises:
      ValueError: The table cannot be written so; the message names the option, its value and the rule.
      WriteError: No node prepares the statement, for this user.
    """

    def __init__(self, session: Session, table: Table, options: WriteOptions | None = None) -> None:
        options = options or WriteOptions()
        options.check(table)
        self._session, self._table, self._options = session, table, options
        self._consistency = connections.consistency_level(options.consistency)
        try:
            self._statement = Statement(session, table, options)
            has_static = table.static and table.clustering
            self._static = Statement(session, table, options, static=True) if has_static else None
        except DRIVER_ERRORS as error:
            rule = f'a table that this user may write, on nodes that answer ({one_line(error)})'
            raise WriteError(f'table: got {str(table)!r}, rule: {rule}') from error
        self._buckets = None if table.layout.bucket is None else Buckets(session, table)
        self._end = ending(self._consistency, session.cluster.protocol_version)
        self._counts = is_counter(table)
        rate = options.rows_per_second
        self._part_rows = MOST_ROWS if rate is None else max(1, min(MOST_ROWS, int(rate / 4)))
        self._next = 0.0  # when the next rows may be sent
        self._flow = Flow(session, metrics.WRITE_REQUESTS)
        if self._counts:
            _log.warning('%s has counters: a request or bundle that is repeated after a time-out counts twice', table)

    def write(self, rows: pa.RecordBatch | Sequence[Mapping[str, Any]]) -> list[Failure]:
        """Writes rows; returns those that failed once every row is acknowledged or has failed.

        Args:
          rows: A record batch whose fields name columns, in the Arrow types of cql/types.py or others that Arrow
            converts to them exactly; or mappings from columns to values, as the driver takes them. A row without
            clustering columns writes static columns.

        Returns:
          The rows that failed, in order. Which others were written is not affected by them.
        """
        failures: list[Failure] = []
        with tracing.span('write_batch', str(self._table)) as span:
            for start in range(0, len(rows), self._part_rows):
                end = start + self._part_rows
                part = rows.slice(start, self._part_rows) if isinstance(rows, pa.RecordBatch) else rows[start:end]
                self._pace(len(part))
                failures += (failure._replace(row=start + failure.row) for failure in self._written(part))
            span.set(rows=len(rows), failed=len(failures))
        return failures

    def _pace(self, rows: int) -> None:
        """Waits until rows may be sent."""
        if self._options.rows_per_second:
            due = max(time.monotonic(), self._next)
            self._next = due + rows / self._options.rows_per_second
            time.sleep(max(0.0, due - time.monotonic()))

    def _written(self, rows: pa.RecordBatch | Sequence[Mapping[str, Any]]) -> list[Failure]:
        arrays = Arrays(Source(rows), self._table, self._statement, self._options)
        failures: list[Failure] = []
        for statement, numbers in self._parts(arrays):
            arrays.check_keys(numbers, statement.keys)
            good = np.setdiff1d(numbers, list(arrays.errors))
            failures += (without_bucket := self._without_bucket(arrays, good))
            good = np.setdiff1d(good, [failure.row for failure in without_bucket])
            if len(good):
                failures += self._sent(Bound(arrays, good, self._table, statement), statement)
        metrics.WRITE_DEAD_LETTERS.add(len(arrays.errors), str(self._table), 'invalid')
        metrics.WRITE_DEAD_LETTERS.add(len(failures), str(self._table), 'rejected')
        failures += (Failure(row, 'ValueError', message) for row, message in arrays.errors.items())
        return sorted(failures)

    def _parts(self, arrays: Arrays) -> Iterator[tuple[Statement, NDArray[Any]]]:
        """Yields the statements with the numbers of their rows: those without clustering columns write static ones."""
        every = np.arange(arrays.count)
        if self._static is None:
            yield self._statement, every
            return
        static = np.logical_and.reduce([arrays.lacking([column]) for column in self._table.clustering])
        arrays.check_static(static, self._static)
        yield self._statement, every[~static]
        yield self._static, every[static]

    def _without_bucket(self, arrays: Arrays, rows: NDArray[Any]) -> list[Failure]:
        """Adds the time buckets of rows to those of the table; returns the rows whose bucket could not be added."""
        if self._buckets is None or not len(rows):
            return []
        starts = arrays.columns[self._table.layout.columns[0]].cast(pa.int64()).take(pa.array(rows))
        errors = self._buckets.add(pc.unique(starts).to_pylist(), self._consistency)
        return [
            Failure(row, type(errors[start]).__name__, one_line(errors[start]))
            for row, start in zip(rows.tolist(), starts.to_pylist(), strict=True)
            if start in errors
        ] if errors else []  # fmt: skip

    def _sent(self, bound: Bound, statement: Statement) -> list[Failure]:
        order = np.argsort(bound.keys.tokens.to_numpy(), kind='stable')
        failed = self._delivered(bound, statement, order, BATCH_ROWS, retries=0 if self._counts else 1)
        return [Failure(int(bound.rows[place]), type(error).__name__, one_line(error)) for place, error in failed]

    def _delivered(
        self, bound: Bound, statement: Statement, order: NDArray[Any], most_rows: int, retries: int
    ) -> list[tuple[int, Exception]]:
        """Sends rows until each is acknowledged or has failed; returns the failed ones with their errors.

        A request that nodes did not take is sent again once, when all others are answered. Of a request that they
        refused, each row is sent alone, for one of them may be the reason.
        """
        failed: list[tuple[int, Exception]] = []
        again, alone = [], []
        for (places, size), error in self._flow.outcomes(self._batches(bound, statement, order, most_rows)):
            if error is None:
                metrics.WRITE_ROWS.add(len(places), str(self._table))
                metrics.WRITE_BYTES.add(size, str(self._table))
            elif is_of_the_cluster(error) and retries:
                again.append(places)
            elif len(places) > 1 and not is_of_the_cluster(error):
                alone.append(places)
            else:
                failed += [(int(place), error) for place in places]
        metrics.WRITE_RETRIES.add(sum(map(len, again + alone)), str(self._table))
        if again:
            failed += self._delivered(bound, statement, np.concatenate(again), most_rows, retries - 1)
        if alone:
            failed += self._delivered(bound, statement, np.concatenate(alone), 1, retries)
        return failed

    def _batches(
        self, bound: Bound, sends: Statement, order: NDArray[Any], most_rows: int
    ) -> Iterator[tuple[tuple[NDArray[Any], int], EncodedBatch]]:
        made = bodies(
            sends.prepared.query_id, bound.values, sends.absent(bound.written), bound.keys, order, BATCH_BYTES,
            most_rows, self._end, 2 if self._counts else 1,
        )  # fmt: skip
        # Neighbours in the order of tokens have the same replicas: shuffled, all nodes have work at any time.
        random.shuffle(made)
        for body, first, count in made:
            places = order[first : first + count]
            key = bound.keys.key(places[0])
            batch = EncodedBatch(body, key, self._table.keyspace, self._consistency, not self._counts)
            yield (places, len(body)), batch
