"""Serialized tf.Examples -> the same examples with features from Cassandra: in Beam, and for Beam's Enrichment.

examples -> decode -> keys of each view -> requests, each once -> columns -> encode
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.enrichment import EnrichmentSourceHandler

from tfx_cassandra.components.checks import checked, conform
from tfx_cassandra.components.cql.values import plain
from tfx_cassandra.components.dataset.files.decode import decode
from tfx_cassandra.components.dataset.files.encode import Framed, encode
from tfx_cassandra.components.dataset.files.examples import Kind
from tfx_cassandra.components.dataset.files.tfrecord import Chunk
from tfx_cassandra.components.dataset.join.unit import check_milliseconds
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.lookup.latest import Lookup, moments, plan_lookup
from tfx_cassandra.components.lookup.options import LATEST, RetrievalOptions
from tfx_cassandra.components.lookup.reader import Reader
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.window import milliseconds

_BATCH = 1000  # examples looked up together by RetrieveFeatures
_HEAD, _FOOT = 12, 4  # bytes around a record in its frame


def now() -> int:
    """Returns the present in milliseconds since 1970."""
    return milliseconds('now', datetime.datetime.now(datetime.timezone.utc))


class Retriever:
    """Looks up the features of examples while it is open; holds the process's session.

    Args:
      settings: What is looked up, and as of when.
      present: The time, in milliseconds since 1970, that 'latest' counts a view's ttl back from.
    """

    def __init__(self, settings: RetrievalOptions, present: int) -> None:
        self._settings, self._present = settings, present

    def open(self) -> None:
        """Connects; raises SchemaError where a view does not fit the live tables."""
        session = connections.acquire(self._settings.live, RawHandler, keep=True)
        try:
            self._readers = [Reader(session, lookup, self._settings.consistency) for lookup in self.lookups(session)]
        except BaseException:
            self.close()
            raise

    def lookups(self, session: Any) -> list[Lookup]:
        """Plans the lookup of each view by the live schema."""
        keyspace, timed = self._settings.live.keyspace, self._settings.as_of != LATEST
        return [
            plan_lookup(view, describe(session, keyspace, view.table), timed or view.ttl is not None)
            for view in self._settings.views
        ]

    def close(self) -> None:
        connections.release(self._settings.live, RawHandler)

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return sum(reader.requests for reader in self._readers)

    def enrich(self, examples: Sequence[bytes]) -> tuple[Framed, dict[str, int]]:
        """Adds the views' features to examples.

        Returns:
          (the enriched examples, in order; for each added feature and the moment the number of examples that lack it)

        Raises:
          DatasetError: An example has a feature of the same name, or several values for one of its entity or moment, or
            (with missing 'error') lacks a feature.
          ReadError: Cassandra did not answer.
        """
        return enriched(examples, self._found, self._settings, self._present)

    def _found(self, batch: pa.RecordBatch, times: Sequence[int | None]) -> Iterator[Found]:
        for reader, view in zip(self._readers, self._settings.views, strict=True):
            yield Found(view, reader.read(reader.lookup.keys(batch, times)), reader.lookup.kinds)


class Found(NamedTuple):
    """Features of a view for some examples: their values and their kinds, by their names in the examples."""

    view: FeatureView
    columns: Mapping[str, pa.Array]
    kinds: Mapping[str, Kind]


def enriched(
    examples: Sequence[bytes],
    find: Callable[[pa.RecordBatch, Sequence[int | None]], Iterable[Found]],
    settings: RetrievalOptions,
    present: int,
) -> tuple[Framed, dict[str, int]]:
    """Adds features to examples.

    Args:
      examples: Serialized examples.
      find: Returns each view's features, given the decoded examples and their moments.
      settings: What is looked up, and as of when.
      present: The moment of all examples with as_of 'latest', in milliseconds since 1970.

    Returns:
      (the enriched examples, in order; for each added feature and the moment the number of examples that lack it)

    Raises:
      DatasetError: An example has a feature of the same name, or several values for one of its entity or moment, or
        (with missing 'error') lacks a feature.
    """
    batch, kinds = decode(examples)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    added: dict[str, pa.Array] = {}
    times = moments_of(batch, settings.as_of, present)
    for found in find(batch, times):
        if clash := sorted(found.columns.keys() & (columns.keys() | added.keys())):
            raise DatasetError(f'view {found.view.name}: got feature {clash[0]!r}, rule: a name no example has yet')
        added |= found.columns
        kinds |= found.kinds
    missing = {name: array.null_count for name, array in added.items()}
    if settings.missing == 'error' and any(missing.values()):
        name = max(missing, key=lambda feature: missing[feature])
        raise DatasetError(f'feature {name}: got none for {missing[name]} of {len(examples)} examples, rule: in each')
    if settings.as_of != LATEST:
        missing[settings.as_of] = times.count(None)
    columns |= added
    rows = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return encode(rows, kinds), missing


def moments_of(batch: pa.RecordBatch, as_of: str, present: int) -> list[int | None]:
    """Returns the moment of each example, in milliseconds since 1970; None for one without.

    Args:
      batch: Examples as `decode` returns them.
      as_of: 'latest', or the feature that holds the moment.
      present: The moment of all with 'latest'.
    """
    if as_of == LATEST:
        return [present] * batch.num_rows
    if as_of not in batch.schema.names:  # other batches may have it
        return [None] * batch.num_rows
    return moments(batch, as_of)


def results(split: str, framed: Framed, numbers: Mapping[str, int]) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
    """Yields enriched examples as a Chunk of a split, and on 'statistics' numbers to be summed."""
    (checksum,) = framed.checksums_by(pa.array([0] * len(framed), pa.int32()), 1)
    yield Chunk(split, framed.buffer.to_pybytes(), len(framed), checksum)
    for name, count in {**numbers, 'examples': len(framed)}.items():
        yield beam.pvalue.TaggedOutput('statistics', ((split, name), count))


class RetrieveFeatures(beam.PTransform):
    """Adds features from Cassandra to a PCollection of serialized tf.Examples; yields one enriched example for each.

    The arguments are those of CassandraFeatureRetrieval.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        views: FeatureView | Sequence[FeatureView],
        as_of: str = LATEST,
        missing: Literal['absent', 'error'] = 'absent',
        consistency: Consistency = 'LOCAL_QUORUM',
    ) -> None:
        super().__init__()
        views_tuple = conform('views', views, tuple[FeatureView, ...])
        self._settings = RetrievalOptions(connection, views_tuple, as_of, missing, consistency)

    def expand(self, examples: beam.PCollection) -> beam.PCollection:
        return (
            examples
            | 'Batch' >> beam.BatchElements(min_batch_size=_BATCH // 10, max_batch_size=_BATCH)
            | 'Retrieve' >> beam.ParDo(Retrieve(self._settings, now())).with_outputs('statistics', main='chunks')
        ).chunks | 'Records' >> beam.FlatMap(_records)


class Retrieve(beam.DoFn):
    """Lists of serialized examples -> a Chunk of a split; on 'statistics' ((split, name), number), to be summed."""

    def __init__(self, settings: RetrievalOptions, present: int, split: str = '') -> None:
        self._settings, self._present, self._split = settings, present, split

    def setup(self) -> None:
        self._retriever = Retriever(self._settings, self._present)
        self._retriever.open()

    def teardown(self) -> None:
        self._retriever.close()

    def process(self, examples: list[bytes]) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        before = self._retriever.requests
        framed, missing = self._retriever.enrich(examples)
        sent = self._retriever.requests - before
        yield from results(self._split, framed, {**lacking(missing), 'lookups': sent})


def lacking(missing: Mapping[str, int]) -> dict[str, int]:
    """Returns numbers of examples that lack a feature, by the names that statistics have for them."""
    return {f'missing {name}': count for name, count in missing.items()}


def _records(chunk: Chunk) -> Iterator[bytes]:
    at = 0
    while at < len(chunk.frames):
        (size,) = struct.unpack_from('<Q', chunk.frames, at)
        yield chunk.frames[at + _HEAD : at + _HEAD + size]
        at += _HEAD + size + _FOOT


class CassandraEnrichmentHandler(EnrichmentSourceHandler):
    """Looks the features of one `beam.Row` up, for Beam's `Enrichment` transform.

    The row has the entity's columns as fields (text as str, not bytes), and the moment as milliseconds since 1970 where
    `as_of` names a field. The response is a row with a field for each feature, None where it is missing.

    Args:
      connection: How to reach the cluster.
      view: The view whose features are looked up.
      as_of: 'latest', or the field that holds the moment.
      consistency: Consistency level of the reads.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        view: FeatureView,
        as_of: str = LATEST,
        consistency: Consistency = 'LOCAL_QUORUM',
    ) -> None:
        self._settings = RetrievalOptions(connection, (view,), as_of, 'absent', consistency)

    def __enter__(self) -> CassandraEnrichmentHandler:
        session = connections.acquire(self._settings.live, RawHandler)
        try:
            (lookup,) = Retriever(self._settings, now()).lookups(session)
            self._reader = Reader(session, lookup, self._settings.consistency)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        connections.release(self._settings.live, RawHandler)

    def __call__(self, request: beam.Row, *_: Any, **__: Any) -> tuple[beam.Row, beam.Row]:
        found = self._reader.read([self._key(request)], use_cache=False)
        return request, beam.Row(**{name: _value(array[0]) for name, array in found.items()})

    def get_cache_key(self, request: beam.Row) -> str:
        (view,) = self._settings.views
        fields = request._asdict()
        names = view.spine_columns if self._settings.as_of == LATEST else (*view.spine_columns, self._settings.as_of)
        return repr((view.name, *(fields[name] for name in names)))

    def _key(self, request: beam.Row) -> tuple | None:
        (view,) = self._settings.views
        fields = request._asdict()
        entity = [fields[column] for column in view.spine_columns]
        moment = now() if self._settings.as_of == LATEST else fields[self._settings.as_of]
        check_milliseconds(f'as_of field {self._settings.as_of}', [moment])
        by_time = self._reader.lookup.by_time
        if None in entity or (by_time and moment is None):
            return None
        return (*entity, moment if by_time else None)


def _value(scalar: pa.Scalar) -> Any:
    """Returns a feature as a Python value: a time that Python has none for as a whole number."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return plain(pa.array([scalar.value], scalar.type))[0].as_py()
