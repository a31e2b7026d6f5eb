"""The flight-delay pipeline for Kubeflow Pipelines v2 and Vertex: its parameters and its URIs in the compiled job."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml
from tfx import v1 as tfx

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.pipelines.flight_delay import data, pipeline

Parameter = tfx.dsl.experimental.RuntimeParameter
STATES = ['gs://bucket/state', 's3://bucket/state', 'hdfs://namenode:8020/state']
NAMES = {
    'contact_points': 'contact-points', 'local_datacenter': 'data-center', 'keyspace': 'keyspace', 'window': 'window',
    'experiment_id': 'experiment',
}  # fmt: skip


def parametrized(state: str) -> tfx.dsl.Pipeline:
    parameters = {field: Parameter(name, str) for field, name in NAMES.items()}
    connection = CassandraConnection(
        parameters['contact_points'], 9042, parameters['local_datacenter'], parameters['keyspace']
    )
    return pipeline.create_pipeline(connection, parameters['window'], state, parameters['experiment_id'])


@pytest.mark.parametrize('state', STATES)
def test_remote_folders_stay_whole(state: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = pipeline.create_pipeline(CassandraConnection(), data.YEAR, state)
    assert built.pipeline_info.pipeline_root == f'{state}/pipeline'
    assert f'"{state}/serving/{pipeline.MODEL_ID}"' in built.components[-1].exec_properties['push_destination']
    assert list(tmp_path.iterdir()) == []


def test_a_local_state_folder_may_be_a_path_or_a_text(tmp_path: pathlib.Path) -> None:
    roots = {
        pipeline.create_pipeline(CassandraConnection(), data.YEAR, state).pipeline_info.pipeline_root
        for state in (tmp_path, str(tmp_path))
    }
    assert roots == {str(tmp_path / 'pipeline')}


@pytest.mark.parametrize('schema_2_1', [False, True])
@pytest.mark.parametrize('state', STATES)
def test_parameters_are_parameters_of_the_job(state: str, schema_2_1: bool, tmp_path: pathlib.Path) -> None:
    pytest.importorskip('kfp', reason='KubeflowV2DagRunner needs kfp: pip install "kfp>=2,<2.8"')
    name = 'pipeline.yaml' if schema_2_1 else 'pipeline.json'
    settings = tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(use_pipeline_spec_2_1=schema_2_1)
    runner = tfx.orchestration.experimental.KubeflowV2DagRunner(settings, str(tmp_path), name)
    runner.run(parametrized(state))
    text = (tmp_path / name).read_text()
    spec = yaml.safe_load(text) if schema_2_1 else json.loads(text)['pipelineSpec']
    kinds = spec['root']['inputDefinitions']['parameters']
    assert kinds == {name: {'parameterType': 'STRING'} if schema_2_1 else {'type': 'STRING'} for name in NAMES.values()}
    tasks = spec['root']['dag']['tasks']
    for component, fields in (('CassandraExampleGen', ('window',)), ('CassandraPusher', ('experiment_id',))):
        inputs = tasks[component]['inputs']['parameters']
        for field in ('contact_points', 'local_datacenter', 'keyspace', *fields):
            assert inputs[field] == {'componentInputParameter': NAMES[field]}
    assert constant(tasks['CassandraPusher'], 'model_id') == pipeline.MODEL_ID
    assert f'{state}/serving/{pipeline.MODEL_ID}' in constant(tasks['CassandraPusher'], 'push_destination')
    if not schema_2_1:
        assert json.loads(text)['runtimeConfig']['gcsOutputDirectory'] == f'{state}/pipeline'


def constant(task: dict[str, Any], name: str) -> str:
    value = task['inputs']['parameters'][name]['runtimeValue']
    return value['constant'] if 'constant' in value else value['constantValue']['stringValue']
