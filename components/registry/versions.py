"""Model versions: one row each, written once its directory is complete; metrics and a verdict are added later."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from cassandra.query import UNSET_VALUE

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.responses import checked_row, utc
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.registry.claims import Claim, moment, named
from tfx_cassandra.components.registry.session import RegistrySession
from tfx_cassandra.components.window import TimeWindow, whole_milliseconds

# The pipeline run in a row that repair wrote, which lacks what only the pusher knew.
REPAIRED = 'repair'
# The verdicts of an A/B test on a version.
VERDICTS = ('ship', 'hold', 'harm', 'invalid')

_log = logging.getLogger(__name__)
_MAX_SECONDS = 253_402_300_799  # Unix time at the end of the year 9999, where Python's datetime ends


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """One row of `model_versions`.

    Attributes:
      experiment_id: The experiment whose versions are compared; the partition key.
      model_id: The model.
      version: The version as text: digits for a version claimed here.
      created_at: Aware datetime in whole milliseconds.
      metrics: Values by metric key.
      ab_test_group: The arm that the version serves in an A/B test.
      digest: SHA-256 over the files of the model.
      model_uri: The directory that the model is served from.
      pipeline_run: The pipeline run that pushed it.
      examples_fingerprint: The fingerprint of the examples it was trained on.
      examples_window: The window of event time of those examples.
      gates: The gates that its first push passed, sorted: of `infra_blessing`, `model_blessing` and `verdict`.
      evaluation_uri: The Evaluator's output that `metrics` was read from.
      verdict: The verdict of an A/B test on it: one of `VERDICTS`, or None before a test.
      examples_backup: The backup that its examples were made of, as NAME@DIGEST; None for those read from a cluster.

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
    gates: tuple[str, ...] = ()
    evaluation_uri: str | None = None
    verdict: str | None = None
    examples_backup: str | None = None

    def __post_init__(self) -> None:
        for field in ('experiment_id', 'model_id', 'version'):
            named(field, getattr(self, field))
        whole_milliseconds('created_at', self.created_at)


_COLUMNS = tuple(field.name for field in dataclasses.fields(ModelVersion))
_SELECT = f'SELECT {", ".join(_COLUMNS)} FROM {{keyspace}}.model_versions WHERE experiment_id = ?'
_KEY = 'experiment_id = ? AND created_at = ? AND model_id = ?'


class ModelVersions:
    """Reads and writes `model_versions`; see ModelRegistry for what its methods guarantee."""

    STATEMENTS: ClassVar[dict[str, str]] = {
        'record': f'INSERT INTO {{keyspace}}.model_versions ({", ".join(_COLUMNS)})'
        f' VALUES ({", ".join("?" * len(_COLUMNS))}) IF NOT EXISTS',
        # Conditional on the version: otherwise a key without a row would get a row of metrics only.
        'add': 'UPDATE {keyspace}.model_versions SET metrics = metrics + ?, ab_test_group = ?, verdict = ?'
        f' WHERE {_KEY} IF version = ?',
        'complete': 'UPDATE {keyspace}.model_versions SET metrics = metrics + ?, ab_test_group = ?, model_uri = ?,'
        ' pipeline_run = ?, examples_fingerprint = ?, examples_window = ?, examples_backup = ?, gates = ?,'
        ' evaluation_uri = ?'
        f' WHERE {_KEY} IF version = ? AND pipeline_run = ?',
        'version': f'{_SELECT} AND created_at = ? AND model_id = ?',
        'versions': _SELECT,
        'versions_within': f'{_SELECT} AND created_at >= ? AND created_at < ?',
        'newest_versions': f'{_SELECT} AND created_at < ? LIMIT ?',
        'experiments': 'SELECT DISTINCT experiment_id FROM {keyspace}.model_versions LIMIT ?',
    }
    SERIAL_READS: ClassVar[dict[str, str]] = {
        'recorded_version': f'{_SELECT} AND created_at = ? AND model_id = ?',
        'recorded_versions': _SELECT,
    }

    def __init__(self, session: RegistrySession) -> None:
        self._session = session

    def record(self, version: ModelVersion) -> ModelVersion:
        """Writes a version's row unless it exists, and returns the stored row."""
        message = f'version: got {version.version!r}, rule: it can be recorded'
        stored = self._session.settle(lambda: self._record_once(version), message)
        if (stored.version, stored.digest) != (version.version, version.digest):
            key = f'{version.experiment_id}, {version.created_at.isoformat()}, {version.model_id}'
            rule = f'the row ({key}) is free, but it holds version {stored.version!r} with digest {stored.digest!r}'
            raise RegistryError(f'version: got {version.version!r} with digest {version.digest!r}, rule: {rule}')
        if stored.pipeline_run != REPAIRED or version.pipeline_run == REPAIRED:
            return stored
        self._session.settle(lambda: self._complete_once(version), message)
        return self.recorded(version.experiment_id, version.model_id, version.version)

    def add_metrics(
        self,
        experiment_id: str,
        model_id: str,
        version: str,
        metrics: Mapping[str, float],
        ab_test_group: str | None = None,
        verdict: str | None = None,
    ) -> ModelVersion:
        """Adds metrics to a recorded version, and returns the stored row."""
        _check_metrics(metrics)
        if ab_test_group is not None:
            named('ab_test_group', ab_test_group)
        if verdict is not None and verdict not in VERDICTS:
            raise invalid('verdict', verdict, f'one of {", ".join(VERDICTS)}')
        key = self.recorded(experiment_id, model_id, version)
        added = [
            dict(metrics),
            UNSET_VALUE if ab_test_group is None else ab_test_group,
            UNSET_VALUE if ab_test_group is None and verdict is None else verdict,
        ]
        message = f'version: got {version!r}, rule: its metrics can be added'
        self._session.settle(
            lambda: self._session.execute('add', *added, experiment_id, key.created_at, model_id, version), message
        )
        return self.recorded(experiment_id, model_id, version)

    def get(self, experiment_id: str, model_id: str, version: str) -> ModelVersion | None:
        """Returns one version of a model, or None."""
        return self._find(('version', 'versions'), experiment_id, model_id, version)

    def recorded(self, experiment_id: str, model_id: str, version: str) -> ModelVersion:
        """Returns one version of a model, read with SERIAL consistency, so that a write may be based on it."""
        row = self._find(('recorded_version', 'recorded_versions'), experiment_id, model_id, version)
        if row is None:
            rule = f'a recorded version of {model_id!r} in experiment {experiment_id!r}'
            raise RegistryError(f'version: got {version!r}, rule: {rule}')
        return row

    def is_recorded(self, experiment_id: str, model_id: str, claim: Claim) -> bool:
        """Returns whether the version of a claim has a row."""
        rows = self._rows('recorded_version', experiment_id, claim.created_at, model_id)
        return any(row.version == str(claim.version) for row in rows)

    def latest(self, experiment_id: str, model_id: str) -> ModelVersion | None:
        """Returns the newest recorded version of a model, or None."""
        return next((row for row in self._versions(experiment_id) if row.model_id == model_id), None)

    def list(self, experiment_id: str, window: TimeWindow | None = None) -> tuple[ModelVersion, ...]:
        """Returns an experiment's versions, newest first; with a window, those created in [start, end)."""
        return tuple(self._versions(experiment_id, window))

    def newest(
        self, experiment_id: str, limit: int, before: datetime.datetime | None = None
    ) -> tuple[ModelVersion, ...]:
        """Returns at most `limit` versions of an experiment, newest first, of those created before a moment."""
        named('experiment_id', experiment_id)
        end = (_MAX_SECONDS + 1) * 1000 if before is None else whole_milliseconds('before', before)
        return tuple(self._rows('newest_versions', experiment_id, end, limit))

    def experiments(self, limit: int) -> tuple[str, ...]:
        """Returns the ids of at most `limit` experiments, sorted."""
        try:
            return tuple(sorted(str(row.experiment_id) for row in self._session.execute('experiments', limit)))
        except DRIVER_ERRORS as error:
            raise RegistryError(f'experiments: got {limit}, rule: they can be read ({one_line(error)})') from error

    def _find(
        self, statements: tuple[str, str], experiment_id: str, model_id: str, version: str
    ) -> ModelVersion | None:
        """Finds a version by the first statement, which reads one row, or by the second, which reads the experiment."""
        for field, value in (('experiment_id', experiment_id), ('model_id', model_id), ('version', version)):
            named(field, value)
        read_row, read_experiment = statements
        if version.isdecimal() and int(version) <= _MAX_SECONDS:
            # The key of a version that was claimed here is the moment of its number.
            found = self._rows(read_row, experiment_id, moment(int(version)), model_id)
            if (row := next(found, None)) and row.version == version:
                return row
        rows = self._rows(read_experiment, experiment_id)
        return next((row for row in rows if row.model_id == model_id and row.version == version), None)

    def _record_once(self, version: ModelVersion) -> ModelVersion:
        result = self._session.execute('record', *(getattr(version, column) for column in _COLUMNS))
        if result.was_applied:
            return version
        try:
            return _version(result.one())
        except ValueError as error:
            key = f'{version.experiment_id}, {version.created_at.isoformat()}, {version.model_id}'
            rule = f'the row ({key}) is free, but it holds no version ({error})'
            raise RegistryError(f'version: got {version.version!r}, rule: {rule}') from error

    def _complete_once(self, version: ModelVersion) -> Any:
        facts = (
            dict(version.metrics),
            UNSET_VALUE if version.ab_test_group is None else version.ab_test_group,
            version.model_uri,
            version.pipeline_run,
            version.examples_fingerprint,
            version.examples_window,
            version.examples_backup,
            version.gates,
            version.evaluation_uri,
        )
        key = (version.experiment_id, version.created_at, version.model_id)
        return self._session.execute('complete', *facts, *key, version.version, REPAIRED)

    def _versions(self, experiment_id: str, window: TimeWindow | None = None) -> Iterator[ModelVersion]:
        named('experiment_id', experiment_id)
        if window is None:
            return self._rows('versions', experiment_id)
        return self._rows('versions_within', experiment_id, *window.bounds)

    def _rows(self, statement: str, experiment_id: str, *values: object) -> Iterator[ModelVersion]:
        for row in self._read(statement, experiment_id, *values):
            try:
                version = _version(row)
            except ValueError as error:
                # Other clients write the table, too, and an invalid row must not hide the valid ones.
                key = f'{experiment_id!r}, {row.created_at}, {row.model_id!r}'
                _log.warning('Row (%s) of model_versions is skipped: %s', key, error)
            else:
                yield version

    def _read(self, statement: str, experiment_id: str, *values: object) -> Iterator[Any]:
        message = f'experiment_id: got {experiment_id!r}, rule: its versions can be read'
        if statement in self.SERIAL_READS:
            # A SERIAL read first completes the open transactions of other pushers, and may time out on them.
            yield from self._session.settle(
                lambda: (self._session.execute(statement, experiment_id, *values).all(),), message
            )[0]
            return
        try:
            yield from self._session.execute(statement, experiment_id, *values)
        except DRIVER_ERRORS as error:
            raise RegistryError(f'{message} ({one_line(error)})') from error


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for key, value in metrics.items():
        named('metrics', key)
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not math.isfinite(value):
            raise invalid(f'metrics[{key!r}]', value, 'a finite number')


def _version(row: Any) -> ModelVersion:
    """Builds a version; raises ValueError for a row without one, or with a value that Python cannot represent."""
    checked_row(row)
    values = {column: getattr(row, column) for column in _COLUMNS}
    values['metrics'] = dict(values['metrics'] or {})
    values['gates'] = tuple(values['gates'] or ())
    return ModelVersion(**values | {'created_at': utc('created_at', values['created_at'])})
