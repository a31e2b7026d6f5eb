"""The pipelines of the demo as `tfx-cassandra compile` takes them: functions whose arguments become parameters.

A function takes the connection and the state folder; each further positional argument is a parameter of the compiled
pipeline, a text, with the argument's default; each keyword-only argument is fixed when it is compiled (`--set`).
"""

from __future__ import annotations

import os
from typing import Any

from tfx import v1 as tfx

from tfx_cassandra.components import CassandraConnection, CassandraExampleGen, EntitySplits
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.pipelines import backfill, batch_prediction, continuous_training
from tfx_cassandra.pipelines.flight_delay import ab_pipeline, pipeline, preprocessing, trainer
from tfx_cassandra.pipelines.flight_delay.experiment import ALIAS, EXPERIMENT
from tfx_cassandra.pipelines.flight_delay.pipeline import MIN_AUC, MODEL_ID


def flight_delay(
    connection: CassandraConnection,
    state: str,
    window: Any,
    experiment_id: Any = MODEL_ID,
    model_id: Any = MODEL_ID,
    alias: Any = '',
    *,
    train_steps: int = 1500,
    min_auc: float = MIN_AUC,
    enable_cache: bool = False,
) -> tfx.dsl.Pipeline:
    """Trains the delay model on the departures of a window and pushes it."""
    return pipeline.create_pipeline(
        connection, window, state, experiment_id, model_id, train_steps, min_auc=min_auc, enable_cache=enable_cache,
        alias=alias,
    )  # fmt: skip


def ab(
    connection: CassandraConnection,
    state: str,
    window: Any,
    control_version: Any,
    treatment_version: Any,
    experiment_id: Any = EXPERIMENT,
    alias: Any = ALIAS,
    *,
    model_id: str = MODEL_ID,
) -> tfx.dsl.Pipeline:
    """Compares two versions of the delay model by what they answered, and points the alias at the winner."""
    arms = (Arm('control', model_id, control_version, 0.5), Arm('treatment', model_id, treatment_version, 0.5))
    return ab_pipeline.create_pipeline(
        connection, arms, window, os.path.join(state, 'ab'), experiment_id=experiment_id, alias=alias
    )


def continuous(
    connection: CassandraConnection,
    state: str,
    span: Any = 'latest',
    experiment_id: Any = MODEL_ID,
    model_id: Any = MODEL_ID,
    alias: Any = ALIAS,
    *,
    train_steps: int = 500,
    min_auc: float = 0.5,
) -> tfx.dsl.Pipeline:
    """Trains on the newest span from the champion on, unless a version has seen the data; see continuous_training."""
    example_gen = CassandraExampleGen(
        connection, [pipeline.WEATHER_VIEW, pipeline.PLANES], pipeline.FLIGHTS, span=span, availability_cut_off=False,
        split=EntitySplits((('train', 2), ('eval', 1)), ('flight_id',)),
    )  # fmt: skip
    return continuous_training.create_pipeline(
        'flight-delay-continuous', connection, state, example_gen,
        preprocessing_fn=f'{preprocessing.__name__}.preprocessing_fn', run_fn=f'{trainer.__name__}.run_fn',
        eval_config=pipeline.eval_config(min_auc), experiment_id=experiment_id, model_id=model_id, alias=alias,
        train_steps=train_steps,
    )  # fmt: skip


def days(connection: CassandraConnection, state: str, *, first: str, last: str) -> tfx.dsl.Pipeline:
    """Reads the flights of many days with their features, a day a component; see backfill."""

    def of_day(window: str) -> CassandraExampleGen:
        return CassandraExampleGen(
            connection, [pipeline.WEATHER_VIEW, pipeline.PLANES], pipeline.FLIGHTS, window=window,
            availability_cut_off=False,
        )  # fmt: skip

    return backfill.create_pipeline('flight-delay-days', state, first, last, of_day)


def predictions(
    connection: CassandraConnection,
    state: str,
    window: Any,
    experiment_id: Any = MODEL_ID,
    alias: Any = ALIAS,
    table: Any = 'feature_store',
) -> tfx.dsl.Pipeline:
    """Writes the chance of each flight to be late into the long table, under the flight's id; see batch_prediction."""
    example_gen = CassandraExampleGen(
        connection, [pipeline.WEATHER_VIEW, pipeline.PLANES], pipeline.FLIGHTS, window=window,
        availability_cut_off=False,
    )  # fmt: skip
    return batch_prediction.create_pipeline(
        'flight-delay-predictions', connection, state, example_gen, experiment_id=experiment_id, alias=alias,
        outputs={'late': 'late_probability'}, table=table,
        columns={'model_id': 'flight_id', 'timestamp': 'scheduled_departure', 'value': 'late_probability'},
        constants={'feature_name': 'late_probability'}, write_time_feature='scheduled_departure',
    )  # fmt: skip
