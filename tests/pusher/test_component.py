"""What CassandraPusher accepts, and what it puts into the pipeline."""

from __future__ import annotations

import pytest
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common import importer
from tfx.orchestration import pipeline as pipelines
from tfx.proto import pusher_pb2
from tfx.types import channel, standard_artifacts

from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.pusher.component import CassandraPusher
from tfx_cassandra.components.pusher.config import PusherConfig, from_properties

CONNECTION = CassandraConnection(username='ml', password_env='PUSHER_TEST_PASSWORD')
DESTINATION = pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory='/serving'))


def arguments(**changes: object) -> dict:
    model = channel.Channel(type=standard_artifacts.Model)
    given = {'model': model, 'connection': CONNECTION, 'experiment_id': 'flights', 'model_id': 'delay'}
    return given | {'push_destination': DESTINATION} | changes


def test_the_configuration_travels_as_json_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PUSHER_TEST_PASSWORD', 'hunter2')
    component = CassandraPusher(**arguments(ab_test_group='B', alias='champion', max_metrics=7))
    assert from_properties(component.exec_properties) == PusherConfig(
        CONNECTION, 'flights', 'delay', 'B', 'champion', 7
    )
    assert 'hunter2' not in str(component.exec_properties)
    assert '/serving' in component.exec_properties['push_destination']
    assert component.outputs['pushed_model'].type is standard_artifacts.PushedModel


def test_it_compiles_into_a_pipeline_with_every_input() -> None:
    types = {
        'model': standard_artifacts.Model,
        'model_blessing': standard_artifacts.ModelBlessing,
        'infra_blessing': standard_artifacts.InfraBlessing,
        'evaluation': standard_artifacts.ModelEvaluation,
        'examples': standard_artifacts.Examples,
        'verdict': AbVerdict,
    }
    nodes = {
        name: importer.Importer(source_uri=f'/{name}', artifact_type=kind).with_id(name) for name, kind in types.items()
    }
    pusher = CassandraPusher(**arguments(**{name: node.outputs['result'] for name, node in nodes.items()}))
    pipeline = pipelines.Pipeline('push', '/root', components=[*nodes.values(), pusher])
    ir = compiler.Compiler().compile(pipeline)
    node = next(node.pipeline_node for node in ir.nodes if node.pipeline_node.node_info.id == 'CassandraPusher')
    assert set(node.inputs.inputs) == set(types)
    assert set(node.parameters.parameters) == {
        'config', 'push_destination', 'contact_points', 'local_datacenter', 'keyspace', 'experiment_id', 'model_id',
    }  # fmt: skip


@pytest.mark.parametrize(
    ('field', 'value', 'rule'),
    [
        ('connection', 'localhost', 'a CassandraConnection'),
        ('experiment_id', '', 'a non-empty text'),
        ('model_id', None, 'a non-empty text'),
        ('ab_test_group', '', 'a non-empty text'),
        ('alias', '', 'a non-empty text'),
        ('max_metrics', 0, 'an integer of at least 1'),
        ('max_metrics', True, 'an integer of at least 1'),
        ('max_metrics', 1.5, 'an integer of at least 1'),
        ('push_destination', None, 'a PushDestination with filesystem.base_directory'),
        ('push_destination', '/serving', 'a PushDestination with filesystem.base_directory'),
        ('push_destination', pusher_pb2.PushDestination(), 'a PushDestination with filesystem.base_directory'),
        (
            'push_destination',
            pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem()),
            'a PushDestination with filesystem.base_directory',
        ),
    ],
)
def test_a_wrong_argument_is_named(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f'^{field}: got (.|\n)*, rule: {rule}') as caught:
        CassandraPusher(**arguments(**{field: value}))
    assert '\n' not in str(caught.value)


def test_a_verdict_is_no_other_artifact() -> None:
    with pytest.raises(TypeError, match='AbVerdict'):
        CassandraPusher(**arguments(verdict=channel.Channel(type=standard_artifacts.ModelBlessing)))


def test_a_model_is_required() -> None:
    with pytest.raises(ValueError, match=r'^model: got None, rule: a BaseChannel$'):
        CassandraPusher(**arguments(model=None))
