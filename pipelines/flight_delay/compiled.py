"""The pipelines of the demo as `tfx-cassandra compile` takes them: functions whose arguments become parameters.

A function takes the connection and the state folder; each further positional argument is a parameter of the compiled
pipeline, a text, with the argument's default; each keyword-only argument is fixed when it is compiled (`--set`).
"""

from __future__ import annotations

import os
from typing import Any

from tfx import v1 as tfx

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.pipelines.flight_delay import ab_pipeline, pipeline
from tfx_cassandra.pipelines.flight_delay.experiment import EXPERIMENT
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
    *,
    model_id: str = MODEL_ID,
) -> tfx.dsl.Pipeline:
    """Compares two versions of the delay model by what they answered in a window of requests."""
    arms = (Arm('control', model_id, control_version, 0.5), Arm('treatment', model_id, treatment_version, 0.5))
    return ab_pipeline.create_pipeline(connection, arms, window, os.path.join(state, 'ab'), experiment_id=experiment_id)
