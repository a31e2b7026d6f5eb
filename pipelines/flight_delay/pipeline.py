"""The pipeline: flights from Cassandra -> a model that predicts delays -> a version in Cassandra.

CassandraExampleGen -> StatisticsGen -> SchemaGen -> ExampleValidator -> Transform -> Trainer -> Evaluator -> CassandraPusher
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import inspect
import os
import types
from collections.abc import Sequence

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import BaseChannel

from tfx_cassandra.components import (
    CassandraBackup,
    CassandraConnection,
    CassandraExampleGen,
    CassandraPusher,
    FeatureView,
    LabelSource,
    TimeSplits,
    TimeWindow,
)
from tfx_cassandra.pipelines.flight_delay import preprocessing, trainer
from tfx_cassandra.pipelines.flight_delay.data import AIRPORTS, WEATHER, weather_group
from tfx_cassandra.pipelines.flight_delay.preprocessing import FLIGHT_INPUTS, LABEL, PLANE_INPUTS, WEATHER_TTL

MODEL_ID = 'flight-delay'
MIN_AUC = 0.6  # a random classifier has 0.5

FLIGHTS = LabelSource(
    table='flights',
    entity_columns=('weather', 'tailnum'),
    timestamp_column='scheduled_departure',
    label_columns=('flight_id', 'flight_day', *FLIGHT_INPUTS, 'arr_delay', LABEL),
)
WEATHER_VIEW = FeatureView(
    name='weather',
    table='feature_store',
    entity_columns=('model_id',),
    timestamp_column='timestamp',
    features=WEATHER,
    ttl=WEATHER_TTL,
    layout='long',
    feature_name_column='feature_name',
    value_column='value',
    join_columns=('weather',),
    where={'model_id': [weather_group(airport) for airport in AIRPORTS]},
)
PLANES = FeatureView('planes', 'planes', ('tailnum',), None, PLANE_INPUTS)


def create_pipeline(
    connection: CassandraConnection,
    window: TimeWindow | RuntimeParameter,
    state: str | os.PathLike[str],
    experiment_id: str | RuntimeParameter = MODEL_ID,
    model_id: str | RuntimeParameter = MODEL_ID,
    train_steps: int = 1500,
    learning_rate: float = 1e-3,
    min_auc: float = MIN_AUC,
    enable_cache: bool = False,
    leaky: bool = False,
    beam_pipeline_args: Sequence[str] = (),
    alias: str | RuntimeParameter | None = None,
    *,
    source: CassandraBackup | None = None,
) -> tfx.dsl.Pipeline:
    """Builds the flight-delay pipeline for one window of departures.

    The window, the experiment, the model, the alias and the connection's contact points, data center and keyspace may
    be RuntimeParameters, so that one compiled pipeline serves every run.

    Args:
      connection: The cluster with `flights`, `planes`, `feature_store` and `model_versions`.
      window: Scheduled departures that become examples.
      state: Folder for artifacts (`pipeline/`), metadata (`metadata.sqlite`) and pushed models (`serving/`), or a URI
        such as gs://bucket/state, where the orchestrator keeps the metadata.
      experiment_id: Key of the version's row in `model_versions`.
      model_id: Name of the model in that row, and of its folder in `serving/`.
      train_steps: Batches to train on.
      learning_rate: Learning rate of the optimizer; 0 trains nothing.
      min_auc: The model is pushed only if its AUC on the eval split reaches this.
      enable_cache: Whether to reuse the outputs of a component with the same configuration and inputs. TFX cannot see
        whether the tables have changed: use it only if they have not.
      leaky: Whether flights get the weather of the hour they landed in, which is unknown at departure: shows how much
        better than it is such a model looks.
      beam_pipeline_args: Options of every Beam pipeline; the DirectRunner by default.
      alias: Points at the version once it is recorded; None or '' for no alias.
      source: A backup of the tables that the examples are made of, instead of by CQL.

    Returns:
      The pipeline, for LocalDagRunner or a compiler.
    """
    state = os.fspath(state)
    labels = dataclasses.replace(FLIGHTS, timestamp_column='landed') if leaky else FLIGHTS
    example_gen = CassandraExampleGen(
        connection if source is None else None,
        source=source,
        views=[WEATHER_VIEW, PLANES],
        labels=labels,
        window=window,
        split=_splits_by_time(window, labels.timestamp_column),
        # The weather of 2013 was written when the demo ran, years after the flights.
        availability_cut_off=False,
    )
    examples = example_gen.outputs['examples']
    statistics = tfx.components.StatisticsGen(examples=examples)
    # Shapes are not inferred: a column without nulls in this window may have some in the next.
    schema = tfx.components.SchemaGen(statistics=statistics.outputs['statistics'], infer_feature_shape=False)
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs['statistics'], schema=schema.outputs['schema']
    )
    training = _training(examples, schema.outputs['schema'], train_steps, learning_rate)
    model = training[-1].outputs['model']
    evaluator = tfx.components.Evaluator(examples=examples, model=model, eval_config=eval_config(min_auc))
    pusher = CassandraPusher(
        model=model,
        connection=connection,
        experiment_id=experiment_id,
        model_id=model_id,
        push_destination=_folder(serving_directory(state, model_id if isinstance(model_id, str) else '{model_id}')),
        model_blessing=evaluator.outputs['blessing'],
        evaluation=evaluator.outputs['evaluation'],
        examples=examples,
        ab_test_group='control',
        alias=None if alias == '' else alias,
    )
    # Kubeflow and Vertex keep metadata themselves, and SQLite supports only local files.
    sqlite = tfx.orchestration.metadata.sqlite_metadata_connection_config
    metadata = None if '://' in state else sqlite(metadata_path(state))
    return tfx.dsl.Pipeline(
        pipeline_name=next((name for name in (experiment_id, model_id) if isinstance(name, str)), MODEL_ID),
        pipeline_root=pipeline_root(state),
        metadata_connection_config=metadata,
        components=[example_gen, statistics, schema, validator, *training, evaluator, pusher],
        enable_cache=enable_cache,
        beam_pipeline_args=list(beam_pipeline_args),
    )


def pipeline_root(state: str | os.PathLike[str]) -> str:
    """Returns the folder or URI of the pipeline's artifacts."""
    return os.path.join(state, 'pipeline')


def metadata_path(state: str | os.PathLike[str]) -> str:
    """Returns the SQLite file of the pipeline's metadata."""
    return os.path.join(state, 'metadata.sqlite')


def serving_directory(state: str | os.PathLike[str], model_id: str = MODEL_ID) -> str:
    """Returns the folder or URI a model's versions are pushed to, as TensorFlow Serving expects it."""
    return os.path.join(state, 'serving', model_id)


def eval_config(min_auc: float) -> tfma.EvalConfig:
    """Returns the Evaluator's metrics and the minimum AUC of a blessed model."""
    threshold = tfma.MetricThreshold(value_threshold=tfma.GenericValueThreshold(lower_bound={'value': min_auc}))
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(label_key=LABEL, signature_name='serving_default')],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name='ExampleCount'),
                    tfma.MetricConfig(class_name='BinaryCrossentropy'),
                    tfma.MetricConfig(class_name='AUC', threshold=threshold),
                ]
            )
        ],
    )


def _splits_by_time(window: TimeWindow | RuntimeParameter, column: str) -> TimeSplits:
    # The eval days are after the training days, and no day is in both splits: flights of one day share its weather and
    # its congestion.
    if not isinstance(window, TimeWindow):
        # The second split starts at a time that is known only at run time, perhaps within a day, so a day is left out.
        return TimeSplits((('train', 2), ('eval', 1)), column, gap=datetime.timedelta(days=1))
    days = (window.end - window.start) // datetime.timedelta(days=1)
    last_third = window.start + datetime.timedelta(days=days - days // 3)
    midnight = last_third.astimezone(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return TimeSplits((('train', 2), ('eval', 1)), column, starts=(midnight,))


def _training(
    examples: BaseChannel, schema: BaseChannel, train_steps: int, learning_rate: float
) -> tuple[BaseComponent, BaseComponent]:
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=f'{preprocessing.__name__}.preprocessing_fn',
        disable_statistics=True,
        custom_config={'source': _source(preprocessing)},
    )
    training = tfx.components.Trainer(
        run_fn=f'{trainer.__name__}.run_fn',
        examples=transform.outputs['transformed_examples'],
        transform_graph=transform.outputs['transform_graph'],
        train_args=tfx.proto.TrainArgs(num_steps=train_steps),
        eval_args=tfx.proto.EvalArgs(num_steps=40),
        custom_config={'learning_rate': learning_rate, 'source': _source(trainer)},
    )
    return transform, training


def _source(module: types.ModuleType) -> str:
    # Part of the component's configuration, so that TFX does not reuse outputs of an earlier version of the module.
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


def _folder(path: str) -> tfx.proto.PushDestination:
    return tfx.proto.PushDestination(filesystem=tfx.proto.PushDestination.Filesystem(base_directory=path))
