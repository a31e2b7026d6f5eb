"""CassandraIterableDataset: a table, or a training set, as batches of tensors; over all readers each row once an epoch.

share of units (shares.py) -> rows of several at once (interleave.py) -> permuted blocks, batches (blocks.py)
  -> tensors (tensors.py); at the end of the share its record -> the epoch's ledger (epochs.py)
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import torch
from torch.utils.data import IterableDataset, get_worker_info

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import origin
from tfx_cassandra.components.checks import Count, Name, TableName, checked, conform
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.scan.fetch import PAGE_ROWS, ReadOptions
from tfx_cassandra.components.scan.options import Columns, ReadRequest
from tfx_cassandra.components.torch import blocks, epochs, shares
from tfx_cassandra.components.torch.epochs import EpochCoverage
from tfx_cassandra.components.torch.interleave import Interleave
from tfx_cassandra.components.torch.joined import TrainingSetSource
from tfx_cassandra.components.torch.loading import Loading
from tfx_cassandra.components.torch.packing import packed
from tfx_cassandra.components.torch.progress import VERSION, Progress, begun, restored
from tfx_cassandra.components.torch.sources import OpenSource, Source, TableSource
from tfx_cassandra.components.torch.tensors import tensors
from tfx_cassandra.components.training_set import resolve
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import TimeWindow

RANGES = 256


class CassandraIterableDataset(IterableDataset):
    """Streams a table as batches of tensors: a dict of column name -> tensor; see torch/tensors.py for the forms.

    Pass it to a DataLoader with batch_size=None, for it makes whole batches itself:

        dataset = CassandraIterableDataset(connection, 'ratings', columns=['user', 'stars'], shuffle_rows=100_000)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            for batch in DataLoader(dataset, batch_size=None, num_workers=2):
                ...  # {'user': array of str, 'stars': int32 tensor of shape (1024,)}

    Over all ranks and workers each row comes exactly once an epoch. A reader checks its share by the ledger of the
    scan, and the last one to finish the records of all (see `coverage`); iteration ends with CoverageError otherwise.
    With the same seed, epoch, ranks and workers, and an unchanged table, the batches are the same.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection | None = None,
        table: TableName | None = None,
        columns: Columns | None = None,
        window: TimeWindow | str | None = None,
        time_column: Name | None = None,
        where: Mapping[str, Any] | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        ranges: Count = RANGES,
        page_rows: Count = PAGE_ROWS,
        as_of: datetime.datetime | None = None,
        invalid_text: Literal['error', 'replace'] = 'error',
        wide_varints: Literal['error', 'text'] = 'error',
        source: CassandraBackup | None = None,
        **loading: Any,
    ) -> None:
        """Declares what is read; nothing connects before it is iterated.

        Args:
          connection, table, columns, window, time_column, where: As of ReadFromCassandra.
          consistency, page_rows, as_of, invalid_text, wide_varints: As of ReadFromCassandra.
          ranges: Token ranges that the readers share, at least some for each of them: 8 to balance their work.
          source: Instead of a connection: a backup, whose files are read without the cluster, as of its moment.
          loading: `batch_rows` to `ledger` of `Loading`.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        filters = tuple((column, values.alternatives(value)) for column, value in (where or {}).items())
        window = None if window is None else TimeWindow.parse(window)
        options = ReadOptions(consistency, page_rows=page_rows, decoding=Decoding(invalid_text, wide_varints))
        if table is None:
            raise invalid('table', None, 'given')
        tables = origin(connection, source)
        request = ReadRequest(tables, table, columns, window, time_column, filters, options, as_of=as_of)
        self._declare(TableSource(request, ranges), Loading(**loading))

    @classmethod
    def training_set(
        cls,
        connection: CassandraConnection | None = None,
        views: FeatureView | Sequence[FeatureView] = (),
        labels: LabelSource | None = None,
        window: TimeWindow | str | None = None,
        *,
        folder: str | os.PathLike[str],
        columns: Columns | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        availability_cut_off: bool = True,
        join_plan: Literal['auto', 'scan', 'lookup'] = 'auto',
        limits: AuditLimits | None = None,
        span: SpanRange | int | str | None = None,
        as_of: datetime.datetime | None = None,
        history: Count | None = None,
        invalid_text: Literal['error', 'replace'] = 'error',
        wide_varints: Literal['error', 'text'] = 'error',
        beam_pipeline_args: Sequence[str] = (),
        source: CassandraBackup | None = None,
        **loading: Any,
    ) -> CassandraIterableDataset:
        """Declares a training set: labels with the features of views as they were known at each label's time.

        Its rows are those of CassandraExampleGen's examples, with values as CQL has them: doubles have 64 bits. They
        are joined once, by `prepare`, and kept in a folder, from which every epoch is read.

        Args:
          connection, views, labels, window: As of CassandraExampleGen.
          folder: Where the rows are kept, with about the size of an Arrow file of them: a path or URI that all ranks
            reach. A folder that holds the training set already, of equal arguments, is read as it is.
          columns: The columns wanted, by their names in the examples; None for all.
          consistency, availability_cut_off, join_plan, limits, span, as_of, history: As of CassandraExampleGen.
          invalid_text, wide_varints: As of CassandraExampleGen.
          beam_pipeline_args: Options of the Beam pipeline that joins.
          source: As of CassandraExampleGen.
          loading: `batch_rows` to `ledger` of `Loading`.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        settings = TrainingSetOptions(
            connection,
            views,  # type: ignore[arg-type]  # one view stands for a tuple of it
            None if window is None else TimeWindow.parse(window),
            labels,
            ReadOptions(consistency, decoding=Decoding(invalid_text, wide_varints)),
            availability_cut_off,
            join_plan,
            limits,
            None if span is None else SpanRange.parse(span),
            as_of,
            history,
            source,
        )
        resolve.check(settings)
        columns = conform('columns', columns, Columns | None)
        dataset = cls.__new__(cls)
        wanted = None if columns is None else tuple(columns)
        joined = TrainingSetSource(settings, os.fspath(folder), wanted, tuple(beam_pipeline_args))
        dataset._declare(joined, Loading(**loading))
        return dataset

    def _declare(self, source: Source, loading: Loading) -> None:
        super().__init__()
        self._source, self._loading = source, loading
        self._folder = loading.ledger or tempfile.mkdtemp(prefix='tfx-cassandra-epochs-')
        if loading.ledger is None:
            weakref.finalize(self, _remove, self._folder, os.getpid())
        # Shared, so that set_epoch reaches workers that live on.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._progress: Progress | None = None
        self._resume: Mapping[str, Any] | None = None

    def changed(self, columns: Sequence[str] | None = None, **loading: Any) -> CassandraIterableDataset:
        """Returns a dataset of the same rows with other columns, or arguments of `Loading`.

        Args:
          columns: The columns wanted; None for those of this dataset.
          loading: `batch_rows` to `ledger` of `Loading`; the others stay.
        """
        source = self._source if columns is None else self._source.selecting(conform('columns', columns, Columns))
        dataset = CassandraIterableDataset.__new__(CassandraIterableDataset)
        dataset._declare(source, dataclasses.replace(self._loading, **loading))
        return dataset

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration reads, or the current one."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which changes the order of the rows; call it before each epoch, as of a sampler."""
        if not isinstance(epoch, int) or epoch < 0:
            raise invalid('epoch', epoch, 'an integer of at least 0')
        self._epoch.fill_(epoch)

    def prepare(self) -> None:
        """Does what is to be done once before reading: joins a training set. Of a table there is nothing to do."""
        self._source.prepare()

    def report(self) -> dict[str, Any]:
        """Returns what was joined: rows, window, when labels had to be known, tables read, and the audit.

        Raises:
          DatasetError: There is nothing to report: it is no training set, or it was not prepared.
        """
        if not isinstance(self._source, TrainingSetSource):
            raise DatasetError('report: got a table, rule: a training set')
        return self._source.report()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        state, self._resume = self._resume, None
        reader = shares.current(self._loading.rank, self._loading.world_size)
        if reader.ranks == 1 and get_worker_info() is None:
            self.prepare()
        fresh = Progress(self._digest, self.epoch, reader)
        self._progress = fresh if state is None else restored(fresh, state)
        return self._batches(self._progress)

    def _batches(self, progress: Progress) -> Iterator[dict[str, Any]]:
        loading, source = self._loading, self._source
        ledger = self._ledger
        ledger.forget(progress.epoch, progress.reader)
        share = shares.share(ledger.order(progress.epoch), progress.reader)
        seed = (
            (loading.seed, progress.epoch, progress.reader.index) if loading.shuffle and loading.shuffle_rows else None
        )
        with source.open() as opened:
            progress.check_version(opened.rows.version)
            rows = Interleave(opened.read, share, loading.prefetch, progress.place)
            for batch in blocks.batches(
                rows, loading.batch_rows, loading.shuffle_rows, seed, progress.start, loading.drop_last
            ):
                progress.record(batch, rows.done)
                if not batch.dropped:
                    yield self._tensors(batch.rows, opened)
            progress.record_end(rows)
            opened.check()
        ledger.finish(progress.as_record())

    def _tensors(self, batch: pa.RecordBatch, opened: OpenSource) -> dict[str, Any]:
        if self._loading.transform is not None:
            batch = self._loading.transform(batch)
        made = tensors(batch, self._loading.tensors, opened.rows.required, opened.rows.decimals)
        return made if get_worker_info() is None else packed(made)

    @property
    def _ledger(self) -> epochs.Ledger:
        source, seed, shuffle = self._source, self._loading.seed, self._loading.shuffle
        return epochs.Ledger(
            self._folder, lambda epoch: shares.order(source.units, seed, epoch, shuffle), source.describe
        )

    def coverage(self) -> EpochCoverage:
        """Returns what all readers have read of the current epoch, proven to be everything exactly once.

        Call it when the epoch's iteration has ended, on every rank: with torch.distributed the ranks exchange their
        records. Without it, all ranks have to share the folder `ledger`.

        Raises:
          CoverageError: Something was not read, or was read more than once.
        """
        ranks = shares.current(self._loading.rank, self._loading.world_size).ranks
        return self._ledger.coverage(self.epoch, ranks)

    @property
    def _digest(self) -> str:
        """A hash of what decides about the order of the rows."""
        loading = self._loading
        parts = (
            self._source.digest, loading.batch_rows, loading.shuffle_rows, loading.shuffle, loading.seed,
            loading.prefetch, loading.drop_last,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Returns the position behind the last batch, in plain values; a DataLoader's workers each have their own.

        With workers use torchdata's StatefulDataLoader, which collects the states of all.
        """
        if self._progress is None:
            return begun(self.epoch) if self._resume is None else dict(self._resume)
        return self._progress.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues the next iteration behind the last batch of a state; what follows is what would have followed.

        Raises:
          ValueError: It is no state of this version.
          DatasetError: (from the iteration) Arguments, readers or rows are not those of the state.
        """
        if state.get('version') != VERSION:
            raise invalid('state', state.get('version'), f'a state of version {VERSION}')
        self._epoch.fill_(int(state['epoch']))
        self._resume, self._progress = (state if 'digest' in state else None), None

    def __getstate__(self) -> dict[str, Any]:
        """Names the rank, which a spawned worker cannot find out."""
        loading = self._loading
        if loading.rank is None:
            rank, world_size = shares.distributed()
            loading = dataclasses.replace(loading, rank=rank, world_size=world_size)
        return self.__dict__ | {'_loading': loading, '_progress': None}


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # not in a forked worker
        shutil.rmtree(folder, ignore_errors=True)
