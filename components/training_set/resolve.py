"""What a configuration means when it runs: spans become a window, split options become splits."""

from __future__ import annotations

import dataclasses
import datetime

from tfx.proto import example_gen_pb2

from tfx_cassandra.components.config import ExampleGenConfig
from tfx_cassandra.components.dataset.files.split import EntitySplits, HashSplits, Splits, TimeSplits
from tfx_cassandra.components.dataset.spec import span as spans
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadOptions
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.window import EPOCH, TimeWindow

# Stands for the window where only the other options are checked.
_SOME_WINDOW = TimeWindow(EPOCH, EPOCH + spans.DAY)


def windowed(settings: ExampleGenConfig, now: datetime.datetime | None = None) -> ExampleGenConfig:
    """Returns the configuration with a window: its own, or the one its spans mean now.

    A span range has become the fixed spans `first` to `last`, so that asking again gives the same.

    Args:
      settings: The configuration.
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
    found = spans.resolve(settings.span, known, has_data, f'{settings.connection.keyspace}.{table}')
    fixed = dataclasses.replace(settings.span, first=found.first, last=found.last, count=None, skip=0)
    return dataclasses.replace(settings, window=found.window, span=fixed)


def _main(settings: ExampleGenConfig) -> ReadOptions:
    """Returns the scan of the table whose rows are the examples."""
    labels = settings.labels
    main = labels if labels is not None else settings.views[0]
    return ReadOptions(
        settings.connection, main.table, main.columns, settings.window or _SOME_WINDOW, main.timestamp_column,
        labels.filters if labels is not None else settings.views[0].filters, settings.consistency, settings.splits,
        settings.page_rows, settings.rows_per_second, settings.bytes_per_second, as_of=settings.as_of,
        decoding=settings.decoding,
    )  # fmt: skip


def splits_of(settings: ExampleGenConfig, output_config: example_gen_pb2.Output) -> Splits:
    """Returns the splits that TFX's output configuration and the configuration's own options describe.

    Raises:
      ValueError: There are no usable splits.
    """
    split_config = output_config.split_config
    buckets = tuple((split.name, split.hash_buckets) for split in split_config.splits)
    if settings.entity_split:
        return EntitySplits(buckets, settings.entity_split)
    if settings.time_split is not None:
        starts = tuple(datetime.datetime.fromisoformat(start) for start in settings.starts)
        return TimeSplits(buckets, settings.time_split, settings.gap or datetime.timedelta(0), starts)
    return HashSplits(buckets, split_config.partition_feature_name or None)


def split_options(split: EntitySplits | TimeSplits) -> tuple[example_gen_pb2.Output, dict]:
    """Returns what `splits_of` takes to give these splits: TFX's output configuration, and fields of ours."""
    named = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=count) for name, count in split.buckets]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=named))
    if isinstance(split, EntitySplits):
        return output, {'entity_split': split.columns}
    starts = tuple(start.isoformat() for start in split.starts)
    return output, {'time_split': split.column, 'gap': split.gap, 'starts': starts}


def check(settings: ExampleGenConfig, output_config: example_gen_pb2.Output) -> None:
    """Raises ValueError for a configuration that no cluster could serve."""
    splits = splits_of(settings, output_config)
    sources.check(settings)
    if settings.as_of is not None and settings.join_plan == 'lookup':
        raise invalid(
            'join_plan', settings.join_plan, "'scan' or 'auto' with as_of: a read by key gives what is there now"
        )
    if settings.history is not None:
        _check_history(settings, splits)
    _main(settings)
    if not isinstance(settings.shuffle_seed, int) or not -(2**63) <= settings.shuffle_seed < 2**63:
        raise invalid('shuffle_seed', settings.shuffle_seed, 'an integer of 64 bits')
    if settings.shards is not None and settings.shards < 1:
        raise invalid('shards', settings.shards, 'an integer of at least 1')
    if (settings.window is None) == (settings.span is None):
        raise invalid('window', settings.window and str(settings.window), 'either window or span')
    if settings.cache_by not in ('configuration', 'content'):
        raise invalid('cache_by', settings.cache_by, "'configuration' or 'content'")
    if isinstance(splits, TimeSplits):
        time = settings.labels.timestamp_column if settings.labels else settings.views[0].timestamp_column
        if splits.column != time:
            raise invalid('split', splits.column, f'the time column of the examples, {time}')
        if settings.window is not None:
            splits.windows(settings.window)


def _check_history(settings: ExampleGenConfig, splits: Splits) -> None:
    if settings.history < 1:  # type: ignore[operator]
        raise invalid('history', settings.history, 'an integer of at least 1')
    if settings.labels is None or not settings.sequences:
        raise invalid('history', settings.history, 'given with labels and a view that has a timestamp_column')
    if settings.join_plan == 'lookup':
        raise invalid(
            'join_plan', settings.join_plan, "'scan' or 'auto' with history: a lookup ends at the newest value"
        )
    timed = [view for view in settings.views if view.timestamp_column is not None]
    if filled := [f.name for view in timed for f in view.full_features if f.default is not None]:
        raise invalid('default', filled, 'none with history: a list holds known values only')
    keys = splits.columns if isinstance(splits, EntitySplits) else [getattr(splits, 'feature', None)]
    if listed := [name for name in keys if name in settings.sequences]:
        raise invalid('split', listed, 'by features that are not sequences')
