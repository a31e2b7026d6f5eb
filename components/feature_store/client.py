"""Reads and writes features, one or many at a time, in the tables feature_store and entity_features.

    with FeatureStore(connection) as store:
        store.write_feature('weather', 'temp', 3.5, moment)
        store.get_latest_feature('weather', 'temp')

A value is a double, NaN and the infinities included. Timestamps have millisecond precision. A row with a value that
Python cannot represent, such as a timestamp in the year 55840, is skipped with a warning that names it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.driver.exchange import Blocking, finished, iterated
from tfx_cassandra.components.feature_store.core import Core
from tfx_cassandra.components.feature_store.frames import Form
from tfx_cassandra.components.feature_store.reads import Reads
from tfx_cassandra.components.feature_store.results import WriteResult, WriteResults
from tfx_cassandra.components.feature_store.value import FeatureValue
from tfx_cassandra.components.feature_store.writes import Writes
from tfx_cassandra.components.window import TimeWindow

__all__ = ['FeatureStore', 'FeatureValue', 'WriteResult', 'WriteResults']


class FeatureStore:
    """A client of the feature tables; a context manager that uses the process's session while it is open.

    Calls with an `entity_id` are about the table entity_features, all others about feature_store. A consistency given
    to a call, by name such as 'QUORUM', applies to that call only. A method raises TfxCassandraError if the store is
    not open, and SchemaError if there is no entity_features for its entity_id.

    Args:
      connection: The cluster and the keyspace.
      consistency: The consistency level of calls that give none.
      speculative_after: How long a read waits for an answer before the next replica is asked, too: the first answer
        counts. None to wait.

    Raises:
      ValueError: An argument breaks its rule.
    """

    def __init__(
        self,
        connection: CassandraConnection,
        *,
        consistency: Consistency = 'LOCAL_QUORUM',
        speculative_after: datetime.timedelta | None = None,
    ) -> None:
        self._core = Core(connection, consistency, speculative_after)
        self._reads, self._writes = Reads(self._core), Writes(self._core)

    def __enter__(self) -> FeatureStore:
        """Opens the store.

        Raises:
          UnavailableError: No contact point answers.
          SchemaError: The keyspace has no table feature_store.
        """
        self._core.check_closed()
        with self._core.acquired() as (session, tables, stack):
            self._core.open(session, tables, stack.pop_all(), Blocking)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the session; closing again has no effect."""
        self._core.close().close()

    def write_feature(
        self,
        model_id: str,
        feature_name: str,
        value: float | None,
        timestamp: datetime.datetime,
        metadata: Mapping[str, str] | None = None,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
        ttl: int | None = None,
        written_at: datetime.datetime | None = None,
    ) -> None:
        """Writes one value.

        Args:
          model_id: The model or feature group.
          feature_name: The feature.
          value: The value; None means that it is known to be missing.
          timestamp: Aware datetime in whole milliseconds.
          metadata: Texts by name, or None to keep those of an existing row.
          entity_id: The entity, for a value of entity_features.
          consistency: That of this call, or None for that of the store.
          ttl: Seconds until the row expires, or None for the table's default.
          written_at: Since when the value has been known; see FeatureValue. None for now.

        Raises:
          ValueError: An argument breaks its rule.
          WriteError: The cluster did not accept the row.
        """
        finished(
            self._writes.write(
                model_id, feature_name, value, timestamp, metadata, entity_id, consistency, ttl, written_at
            )
        )

    def write_features(
        self,
        rows: Iterable[FeatureValue] | Any,
        *,
        concurrency: int = 128,
        consistency: str | None = None,
        ttl: int | None = None,
        written_at: datetime.datetime | None = None,
    ) -> WriteResults:
        """Writes many values with a bounded number of requests in flight, and returns the outcome of each.

        FeatureValues are consumed in the caller's thread, the next one as soon as an earlier one is done. If the input
        raises, the rows before it are sent and waited for, and then the error is raised. A frame is the fast way: its
        rows are sent in batches of one partition. A row without metadata keeps those, and the user_id, that are stored.

        Args:
          rows: FeatureValues, or a frame (pyarrow.RecordBatch or Table, DataFrame of polars or pandas) with the columns
            model_id, feature_name, timestamp (with a time zone) and value, and any of metadata, written_at, and
            entity_id (then all rows are of entity_features).
          concurrency: The maximum number of writes in flight, of FeatureValues.
          consistency: That of this call, or None for that of the store.
          ttl: Seconds until the rows expire, or None for the table's default.
          written_at: The `written_at` of rows that have none; None for the time of the write.

        Returns:
          One result per row, in the order of the input.

        Raises:
          ValueError: An argument breaks its rule, a row is not a FeatureValue, or a frame's columns are not these.
        """
        return finished(self._writes.write_all(rows, concurrency, consistency, ttl, written_at))

    def delete_features(
        self,
        model_id: str,
        feature_name: str,
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
        written_at: datetime.datetime | None = None,
    ) -> None:
        """Deletes the values of a feature in a window, by one range tombstone in each partition.

        Args:
          model_id: The model or feature group.
          feature_name: The feature.
          window: Half-open: a value at its start is deleted, one at its end is not.
          entity_id: The entity, for values of entity_features.
          consistency: That of this call, or None for that of the store.
          written_at: What was written until then is deleted, what is written later stays; None for now.

        Raises:
          ValueError: An argument breaks its rule.
          WriteError: The cluster did not accept the deletion.
        """
        finished(self._writes.delete(model_id, feature_name, window, entity_id, consistency, written_at))

    def get_latest_feature(
        self,
        model_id: str,
        feature_name: str,
        *,
        entity_id: str | None = None,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> FeatureValue | None:
        """Returns the newest value of one feature, or None if it has none: see `get_latest_features`."""
        return finished(self._reads.latest(model_id, [feature_name], entity_id, before, consistency))[feature_name]

    def get_latest_features(
        self,
        model_id: str,
        feature_names: Iterable[str],
        *,
        entity_id: str | None = None,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> dict[str, FeatureValue | None]:
        """Returns the newest value of each of several features.

        Args:
          model_id: The model or feature group.
          feature_names: The features.
          entity_id: The entity, for values of entity_features.
          before: The exclusive upper bound of the timestamp; None for no bound.
          consistency: That of this call, or None for that of the store.

        Returns:
          By name, in the order given: the newest value that Python can represent, or None where there is none.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer for one of them.
        """
        return finished(self._reads.latest(model_id, feature_names, entity_id, before, consistency))

    def get_latest_frame(
        self,
        model_ids: str | Iterable[str],
        feature_names: Iterable[str],
        *,
        entity_ids: Iterable[str] | None = None,
        before: datetime.datetime | None = None,
        timestamps: bool = False,
        as_: Form = 'arrow',
        consistency: str | None = None,
    ) -> Any:
        """Returns the newest values of several features of many models or entities as one frame.

        Args:
          model_ids: The models or feature groups; one, where there are entity_ids.
          feature_names: The features.
          entity_ids: The entities, for values of entity_features.
          before: The exclusive upper bound of the timestamps; None for no bound.
          timestamps: Whether to add a column `timestamp(FEATURE)` for each feature.
          as_: 'arrow' (pyarrow.Table), 'polars' or 'pandas'.
          consistency: That of this call, or None for that of the store.

        Returns:
          (models, 1 + features) with the column model_id, or (entities, 2 + features) with entity_id and model_id; one
          row for each model or entity given, in that order, and one column of doubles for each feature. Null is a
          feature without a value, or one known to be missing: only the latter has a timestamp.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer for one of them.
        """
        return finished(
            self._reads.latest_frame(model_ids, feature_names, entity_ids, before, timestamps, as_, consistency)
        )

    def get_time_series(
        self,
        model_id: str,
        feature_name: str,
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
    ) -> Iterator[FeatureValue]:
        """Returns the values of a feature in a window, oldest first, read page by page during iteration.

        Args:
          model_id: The model or feature group.
          feature_name: The feature.
          window: Half-open: a value at its start is included, one at its end is not.
          entity_id: The entity, for values of entity_features.
          consistency: That of this call, or None for that of the store.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer; raised during iteration.
        """
        return iterated(self._reads.series(model_id, feature_name, window, entity_id, consistency))

    def get_time_series_frame(
        self,
        model_id: str,
        feature_names: Iterable[str],
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        as_: Form = 'arrow',
        consistency: str | None = None,
    ) -> Any:
        """Returns the values of several features in a window as one frame, which is held in memory.

        Args:
          model_id: The model or feature group.
          feature_names: The features.
          window: Half-open: a value at its start is included, one at its end is not.
          entity_id: The entity, for values of entity_features.
          as_: See `get_latest_frame`.
          consistency: That of this call, or None for that of the store.

        Returns:
          (moments, 1 + features): timestamp, oldest first, of each moment at which a feature has a value, and a column
          of doubles for each feature; null where it has no value at that moment.

        Raises:
          ValueError: An argument breaks its rule.
          ReadError: The cluster did not answer for one of them.
        """
        return finished(self._reads.series_frame(model_id, feature_names, window, entity_id, as_, consistency))
