"""The results of a run of the pipeline: examples, evaluation, the version's row, and the pushed model's predictions."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from cassandra.cluster import Session
from tfx.components.evaluator.constants import BLESSED_FILE_NAME

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.pusher.metrics import overall_metrics
from tfx_cassandra.components.training_set.report import AUDIT_PAGE, COVERAGE_FILE
from tfx_cassandra.pipelines.flight_delay.pipeline import metadata_path, pipeline_root
from tfx_cassandra.pipelines.flight_delay.preprocessing import INPUTS
from tfx_cassandra.pipelines.local_runner import last_outputs


@dataclasses.dataclass(frozen=True)
class Output:
    """An output artifact: where it lies, and its properties."""

    uri: str
    properties: Mapping[str, Any]


def of_state(state: pathlib.Path) -> Run:
    """Returns the latest run of LocalDagRunner in a state folder."""
    outputs = {}
    for key, artifact in last_outputs(metadata_path(state), pipeline_root(state)).items():
        properties = {name: value.string_value for name, value in artifact.custom_properties.items()}
        outputs[key] = Output(artifact.uri, properties)
    return Run(outputs)


def of_job(summary: Mapping[str, Any]) -> Run:
    """Returns the run of a compiled pipeline, by its summary (see vertex_local)."""
    return Run(
        {
            (task, key): Output(artifact['uri'], artifact['metadata'])
            for task, found in summary['tasks'].items()
            for key, artifacts in found['outputs']['artifacts'].items()
            for artifact in artifacts
        }
    )


class Run:
    """A run of the pipeline, by its outputs: (component, output) -> artifact."""

    def __init__(self, outputs: Mapping[tuple[str, str], Output]) -> None:
        self._outputs = outputs

    def uri(self, component: str, output: str) -> str:
        """Returns the folder of an output."""
        return self._outputs[component, output].uri

    def examples(self) -> dict[str, int]:
        """Returns the number of examples of each split."""
        coverage = self._folder('CassandraExampleGen', 'examples') / COVERAGE_FILE
        return json.loads(coverage.read_text())['examples']

    def first_examples(self, split: str, count: int) -> list[tf.train.Example]:
        """Returns the first examples of a split."""
        files = sorted(map(str, self._folder('CassandraExampleGen', 'examples').glob(f'Split-{split}/*.gz')))
        records = tf.data.TFRecordDataset(files, 'GZIP').take(count)
        return [tf.train.Example.FromString(record.numpy()) for record in records]

    def audit(self) -> str:
        """Returns the leakage audit of the training set as Markdown."""
        return (self._folder('CassandraExampleGen', 'examples') / AUDIT_PAGE).read_text()

    def auc(self) -> float:
        """Returns the AUC on the eval split."""
        return overall_metrics(str(self._folder('Evaluator', 'evaluation')))['auc']

    def blessed(self) -> bool:
        """Returns whether the Evaluator blessed the model."""
        return (self._folder('Evaluator', 'blessing') / BLESSED_FILE_NAME).exists()

    def version(self, session: Session, keyspace: str) -> tuple[str, dict[str, Any]]:
        """Reads back the row of the version that this run has pushed.

        Returns:
          (the statement as typed into cqlsh, the row)
        """
        pushed = self._outputs['CassandraPusher', 'pushed_model'].properties
        key = {name: pushed[name] for name in ('experiment_id', 'created_at', 'model_id')}
        query = (
            'SELECT experiment_id, created_at, model_id, version, metrics, ab_test_group '
            f'FROM {quoted(keyspace)}.model_versions WHERE '
        )
        bound = [key['experiment_id'], datetime.datetime.fromisoformat(key['created_at']), key['model_id']]
        row = session.execute(session.prepare(query + ' AND '.join(f'{name} = ?' for name in key)), bound).one()
        # The driver gives a timestamp as a naive datetime in UTC.
        created_at = row.created_at.replace(tzinfo=datetime.timezone.utc)
        typed = query + ' AND '.join(f"{name} = '{value}'" for name, value in key.items()) + ';'
        return typed, {**row._asdict(), 'created_at': created_at}

    def _folder(self, component: str, output: str) -> pathlib.Path:
        return pathlib.Path(self.uri(component, output))


def serving_check(model: pathlib.Path, examples: Sequence[tf.train.Example]) -> list[str]:
    """Loads a pushed model and predicts flights from raw tf.Examples, reduced to the model's inputs.

    Returns:
      One line per flight, with the predicted probability and the actual delay.
    """
    signature = tf.saved_model.load(str(model)).signatures['serving_default']
    requests = [tf.train.Example.FromString(example.SerializeToString()) for example in examples]
    for request in requests:
        for name in set(request.features.feature) - set(INPUTS):
            del request.features.feature[name]
    serialized = tf.constant([request.SerializeToString() for request in requests])
    probabilities = signature(examples=serialized)['late'].numpy()[:, 0]
    lines = []
    for example, probability in zip(examples, probabilities, strict=True):
        features = example.features.feature
        flight, dest = (features[name].bytes_list.value[0].decode() for name in ('flight_id', 'dest'))
        delay = features['arr_delay'].int64_list.value[0]
        lines.append(f'{flight} to {dest}: {probability:.0%} likely to be late; arrived {delay:+} minutes')
    return lines
