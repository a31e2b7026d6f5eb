"""Serves real flights by two versions of the delay model, and logs predictions and outcomes.

Times are those of the flights: a request is made an hour before the scheduled departure, and its outcome is known when
the flight has arrived.
"""

from __future__ import annotations

import datetime
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import tensorflow as tf

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.components.inference_log.logger import InferenceLogger, assign
from tfx_cassandra.components.window import MILLISECOND, TimeWindow
from tfx_cassandra.pipelines.flight_delay import data
from tfx_cassandra.pipelines.flight_delay.data import LEAD_TIME
from tfx_cassandra.pipelines.flight_delay.experiment import REQUESTS_TABLE
from tfx_cassandra.pipelines.flight_delay.preprocessing import INPUTS, LABEL, WEATHER_TTL

_BATCH_ROWS = 1024
_TOLERANCE = WEATHER_TTL - MILLISECOND  # inclusive in polars, while a ttl is exclusive
_LOGGED_FEATURES = ('distance', 'hour', 'visib', 'wind_speed')
_IDS = uuid.uuid5(uuid.NAMESPACE_URL, 'https://github.com/tidyverse/nycflights13')


def flights(days: TimeWindow) -> pl.DataFrame:
    """Returns the flights of some days with the model's inputs, ordered by scheduled departure.

    The weather is the latest observation of the last three hours, as in the pipeline's training set.
    """
    # Doubles, as in the table that the models were trained from.
    observations = pl.col(data.WEATHER).cast(pl.Float64)
    weather = data.read_weather().select('origin', 'time_hour', observations).sort('time_hour')
    rows = data.flight_rows(data.read_flights(), days).sort('scheduled_departure', 'flight_id')
    with_weather = rows.join_asof(
        weather, left_on='scheduled_departure', right_on='time_hour', by='origin', tolerance=_TOLERANCE
    )
    return with_weather.join(data.plane_rows(data.read_planes()), on='tailnum', how='left', maintain_order='left')


def serve(
    connection: CassandraConnection,
    experiment_id: str,
    arms: Sequence[Arm],
    models: Mapping[str, pathlib.Path],
    rows: pl.DataFrame,
    predict: Callable[[pathlib.Path, pl.DataFrame], Iterable[float]] | None = None,
) -> dict[str, int]:
    """Sends each flight to its arm's model and logs prediction and outcome, idempotently.

    Args:
      connection: Cluster and keyspace of the logs.
      experiment_id: The experiment; the assignment of flights to arms depends on it.
      arms: The arms, with their weights.
      models: The model of each arm, by the arm's name.
      rows: As `flights` returns them.
      predict: Predicts rows with a model; None for `predictions`, which does so with a SavedModel.

    Returns:
      Number of flights by arm.

    Raises:
      WriteError: Not every row was written.
    """
    weights = {arm.name: arm.weight for arm in arms}
    assigned = [assign(experiment_id, flight, weights) for flight in rows['flight_id']]
    rows = rows.with_columns(pl.Series('arm', assigned))
    with InferenceLogger(connection, experiment_id, REQUESTS_TABLE, capacity=4 * rows.height + 1) as log:
        for arm in arms:
            arm_rows = rows.filter(pl.col('arm') == arm.name)
            arm_predictions = (predict or predictions)(models[arm.name], arm_rows)
            for row, prediction in zip(arm_rows.iter_rows(named=True), arm_predictions, strict=True):
                _log(log, experiment_id, arm, row, prediction)
        log.flush(120)
        counts = log.counts
    if counts.written != 2 * rows.height:
        rule = f'{2 * rows.height:,} predictions and outcomes ({counts.last_error})'
        raise WriteError(f'inferences: got {counts.written:,} written, {counts.dropped:,} dropped, rule: {rule}')
    return {arm.name: assigned.count(arm.name) for arm in arms}


def predictions(model: pathlib.Path, rows: pl.DataFrame) -> Iterator[float]:
    """Predicts flights with a SavedModel, batch by batch; yields the probability that each is late."""
    signature = tf.saved_model.load(str(model)).signatures['serving_default']
    for batch in rows.iter_slices(_BATCH_ROWS):
        examples = [_example(row) for row in batch.select(INPUTS).iter_rows(named=True)]
        yield from map(float, signature(examples=tf.constant(examples))['late'].numpy()[:, 0])


def _log(log: InferenceLogger, experiment_id: str, arm: Arm, row: Mapping[str, Any], prediction: float) -> None:
    requested_at = row['scheduled_departure'] - LEAD_TIME
    request = uuid.uuid5(_IDS, f'{experiment_id} {row["flight_id"]}')
    features = {name: float(row[name]) for name in _LOGGED_FEATURES if row[name] is not None}
    log.log(
        arm.model_id, prediction, version=arm.version, request_id=request, timestamp=requested_at, features=[features],
        confidence=max(prediction, 1 - prediction),
    )  # fmt: skip
    log.log_outcome(arm.model_id, request, LABEL, float(row[LABEL]), arrival(row))


def arrival(row: Mapping[str, Any]) -> datetime.datetime:
    """Returns the approximate arrival time: 8 miles per minute, half an hour on the ground, and the delay."""
    minutes = 30 + row['distance'] / 8 + max(row['arr_delay'], 0)
    return row['scheduled_departure'] + datetime.timedelta(minutes=minutes)


def _example(row: Mapping[str, Any]) -> bytes:
    features = {name: _feature(value) for name, value in row.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _feature(value: Any) -> tf.train.Feature:
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
