"""What the options of a training set mean when it is made: spans become a window."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.dataset.spec import span as spans
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import EPOCH, TimeWindow

# Stands for the window where only the other options are checked.
_SOME_WINDOW = TimeWindow(EPOCH, EPOCH + spans.DAY)


def windowed(settings: TrainingSetOptions, now: datetime.datetime | None = None) -> TrainingSetOptions:
    """Returns the options with a window: its own, or the one its spans mean now.

    A span range has become the fixed spans `first` to `last`, so that asking again gives the same.

    Args:
      settings: The options.
      now: The present; None to look at the clock.

    Raises:
      ValueError: A fixed span is not complete, or as_of is in the future.
      DatasetError: A rolling range finds no complete span with data.
      SchemaError, ReadError: The table could not be asked.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    if settings.as_of is not None and settings.as_of > now:
        raise invalid('as_of', settings.as_of.isoformat(), f'not in the future, for it is {now.isoformat()}')
    if settings.window is not None or settings.span is None:
        return settings
    known = min(now, settings.as_of or now)

    def has_data(window: TimeWindow) -> bool:
        return probe.has_rows(_main(dataclasses.replace(settings, window=window)))

    table = _main(settings).table
    where = table if '.' in table else f'{settings.connection.keyspace}.{table}'
    found = spans.resolve(settings.span, known, has_data, where)
    fixed = dataclasses.replace(settings.span, first=found.first, last=found.last, count=None, skip=0)
    return dataclasses.replace(settings, window=found.window, span=fixed)


def _main(settings: TrainingSetOptions) -> ReadRequest:
    """Returns the scan of the table whose rows are the examples."""
    main = settings.labels if settings.labels is not None else settings.views[0]
    window = settings.window or _SOME_WINDOW
    return settings.request(main.table, main.columns, window, main.timestamp_column, main.filters)


def check(settings: TrainingSetOptions) -> None:
    """Raises ValueError for options that no cluster could serve."""
    sources.check(settings)
    if settings.as_of is not None and settings.join_plan == 'lookup':
        raise invalid(
            'join_plan', settings.join_plan, "'scan' or 'auto' with as_of: a read by key gives what is there now"
        )
    if settings.history is not None:
        _check_history(settings, settings.history)
    _main(settings)
    if (settings.window is None) == (settings.span is None):
        raise invalid('window', settings.window and str(settings.window), 'either window or span')


def _check_history(settings: TrainingSetOptions, history: int) -> None:
    if settings.labels is None or not settings.sequences:
        raise invalid('history', history, 'given with labels and a view that has a timestamp_column')
    if settings.join_plan == 'lookup':
        raise invalid(
            'join_plan', settings.join_plan, "'scan' or 'auto' with history: a lookup ends at the newest value"
        )
    timed = [view for view in settings.views if view.timestamp_column is not None]
    if filled := [f.name for view in timed for f in view.full_features if f.default is not None]:
        raise invalid('default', filled, 'none with history: a list holds known values only')
