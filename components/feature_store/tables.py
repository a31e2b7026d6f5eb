"""The tables feature_store and entity_features: their statements, and the keys in messages.

A value's key is (model_id, feature_name) in feature_store and (entity_id, model_id, feature_name) in entity_features.
All but the feature is the owner: (model_id,) or (entity_id, model_id).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.policies import HostDistance
from cassandra.query import UNSET_VALUE, BoundStatement, PreparedStatement

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError, SchemaError, WriteError
from tfx_cassandra.components.feature_store.placing import Place, Placing
from tfx_cassandra.components.feature_store.value import FeatureValue
from tfx_cassandra.components.window import EPOCH, MICROSECOND, milliseconds

FEATURE_STORE, ENTITY_FEATURES = 'feature_store', 'entity_features'
OWNERS = {FEATURE_STORE: ('model_id',), ENTITY_FEATURES: ('entity_id', 'model_id')}
# Features in one request, at most; Astra warns at more.
_FEATURES = 25
_DATETIME_RANGE = (-62_135_596_800_000, 253_402_300_800_000)  # milliseconds of the years 1 to 9999, end excluded

Owner = tuple[str, ...]


class Row(NamedTuple):
    """A row as it is read; a value that the driver cannot decode is an `Unreadable`."""

    model_id: Any
    feature_name: Any
    timestamp: Any
    value: Any
    metadata: Any


def rows(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> list[Any]:
    """A row factory of the driver, whose own makes a class for each page; rows of other tables stay tuples."""
    return [*map(Row._make, values)] if len(names) == len(Row._fields) else [*values]


class _Group(BoundStatement):
    """A read of several partitions of one replica, which the driver does not find by itself."""

    _replicas_key = b''

    @property
    def routing_key(self) -> bytes:
        return self._replicas_key


class FeatureTable:
    """One of the two tables, with its prepared statements.

    Args:
      session: The driver's session.
      keyspace: Its keyspace.
      name: 'feature_store' or 'entity_features'.

    Attributes:
      table: Its live definition.
      name: KEYSPACE.TABLE.
      placing: In which partitions its values are.

    Raises:
      SchemaError: The table is not there, or lacks a column.
      ReadError: No node prepares a statement.
    """

    def __init__(self, session: Session, keyspace: str, name: str) -> None:
        self.name, self.owner = f'{keyspace}.{name}', OWNERS[name]
        try:
            self.table = tables.describe(session, keyspace, name)
        except SchemaError as error:
            raise SchemaError(f'{self.name}: {error}; `tfx-cassandra schema apply` creates it') from error
        self.placing = Placing(session, self.table)
        written = _statements(self.owner, name == FEATURE_STORE, self.placing.columns)
        try:
            self._statements = {
                key: _prepared(session, cql.replace('{table}', f'{quoted(keyspace)}.{quoted(name)}'))
                for key, cql in written.items()
            }
        except InvalidRequest as error:
            rule = f'{one_line(error)}; `tfx-cassandra schema apply` creates it'
            raise SchemaError(f'{self.name}: {rule}') from error
        except DRIVER_ERRORS as error:
            raise ReadError(f'{self.name}: {one_line(error)}') from error
        self._metadata, self._keyspace = session.cluster.metadata, keyspace
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT)
        self._distance = profile.load_balancing_policy.distance

    def write(self, row: FeatureValue, ttl: int | None, written_at: int | None, level: int) -> BoundStatement:
        """Returns the statement that writes a value.

        Args:
          row: The value.
          ttl: Seconds until it expires, or None.
          written_at: The write time in microseconds since 1970 of a row that has none, or None.
          level: The driver's number of the consistency level.
        """
        if row.written_at is not None:
            written_at = microseconds(row.written_at)
        # An unset value writes nothing; a null would write a tombstone. A value of None is written as a null.
        moment = milliseconds('timestamp', row.timestamp)
        cells = [
            *self.key(row),
            *self.placing.place(self.key(row), moment),
            moment,
            row.value,
            UNSET_VALUE if row.metadata is None else row.metadata,
        ]
        if len(self.owner) == 1:
            cells.append(UNSET_VALUE if row.user_id is None else row.user_id)
        cells += [UNSET_VALUE if ttl is None else ttl, UNSET_VALUE if written_at is None else written_at]
        return self._bound('write', cells, level)

    def delete(
        self, owner: Owner, feature: str, bounds: tuple[int, int], written_at: int | None, level: int
    ) -> list[BoundStatement]:
        """Returns the statements that delete a range of timestamps, [start, end) in milliseconds: one a partition.

        They are of all buckets of the range, so that what arrives later with an earlier write time stays deleted.

        Raises:
          ValueError: The range has too many buckets.
        """
        at = UNSET_VALUE if written_at is None else written_at
        places = itertools.chain(*self.placing.places((*owner, feature), self.placing.every(bounds)))
        return [self._bound('delete', (at, *owner, feature, *place, *bounds), level) for place in places]

    def series(
        self, owner: Owner, feature: str, bounds: tuple[int, int], buckets: Sequence[int], level: int
    ) -> list[list[BoundStatement]]:
        """Returns the statements that read a range of timestamps, [start, end) in milliseconds.

        Args:
          owner: The owner.
          feature: The feature.
          bounds: The range.
          buckets: The known buckets of the table, newest first.
          level: The driver's number of the consistency level.

        Returns:
          Oldest first, for each bucket a statement for each salt; each reads its rows oldest first.
        """
        groups = self.placing.places((*owner, feature), self.placing.known(buckets, *bounds)[::-1])
        return [
            [self._bound('series', (*owner, feature, *place, *bounds), level) for place in group] for group in groups
        ]

    def latest(
        self, owner: Owner, features: Sequence[str], end: int | None, level: int
    ) -> Iterator[tuple[tuple[str, ...], BoundStatement]]:
        """Yields the reads of the newest rows of some features: the features of each, and its statement.

        Features whose partitions have the same first replica are read by one request to it.

        Args:
          owner: The owner.
          features: The features.
          end: The exclusive upper bound of the timestamp in milliseconds, or None.
          level: The driver's number of the consistency level.
        """
        bounds, suffix = ((), '') if end is None else ((end,), ' before')
        for names, key in self._of_one_replica(owner, features):
            if len(names) == 1:
                yield names, self._bound(f'latest{suffix}', (*owner, names[0], *bounds), level)
                continue
            group = _Group(self._statements[f'latest in{suffix}']).bind((*owner, list(names), *bounds))
            group._replicas_key, group.consistency_level = key, level
            yield names, group

    def latest_in(self, owner: Owner, feature: str, place: Place, end: int | None, level: int) -> BoundStatement:
        """Returns the read of the newest row of one place."""
        bounds, suffix = ((), '') if end is None else ((end,), ' before')
        return self._bound(f'latest{suffix}', (*owner, feature, *place, *bounds), level)

    def latest_of_many(self, owner: Owner, feature: str, place: Place, end: int | None, level: int) -> BoundStatement:
        """Returns the read of the rows of one place with a timestamp that a datetime represents, newest first."""
        start, stop = _DATETIME_RANGE
        return self._bound('latest of many', (*owner, feature, *place, start, stop if end is None else end), level)

    def _of_one_replica(self, owner: Owner, features: Sequence[str]) -> Iterator[tuple[tuple[str, ...], bytes]]:
        """Yields groups of features with the key of one of their partitions."""
        if len(features) == 1 or not self.table.descending:  # a read of several partitions cannot reverse their order
            yield from (((feature,), b'') for feature in features)
            return
        groups: dict[Any, list[tuple[str, bytes]]] = {}
        for feature in features:
            key = b''.join(_packed(part.encode()) for part in (*owner, feature))
            replicas = self._metadata.get_replicas(self._keyspace, key)
            near = (host for host in replicas if host.is_up and self._distance(host) == HostDistance.LOCAL)
            groups.setdefault(next(near, None), []).append((feature, key))
        for group in groups.values():
            for start in range(0, len(group), _FEATURES):
                part = group[start : start + _FEATURES]
                yield tuple(feature for feature, _ in part), part[0][1]

    def _bound(self, name: str, values: Sequence[object], level: int) -> BoundStatement:
        bound = self._statements[name].bind(values)
        bound.consistency_level = level
        return bound

    def key(self, row: FeatureValue) -> tuple[str, ...]:
        """Returns the partition key of a value."""
        names = (row.model_id, row.feature_name)
        return names if row.entity_id is None else (row.entity_id, *names)

    def read_error(self, owner: Owner, features: Sequence[str], error: Exception) -> ReadError:
        """Returns the error of a read."""
        failed = ReadError(f'{self.name}: cannot read {self.described(owner, features)} ({one_line(error)})')
        failed.__cause__ = error
        return failed

    def write_error(self, row: FeatureValue, error: Exception) -> WriteError:
        """Returns the error of a write."""
        key = self.described(self.key(row)[:-1], [row.feature_name])
        at = row.timestamp.isoformat()
        failed = WriteError(f'{self.name}: cannot write {key}, timestamp {at} ({one_line(error)})')
        failed.__cause__ = error
        return failed

    def delete_error(self, owner: Owner, feature: str, error: Exception) -> WriteError:
        """Returns the error of a deletion."""
        failed = WriteError(f'{self.name}: cannot delete {self.described(owner, [feature])} ({one_line(error)})')
        failed.__cause__ = error
        return failed

    def described(self, owner: Owner, features: Sequence[str]) -> str:
        """Returns keys as messages show them."""
        names = [f'{column} {part[:60]!r}' for column, part in zip(self.owner, owner, strict=True)]
        others = f' or {len(features) - 1} more' if len(features) > 1 else ''
        return ', '.join([*names, f'feature_name {features[0][:60]!r}{others}'])


def microseconds(moment: Any) -> int:
    """Returns an aware datetime in microseconds since 1970, as write times are."""
    since: int = (moment - EPOCH) // MICROSECOND
    return since


def _statements(owner: Sequence[str], with_user: bool, layout: Sequence[str]) -> dict[str, str]:
    keys = [*owner, 'feature_name', *map(quoted, layout)]
    one = ' AND '.join(f'{key} = ?' for key in keys)
    many = ' AND '.join([*(f'{key} = ?' for key in owner), 'feature_name IN ?'])
    window = 'timestamp >= ? AND timestamp < ?'
    written = [*keys, 'timestamp', 'value', 'metadata', *['user_id'] * with_user]
    select = f'SELECT {", ".join(Row._fields)} FROM {{table}} WHERE'
    # Of a table with a layout each partition is read by itself.
    grouped = (
        {}
        if layout
        else {
            'latest in': f'{select} {many} PER PARTITION LIMIT 1',
            'latest in before': f'{select} {many} AND timestamp < ? PER PARTITION LIMIT 1',
        }
    )
    return {
        **grouped,
        'write': (
            f'INSERT INTO {{table}} ({", ".join(written)}) VALUES ({", ".join("?" * len(written))}) '
            'USING TTL ? AND TIMESTAMP ?'
        ),
        'delete': f'DELETE FROM {{table}} USING TIMESTAMP ? WHERE {one} AND {window}',
        'latest': f'{select} {one} ORDER BY timestamp DESC LIMIT 1',
        'latest before': f'{select} {one} AND timestamp < ? ORDER BY timestamp DESC LIMIT 1',
        'latest of many': f'{select} {one} AND {window} ORDER BY timestamp DESC',
        'series': f'{select} {one} AND {window} ORDER BY timestamp ASC',
    }


def _prepared(session: Session, cql: str) -> PreparedStatement:
    statement = session.prepare(cql)
    # A retry writes the same row, because the driver sets the write time once.
    statement.is_idempotent = True
    return statement


def _packed(part: bytes) -> bytes:
    return len(part).to_bytes(2, 'big') + part + b'\0'
