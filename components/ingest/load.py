"""Loads inputs into a table: reads ahead, writes a block of rows at a time, and records what was acknowledged.

    input -> Records -> Rows -> TableWriter -> dead letters -> checkpoint

A run that is killed goes on behind the last block that its checkpoint has; the rows of the block after it are written
again. With write times of their own that changes nothing; without them they only get later ones, in the same order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.ingest.ahead import ahead
from tfx_cassandra.components.ingest.checkpoint import Acknowledged, Checkpoint
from tfx_cassandra.components.ingest.dead_letters import DeadLetters
from tfx_cassandra.components.ingest.inputs import STDIN, Input, Stream
from tfx_cassandra.components.ingest.layout import Layout, Rows, Target
from tfx_cassandra.components.ingest.options import LoadOptions, Summary
from tfx_cassandra.components.ingest.readers import Reader, reader
from tfx_cassandra.components.ingest.records import Position, Records, place
from tfx_cassandra.components.progress import Step

SHOWN_ERRORS = 20


class Failed(Protocol):
    """A row that was not written, as TableWriter returns it."""

    @property
    def row(self) -> int:
        """Its number in the batch."""

    @property
    def message(self) -> str:
        """The error in one line."""


Write = Callable[[pa.RecordBatch], Sequence[Failed]]


def target_of(session: Session, table: Table, options: LoadOptions) -> Target:
    """Returns where rows go: the live table with its types."""
    names = ', '.join(map(quoted, table.readable))
    columns = session.prepare(f'SELECT {names} FROM {quoted(table.keyspace)}.{quoted(table.name)}').result_metadata
    kinds = {column[2]: column[3] for column in columns}
    return Target(table, kinds, options.mapping, options.timestamp_column or table.event_time)


class _Open(NamedTuple):
    """An input that is being read."""

    source: Input
    stream: Stream
    reader: Reader
    layout: Layout


class Load:
    """A load of inputs into a table.

    Args:
      target: Where the rows go.
      options: How.
      write: Writes a batch; returns when each row is acknowledged or has failed. Not called in a dry run.
      destination: What a checkpoint has to agree with, by name.

    Attributes:
      summary: What was done so far.
      written: Number of rows that this run has written.

    Raises:
      ValueError: The checkpoint is of another load, or the file of dead letters exists.
    """

    def __init__(self, target: Target, options: LoadOptions, write: Write, destination: dict[str, Any]) -> None:
        self._target, self._options, self._write = target, options, write
        self._checkpoint = Checkpoint(None if options.dry_run else options.checkpoint, destination)
        continued = self._checkpoint.dead_letters if self._checkpoint.is_continued else None
        self._letters = DeadLetters(None if options.dry_run else options.dead_letters, continued)
        self.summary, self.written = Summary(), 0

    def check(self, inputs: Sequence[Input]) -> None:
        """Checks the fields and types of all inputs but standard input against the table, before the first write.

        Raises:
          SchemaError, InputError: One does not fit, or cannot be read.
        """
        for source in inputs:
            if source.path != STDIN:
                with reader(source, self._options.csv) as (_, found):
                    self._layout(found)

    def run(self, inputs: Sequence[Input], step: Step) -> Summary:
        """Loads the inputs, one after the other.

        Raises:
          WriteError: More records failed than may.
          InputError, SchemaError: An input is damaged, or does not fit; what came before is acknowledged.
        """
        self._checkpoint.begin()
        progress = _Progress(inputs, step, self)
        for source in inputs:
            with reader(source, self._options.csv) as (stream, found):
                self._load(_Open(source, stream, found, self._layout(found)), progress)
            progress.end(source)
        self._check_limit(at_end=True)
        return self.summary

    def _layout(self, found: Reader) -> Layout:
        return Layout(self._target, found.fields, getattr(found, 'schema', None))

    def _load(self, opened: _Open, progress: _Progress) -> None:
        state = self._checkpoint.acknowledged(opened.source, opened.stream.head)
        self._count(state.rows, state.position.records, state.failed)
        if state.complete:
            return
        with contextlib.closing(ahead(self._rows(opened, state.position))) as blocks:
            for records, rows in blocks:
                failed = self._failures(opened, records, rows)
                done = Acknowledged(records.after, len(rows.records) - failed.rows, len(failed.messages))
                self._count(done.rows, done.position.records - state.position.records, done.failed)
                self.written += done.rows
                state = Acknowledged(done.position, state.rows + done.rows, state.failed + done.failed)
                self._acknowledge(opened, state, bool(failed.messages))
                progress.update(opened.source, records.share)
                self._check_limit()
        self._acknowledge(opened, dataclasses.replace(state, complete=True), False)

    def _rows(self, opened: _Open, start: Position) -> Iterator[tuple[Records, Rows]]:
        own_fields = {} if opened.reader.fields is not None else {'others': bool(self._options.mapping.columns)}
        for records in opened.reader.read(opened.layout.wanted, start, **own_fields):
            yield records, opened.layout.rows(records)

    def _count(self, rows: int, records: int, failed: int) -> None:
        self.summary.rows += rows
        self.summary.records += records
        self.summary.failed += failed

    def _check_limit(self, at_end: bool = False) -> None:
        if not self._options.dry_run:
            first = self.summary.errors[0] if self.summary.errors else 'of an earlier run'
            self._options.max_errors.check(self.summary.failed, self.summary.records, first, at_end)

    def _failures(self, opened: _Open, records: Records, rows: Rows) -> _Failures:
        """Writes rows, and makes dead letters of the records that failed; one record fails once."""
        refused: dict[int, str] = {}
        failed_rows = 0
        for failure in () if self._options.dry_run else self._write(rows.batch):
            failed_rows += 1
            refused.setdefault(int(rows.records[failure.row]), failure.message)
        path, messages = opened.source.path, []
        for record in records.broken:
            messages.append(f'{path}:{place(record.record, record.line)}: {record.error}')
            self._letters.add_broken(path, record)
        errors = {**refused, **{wrong.record: f'{wrong.column}: {wrong.error}' for wrong in rows.wrong}}
        for index, error in sorted(errors.items()):
            messages.append(f'{path}:{records.place(index)}: {error}')
            self._letters.add(path, records, index, error, opened.layout.kind_of)
        self.summary.errors += messages[: SHOWN_ERRORS - len(self.summary.errors)]
        return _Failures(failed_rows, messages)

    def _acknowledge(self, opened: _Open, state: Acknowledged, has_failures: bool) -> None:
        self._letters.flush()
        # Failed rows that are kept nowhere are read again by the next run.
        if not has_failures or self._options.dead_letters is not None:
            self._checkpoint.save(opened.source, opened.stream.head, state, self._letters.size)


class _Failures(NamedTuple):
    """Rows that were refused, and the messages of the records that failed."""

    rows: int
    messages: list[str]


class _Progress:
    """Reports on a step how much was read, the rows, the speed, the errors and the time left."""

    def __init__(self, inputs: Sequence[Input], step: Step, load: Load) -> None:
        self._step, self._load, self._began = step, load, time.monotonic()
        sizes = [source.size for source in inputs]
        self._total = sum(size or 0 for size in sizes) if None not in sizes else 0
        self._before = 0.0
        self._first: tuple[float, float] | None = None  # seconds, share: what an earlier run has read took no time

    def end(self, source: Input) -> None:
        self._before += source.size or 0
        self._show(self._before / self._total if self._total else None)

    def update(self, source: Input, share: float | None) -> None:
        known = self._total and share is not None
        self._show((self._before + (share or 0) * (source.size or 0)) / self._total if known else None)

    def _show(self, share: float | None) -> None:
        seconds = max(time.monotonic() - self._began, 1e-9)
        summary, rows = self._load.summary, self._load.written
        parts = [f'{summary.rows:,} rows', f'{rows / seconds:,.0f} rows/s', f'{summary.failed:,} errors']
        if share is not None:
            parts.insert(0, f'{share:.0%}')
            first, before = self._first = self._first or (seconds, share)
            if before < share < 1:
                parts.append(f'{(seconds - first) * (1 - share) / (share - before):,.0f} s left')
        self._step.update(', '.join(parts))
