"""Values of several features as one frame: an Arrow table, or a frame of polars or pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.feature_store.tables import Owner
from tfx_cassandra.components.feature_store.value import FeatureValue
from tfx_cassandra.components.window import whole_milliseconds

Form = Literal['arrow', 'polars', 'pandas']
_TIMESTAMP = pa.timestamp('ms', 'UTC')


def timestamp_name(feature: str) -> str:
    """Returns the name of the column with the timestamps of a feature."""
    return f'timestamp({feature})'


def check(names: Sequence[str], keys: Sequence[str], timestamps: bool, form: str) -> None:
    """Raises ValueError if features cannot be the columns of a frame beside its keys, or there is no such form."""
    if form not in get_args(Form):
        raise invalid('as_', form, 'one of ' + ', '.join(map(repr, get_args(Form))))
    columns = [*keys, *names, *map(timestamp_name, names if timestamps else ())]
    for name in names:
        if columns.count(name) > 1:
            rule = f'names that differ from the other columns ({", ".join(keys)}{", timestamp(...)" * timestamps})'
            raise invalid('feature_names', name, rule)


def latest(
    keys: Sequence[str],
    owners: Sequence[Owner],
    names: Sequence[str],
    found: Mapping[tuple[Owner, str], FeatureValue],
    timestamps: bool,
    form: str,
) -> Any:
    """Returns a frame of the newest values: (owner, keys + features [+ timestamps of features])."""
    columns = {key: pa.array([owner[place] for owner in owners], pa.string()) for place, key in enumerate(keys)}
    values = {name: [found.get((owner, name)) for owner in owners] for name in names}
    for name in names:
        columns[name] = pa.array([value and value.value for value in values[name]], pa.float64())
    for name in names if timestamps else ():
        moments = [value and whole_milliseconds('timestamp', value.timestamp) for value in values[name]]
        columns[timestamp_name(name)] = pa.array(moments, pa.int64()).cast(_TIMESTAMP)
    return _formed(pa.table(columns), form)


def series(names: Sequence[str], values: Mapping[str, Sequence[FeatureValue]], form: str) -> Any:
    """Returns a frame of values over time: (moment that any feature has, timestamp + features), in order of time."""
    moments = {
        name: np.array([whole_milliseconds('timestamp', value.timestamp) for value in values[name]], np.int64)
        for name in names
    }
    # (moments of all features,), sorted and distinct
    every = np.unique(np.concatenate([np.empty(0, np.int64), *moments.values()]))
    columns = {'timestamp': pa.array(every).cast(_TIMESTAMP)}
    for name in names:
        column: list[float | None] = [None] * len(every)
        for place, value in zip(np.searchsorted(every, moments[name]).tolist(), values[name], strict=True):
            column[place] = value.value
        columns[name] = pa.array(column, pa.float64())
    return _formed(pa.table(columns), form)


def _formed(table: pa.Table, form: str) -> Any:
    if form == 'polars':
        import polars as pl  # half a second

        return pl.from_arrow(table)
    if form == 'arrow':
        return table
    try:
        return table.to_pandas()
    except pa.ArrowInvalid:  # years that 64 bits of nanoseconds do not have
        return table.to_pandas(timestamp_as_object=True)
