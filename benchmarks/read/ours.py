"""All use the benchmark makes of the package's own reading: the one file to change when that changes.

raw      pages as they arrive, undecoded: the limit, with the plan and the pages in flight of the other two
batches  pages -> record batches
examples pages -> record batches -> framed tf.Examples -> hash splits -> spool -> shuffled, gzipped TFRecords; the
         functions that CassandraExampleGen runs in Beam, called one after the other
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import load
import pyarrow as pa

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import source as scans
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.page import Decoded, Keys, Page, RawHandler, decode

if TYPE_CHECKING:
    from tfx_cassandra.components.example_gen.component import CassandraExampleGen

WINDOW = '2024-01-01T00:00Z/2025-01-01T00:00Z'  # holds every row
SPLITS = (('train', 2), ('eval', 1))  # TFX's default

pa.array([0])  # the first one loads pandas, which is no part of the work


def connection_to(host: str, port: int, datacenter: str, keyspace: str) -> CassandraConnection:
    """Returns the connection of the arguments every reader gets."""
    return CassandraConnection((host,), port, datacenter, keyspace, request_timeout=60.0)


@dataclasses.dataclass
class Reading:
    """One process's part of a full scan: every `parts`th split of the plan."""

    connection: CassandraConnection
    table: str
    part: int = 0
    parts: int = 1

    def __enter__(self) -> Reading:
        # The plan uses both; held here, so that connecting is no part of the work.
        self._session = connections.acquire(self.connection, RawHandler)
        connections.acquire(self.connection)
        return self

    def __exit__(self, *_: object) -> None:
        connections.release(self.connection)
        connections.release(self.connection, RawHandler)

    def pages(self, decode: Callable[[Page, Keys], Decoded] = decode) -> Iterator[Any]:
        """Plans the scan and yields what `decode` makes of its pages, as they arrive."""
        request = ReadRequest(self.connection, self.table)
        planned = scans.plan_splits(request)
        fetcher = Fetcher(self._session, planned.scan, request.planned(planned.page_rows), decode)
        found = fetcher.fetch(planned.splits[self.part :: self.parts])
        return (page for page in found if not isinstance(page, RangeRead))

    def write_examples(self, folder: str) -> int:
        """Writes the scan as TFX has it, one subfolder of a folder a split; returns the number of examples."""
        from tfx_cassandra.components.dataset.files import examples, split, tfrecord

        schema = self._session.cluster.metadata.keyspaces[self.connection.keyspace].tables[self.table]
        names = load.layout_of(self.table).example_columns
        kinds = {name: examples.kind_of('bench', name, schema.columns[name].cql_type) for name in names}
        encoder = tfrecord._Encode(kinds, split.HashSplits(SPLITS), window=None, sequences=())
        spool = tfrecord._Spool(folder, seed=0)
        spool.start_bundle()
        chunks = (chunk for page in self.pages() for chunk in encoder.process(_only(page, names)))
        pieces = [piece for chunk in chunks for piece in spool.process(chunk)]
        spool.finish_bundle()
        # (split, shard, shards) -> pieces; with several processes, each writes shards of its own.
        for name, _ in SPLITS:
            mine = [piece for piece in pieces if piece.split == name]
            tfrecord._write(((name, self.part, self.parts), mine), folder)
        return sum(piece.examples for piece in pieces)


def _undecoded(page: Page, _: Keys) -> Decoded:
    return Decoded(page, 0, len(page.body))


def _only(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.RecordBatch:
    # Every column was read and decoded, as all other readers do; a map has no form in a tf.Example.
    return pa.RecordBatch.from_arrays([batch.column(batch.schema.get_field_index(name)) for name in names], names)


READERS: dict[str, Callable[[Reading, str], int]] = {
    'raw': lambda reading, _: sum(page.rows for page in reading.pages(_undecoded)),
    'batches': lambda reading, _: sum(batch.num_rows for batch in reading.pages()),
    'examples': lambda reading, folder: reading.write_examples(folder),
}


def preload(reader: str) -> None:
    """Imports what a reader needs, before its clock starts."""
    if reader == 'examples':
        importlib.import_module('tfx_cassandra.components.dataset.files.tfrecord')


def example_gen(connection: CassandraConnection, table: str) -> CassandraExampleGen:
    """Returns the component that does what `examples` does; a view names no map, so it does not read one."""
    from tfx_cassandra.components import CassandraExampleGen, FeatureView, TimeWindow

    layout = load.layout_of(table)
    view = FeatureView('bench', table, layout.entity, layout.timestamp, layout.features)
    return CassandraExampleGen(connection, view, window=TimeWindow.parse(WINDOW))


@dataclasses.dataclass
class ExampleGenTimes:
    """When the stages of a run of CassandraExampleGen began, by the names they have in the report."""

    moments: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    planning: float = 0.0

    def begins(self, stage: str) -> None:
        self.moments.append((stage, time.perf_counter()))

    def stages(self) -> dict[str, float]:
        """Returns the seconds of each stage; the plan is made inside Beam and taken out of its time."""
        seconds = {stage: end - start for (stage, start), (_, end) in itertools.pairwise(self.moments)}
        seconds['Beam'] -= self.planning
        return {**seconds, 'planning': self.planning}

    def watch(self) -> None:
        """Makes this process's component runs note their stages."""
        from tfx_cassandra.components.example_gen import executor
        from tfx_cassandra.components.scan import read

        do, make, describe = executor.Executor.Do, executor.Executor._make_beam_pipeline, executor._describe

        def noted(stage: str, call: Callable[..., Any], after: str | None = None) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                self.begins(stage)
                result = call(*args, **kwargs)
                if after:
                    self.begins(after)
                return result

            return wrapped

        executor.Executor.Do = noted('checks', do, after='publishing')  # type: ignore[method-assign]
        executor.Executor._make_beam_pipeline = noted('Beam', make)  # type: ignore[method-assign]
        executor._describe = noted('artifact', describe)
        read.plan_splits = timed_plan


TIMES = ExampleGenTimes()


def timed_plan(request: ReadRequest) -> Any:
    """plan_splits, timed. By name in this module, for Beam pickles what it runs."""
    began = time.perf_counter()
    planned = scans.plan_splits(request)
    TIMES.planning += time.perf_counter() - began
    return planned
