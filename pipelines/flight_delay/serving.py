"""Two versions of the delay model serve real flights, a share each, and log what they answer and what comes of it.

The days are past, so the clock is the flights': a request is made an hour before its scheduled departure, and its
outcome is known when the flight has arrived.
"""

from __future__ import annotations

import datetime
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import tensorflow as tf

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.components.inference_log.logger import InferenceLogger, assign
from tfx_cassandra.components.window import MILLISECOND, TimeWindow
from tfx_cassandra.pipelines.flight_delay import data
from tfx_cassandra.pipelines.flight_delay.data import ASKED_BEFORE
from tfx_cassandra.pipelines.flight_delay.experiment import REQUESTS_TABLE
from tfx_cassandra.pipelines.flight_delay.preprocessing import INPUTS, LABEL, WEATHER_TTL

_BATCH_ROWS = 1024
_BEFORE_TTL = WEATHER_TTL - MILLISECOND  # polars includes the end of a tolerance, a ttl does not
_LOGGED_FEATURES = ('distance', 'hour', 'visib', 'wind_speed')
_IDS = uuid.uuid5(uuid.NAMESPACE_URL, 'https://github.com/tidyverse/nycflights13')


def flights(days: TimeWindow) -> pl.DataFrame:
    """Returns the flights of some days with what a model is given of them, by scheduled departure.

    The weather is the last one observed at most three hours before, as the pipeline's training set has it.
    """
    # In the table, and so in what the models were trained on, each is a double.
    measured = pl.col(data.WEATHER).cast(pl.Float64)
    weather = data.read_weather().select('origin', 'time_hour', measured).sort('time_hour')
    rows = data.flight_rows(data.read_flights(), days).sort('scheduled_departure', 'flight_id')
    known = rows.join_asof(
        weather, left_on='scheduled_departure', right_on='time_hour', by='origin', tolerance=_BEFORE_TTL
    )
    return known.join(data.plane_rows(data.read_planes()), on='tailnum', how='left', maintain_order='left')


def serve(
    connection: CassandraConnection,
    experiment_id: str,
    arms: Sequence[Arm],
    models: Mapping[str, pathlib.Path],
    rows: pl.DataFrame,
) -> dict[str, int]:
    """Sends each flight to its arm's model and logs answer and outcome; again, it writes the same rows again.

    Args:
      connection: Cluster and keyspace of the logs.
      experiment_id: Stands in the rows, and parts the flights.
      arms: The arms, with their weights.
      models: The SavedModel of each arm, by its name.
      rows: As `flights` gives them.

    Returns:
      Number of flights by arm.

    Raises:
      WriteError: Not every row was written.
    """
    weights = {arm.name: arm.weight for arm in arms}
    of_row = [assign(experiment_id, flight, weights) for flight in rows['flight_id']]
    sent = rows.with_columns(pl.Series('arm', of_row))
    with InferenceLogger(connection, experiment_id, REQUESTS_TABLE, capacity=4 * rows.height + 1) as log:
        for arm in arms:
            of_arm = sent.filter(pl.col('arm') == arm.name)
            for row, prediction in zip(
                of_arm.iter_rows(named=True), predictions(models[arm.name], of_arm), strict=True
            ):
                _log(log, experiment_id, arm, row, prediction)
        log.flush(120)
        counts = log.counts
    if counts.written != 2 * rows.height:
        rule = f'{2 * rows.height:,} answers and outcomes ({counts.last_error})'
        raise WriteError(f'inferences: got {counts.written:,} written, {counts.dropped:,} dropped, rule: {rule}')
    return {arm.name: of_row.count(arm.name) for arm in arms}


def predictions(model: pathlib.Path, rows: pl.DataFrame) -> Iterator[float]:
    """Asks a SavedModel about flights, batch by batch; yields the chance of each to be late."""
    served = tf.saved_model.load(str(model)).signatures['serving_default']
    for batch in rows.iter_slices(_BATCH_ROWS):
        examples = [_example(row) for row in batch.select(INPUTS).iter_rows(named=True)]
        yield from map(float, served(examples=tf.constant(examples))['late'].numpy()[:, 0])


def _log(log: InferenceLogger, experiment_id: str, arm: Arm, row: Mapping[str, Any], prediction: float) -> None:
    requested_at = row['scheduled_departure'] - ASKED_BEFORE
    request = uuid.uuid5(_IDS, f'{experiment_id} {row["flight_id"]}')
    features = {name: float(row[name]) for name in _LOGGED_FEATURES if row[name] is not None}
    log.log(
        arm.model_id, prediction, version=arm.version, request_id=request, timestamp=requested_at, features=[features],
        confidence=max(prediction, 1 - prediction),
    )  # fmt: skip
    log.log_outcome(arm.model_id, request, LABEL, float(row[LABEL]), arrival(row))


def arrival(row: Mapping[str, Any]) -> datetime.datetime:
    """Returns about when a flight has arrived: 8 miles a minute, half an hour on the ground, and its delay."""
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
