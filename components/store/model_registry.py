"""The versions of each model: a number claimed before the model is copied, a row recorded once it is in place.

`model_claims` says which number belongs to which model files; only lightweight transactions write it, so any number
of pushers agree. `model_versions` holds the facts of each version, written once.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from cassandra import ConsistencyLevel, InvalidRequest, RequestValidationException
from cassandra.query import BatchStatement

from tfx_cassandra.components.dataset.window import TimeWindow, whole_milliseconds
from tfx_cassandra.components.errors import RegistryError, SchemaError, invalid
from tfx_cassandra.components.scan.query import quoted
from tfx_cassandra.components.store import connection as connections
from tfx_cassandra.components.store.connection import CassandraConnection
from tfx_cassandra.components.store.driver_errors import DRIVER_ERRORS, one_line

T = TypeVar('T')

_ATTEMPTS = 30
_FIRST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 2.0  # seconds


@dataclasses.dataclass(frozen=True)
class Claim:
    """The number that belongs to one model's files, and the moment that number stands for."""

    version: int
    created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """One row of `model_versions`.

    Attributes:
      experiment_id: What the version is compared within; the partition of the row.
      model_id: The model the version is one of.
      version: The version as text: digits for a version claimed here.
      created_at: Aware datetime, whole milliseconds.
      metrics: Value by metric key.
      ab_test_group: The arm the version serves in an A/B test.
      digest: SHA-256 over the files of the model.
      model_uri: The directory the model is served from.
      pipeline_run: The pipeline run that pushed it.
      examples_fingerprint: What identifies the rows of the examples it was trained on.
      examples_window: The window of event time of those examples.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    experiment_id: str
    model_id: str
    version: str
    created_at: datetime.datetime
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ab_test_group: str | None = None
    digest: str | None = None
    model_uri: str | None = None
    pipeline_run: str | None = None
    examples_fingerprint: str | None = None
    examples_window: str | None = None

    def __post_init__(self) -> None:
        for field in ('experiment_id', 'model_id', 'version'):
            named(field, getattr(self, field))
        whole_milliseconds('created_at', self.created_at)


_COLUMNS = tuple(field.name for field in dataclasses.fields(ModelVersion))
_SELECT = f'SELECT {", ".join(_COLUMNS)} FROM {{keyspace}}.model_versions WHERE experiment_id = ?'
_CQL = {
    'claimed': 'SELECT version, created_at FROM {keyspace}.model_claims'
    ' WHERE experiment_id = ? AND model_id = ? AND digest = ?',
    'last': 'SELECT last_version FROM {keyspace}.model_claims WHERE experiment_id = ? AND model_id = ? LIMIT 1',
    'claim': 'INSERT INTO {keyspace}.model_claims (experiment_id, model_id, digest, version, created_at)'
    ' VALUES (?, ?, ?, ?, ?) IF NOT EXISTS',
    'advance': 'UPDATE {keyspace}.model_claims SET last_version = ? WHERE experiment_id = ? AND model_id = ?'
    ' IF last_version = ?',
    'record': f'INSERT INTO {{keyspace}}.model_versions ({", ".join(_COLUMNS)})'
    f' VALUES ({", ".join("?" * len(_COLUMNS))}) IF NOT EXISTS',
    'versions': _SELECT,
    'versions_within': f'{_SELECT} AND created_at >= ? AND created_at < ?',
}


class ModelRegistry:
    """Claims, records and lists model versions; a context manager that holds the process's session.

    Args:
      connection: The cluster and keyspace that hold `model_versions` and `model_claims`.
    """

    def __init__(self, connection: CassandraConnection) -> None:
        self._connection = connection

    def __enter__(self) -> ModelRegistry:
        self._session = connections.acquire(self._connection)
        keyspace = quoted(self._connection.keyspace)
        try:
            self._statements = {
                name: self._session.prepare(cql.format(keyspace=keyspace)) for name, cql in _CQL.items()
            }
        except InvalidRequest as error:
            connections.release(self._connection)
            rule = f'a keyspace with the schema applied ({one_line(error)})'
            raise SchemaError(f'keyspace: got {self._connection.keyspace!r}, rule: {rule}') from error
        except DRIVER_ERRORS as error:
            connections.release(self._connection)
            raise RegistryError(f'connection: got {self._connection}, rule: it answers ({one_line(error)})') from error
        # SERIAL, not LOCAL_SERIAL: pushers in two data centers must agree, and a push can wait for the round trip.
        # A SERIAL read also settles a transaction that a timed-out writer left open.
        for name in ('claimed', 'last'):
            self._statements[name].consistency_level = ConsistencyLevel.SERIAL
        self._statements['record'].serial_consistency_level = ConsistencyLevel.SERIAL
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connections.release(self._connection)

    def claim(self, experiment_id: str, model_id: str, digest: str) -> Claim:
        """Returns the version of one model's files, claiming a new one the first time.

        The same digest has the same version for ever, whoever asks and however often. Different digests of a model
        have different versions, each greater than those claimed before it: the current Unix time in seconds, or the
        last version plus one where that is greater. So a version is a positive int64, as TensorFlow Serving wants,
        and its moment is unique among the model's versions, as the key of `model_versions` wants.

        Raises:
          RegistryError: The cluster did not settle the claim within the attempts made.
        """
        for field, value in (('experiment_id', experiment_id), ('model_id', model_id), ('digest', digest)):
            named(field, value)
        what = f'model_id: got {model_id!r}, rule: its version can be claimed'
        return self._settled(lambda: self._claim_once(experiment_id, model_id, digest), what)

    def record(self, version: ModelVersion) -> ModelVersion:
        """Writes a version's row unless it is there, and returns the row as it stands.

        The first record stays: a row states facts, and metrics added to it later must survive a push repeated.

        Raises:
          RegistryError: The row's key holds another version, or the cluster did not settle the write.
        """
        what = f'version: got {version.version!r}, rule: it can be recorded'
        stored = self._settled(lambda: self._record_once(version), what)
        if (stored.version, stored.digest) != (version.version, version.digest):
            key = f'{version.experiment_id}, {version.created_at.isoformat()}, {version.model_id}'
            rule = f'the row ({key}) is free, but it holds version {stored.version!r} with digest {stored.digest!r}'
            raise RegistryError(f'version: got {version.version!r} with digest {version.digest!r}, rule: {rule}')
        return stored

    def get(self, experiment_id: str, model_id: str, version: str) -> ModelVersion | None:
        """Returns one version of a model, or None."""
        rows = self._versions(experiment_id)
        return next((row for row in rows if row.model_id == model_id and row.version == version), None)

    def latest(self, experiment_id: str, model_id: str) -> ModelVersion | None:
        """Returns the newest recorded version of a model, or None."""
        return next((row for row in self._versions(experiment_id) if row.model_id == model_id), None)

    def list(self, experiment_id: str, window: TimeWindow | None = None) -> tuple[ModelVersion, ...]:
        """Returns an experiment's versions, newest first; with a window, those created in [start, end)."""
        return tuple(self._versions(experiment_id, window))

    def _claim_once(self, experiment_id: str, model_id: str, digest: str) -> Claim | None:
        """Returns the claim, or None where another pusher of the model came between reading and writing."""
        model = (experiment_id, model_id)
        held = self._execute('claimed', *model, digest).one()
        if held is not None:
            return Claim(held.version, _utc(held.created_at))
        row = self._execute('last', *model).one()
        last = None if row is None else row.last_version
        claim = Claim(version := next_version(time.time(), last), moment(version))
        # One conditional batch in one partition: the claim and the counter move together or not at all.
        batch = BatchStatement(serial_consistency_level=ConsistencyLevel.SERIAL)
        batch.add(self._statements['claim'], (*model, digest, claim.version, claim.created_at))
        batch.add(self._statements['advance'], (claim.version, *model, last))
        return claim if self._session.execute(batch).was_applied else None

    def _record_once(self, version: ModelVersion) -> ModelVersion:
        result = self._execute('record', *(getattr(version, column) for column in _COLUMNS))
        return version if result.was_applied else _version(result.one())

    def _settled(self, attempt: Callable[[], T | None], what: str) -> T:
        """Repeats an attempt until its outcome is known; every attempt is safe to repeat.

        A transaction that timed out may have been applied or not, so the attempt is made anew: it reads first, or
        is conditional on the row being absent.
        """
        reason = 'other pushers came first each time'
        for number in range(_ATTEMPTS):
            try:
                outcome = attempt()
            except RequestValidationException as error:
                raise RegistryError(f'{what} ({one_line(error)})') from error
            except DRIVER_ERRORS as error:
                reason = one_line(error)
            else:
                if outcome is not None:
                    return outcome
            time.sleep(random.uniform(0, longest_pause(number)))
        raise RegistryError(f'{what} within {_ATTEMPTS} attempts ({reason})')

    def _versions(self, experiment_id: str, window: TimeWindow | None = None) -> Iterator[ModelVersion]:
        named('experiment_id', experiment_id)
        try:
            if window is None:
                rows = self._execute('versions', experiment_id)
            else:
                rows = self._execute('versions_within', experiment_id, *window.bounds)
            yield from map(_version, rows)
        except DRIVER_ERRORS as error:
            rule = f'its versions can be read ({one_line(error)})'
            raise RegistryError(f'experiment_id: got {experiment_id!r}, rule: {rule}') from error

    def _execute(self, statement: str, *values: object) -> Any:
        return self._session.execute(self._statements[statement], values)


def named(field: str, value: object) -> str:
    """Returns `value` if it is a non-empty text; raises ValueError naming `field` if not."""
    if not isinstance(value, str) or not value:
        raise invalid(field, value, 'a non-empty text')
    return value


def next_version(now: float, last: int | None) -> int:
    """Returns the version that follows `last` (None for a model without one) at `now`, in Unix seconds."""
    return max(int(now), (last or 0) + 1)


def moment(version: int) -> datetime.datetime:
    """Returns the moment a claimed version stands for: the version as Unix seconds."""
    return datetime.datetime.fromtimestamp(version, datetime.timezone.utc)


def longest_pause(attempt: int) -> float:
    """Returns the seconds below which the random pause after an attempt (from 0) stays."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)


def _version(row: Any) -> ModelVersion:
    values = {column: getattr(row, column) for column in _COLUMNS}
    metrics = dict(values.pop('metrics') or {})
    return ModelVersion(**values | {'created_at': _utc(values['created_at']), 'metrics': metrics})


def _utc(naive: datetime.datetime) -> datetime.datetime:
    return naive.replace(tzinfo=datetime.timezone.utc)
