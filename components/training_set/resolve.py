"""Resolves the spans of a training set to a window when the component runs."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.dataset.spec import span as spans
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.source import describe, source_of
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import EPOCH, TimeWindow

# Placeholder to check the other options with, if the window is not known yet.
_PLACEHOLDER_WINDOW = TimeWindow(EPOCH, EPOCH + spans.DAY)


def windowed(settings: TrainingSetOptions, now: datetime.datetime | None = None) -> TrainingSetOptions:
    """Returns the options with a window: their own, or that of their spans.

    A rolling range is replaced by the fixed spans `first` to `last`, and the latest backup by its name, so that
    resolving again gives the same.

    Args:
      settings: The options.
      now: The current time; None for the clock's.

    Raises:
      ValueError: A fixed span is not complete, or as_of is in the future.
      DatasetError: A rolling range finds no complete span with data.
      SchemaError, ReadError: The table could not be queried.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    if settings.as_of is not None and settings.as_of > now:
        raise invalid('as_of', settings.as_of.isoformat(), f'not in the future (it is {now.isoformat()})')
    if settings.source is not None:
        backup = describe(_main(settings)).request.connection
        settings = dataclasses.replace(settings, source=backup.backup)  # type: ignore[union-attr]  # of BackupTables
        now = moment(settings)
    if settings.window is not None or settings.span is None:
        return settings
    reference = min(now, settings.as_of or now)

    def has_data(window: TimeWindow) -> bool:
        return probe.has_rows(_main(dataclasses.replace(settings, window=window)))

    resolved = spans.resolve(settings.span, reference, has_data, _main(settings).full_table)
    fixed = dataclasses.replace(settings.span, first=resolved.first, last=resolved.last, count=None, skip=0)
    return dataclasses.replace(settings, window=resolved.window, span=fixed)


def moment(settings: TrainingSetOptions) -> datetime.datetime:
    """Returns the moment of what is read: the current time, or that of the backup."""
    main = _main(settings)
    return source_of(main.connection).moment(main)


def _main(settings: TrainingSetOptions) -> ReadRequest:
    """Returns the scan of the table whose rows are the examples."""
    main = settings.labels if settings.labels is not None else settings.views[0]
    window = settings.window or _PLACEHOLDER_WINDOW
    return settings.request(main.table, main.columns, window, main.timestamp_column, main.filters)


def check(settings: TrainingSetOptions) -> None:
    """Raises ValueError for options that are wrong for every cluster."""
    sources.check(settings)
    if settings.as_of is not None and settings.join_plan == 'lookup':
        raise invalid('join_plan', settings.join_plan, "'scan' or 'auto' with as_of: a lookup reads current values")
    if settings.source is not None:
        _check_backup(settings)
    if settings.history is not None:
        _check_history(settings, settings.history)
    _main(settings)
    if (settings.window is None) == (settings.span is None):
        raise invalid('window', settings.window and str(settings.window), 'either window or span')


def _check_backup(settings: TrainingSetOptions) -> None:
    """Raises ValueError for options that only a live cluster has."""
    if settings.join_plan == 'lookup':
        raise invalid('join_plan', settings.join_plan, "'scan' or 'auto' with a backup, which is not read by key")
    for name in ('rows_per_second', 'bytes_per_second'):
        if (got := getattr(settings.read, name)) is not None:
            raise invalid(name, got, 'None with a backup, which loads no server')


def _check_history(settings: TrainingSetOptions, history: int) -> None:
    if settings.labels is None or not settings.sequences:
        raise invalid('history', history, 'given with labels and a view that has a timestamp_column')
    if settings.join_plan == 'lookup':
        raise invalid(
            'join_plan', settings.join_plan, "'scan' or 'auto' with history: a lookup reads only the newest value"
        )
    timed = [view for view in settings.views if view.timestamp_column is not None]
    if defaults := [f.name for view in timed for f in view.full_features if f.default is not None]:
        raise invalid('default', defaults, 'none with history: a list holds known values only')
