"""What of the pipeline can be told without running it; tests/integration/test_flight_delay.py runs it."""

import inspect
import pathlib

import pytest

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.pipelines.flight_delay import data, pipeline, preprocessing, trainer


def properties(tmp_path: pathlib.Path, **settings) -> dict[str, dict]:
    built = pipeline.create_pipeline(CassandraConnection(), data.YEAR, tmp_path, **settings)
    return {component.id: component.exec_properties for component in built.components}


def test_the_components_stand_in_the_order_they_run(tmp_path):
    assert list(properties(tmp_path)) == [
        'CassandraExampleGen',
        'StatisticsGen',
        'SchemaGen',
        'ExampleValidator',
        'Transform',
        'Trainer',
        'Evaluator',
        'CassandraPusher',
    ]


@pytest.mark.parametrize(('module', 'component'), [(preprocessing, 'Transform'), (trainer, 'Trainer')])
def test_a_change_of_the_users_code_is_a_change_of_the_component(tmp_path, monkeypatch, module, component):
    before = properties(tmp_path)
    source = inspect.getsource
    monkeypatch.setattr(inspect, 'getsource', lambda of: source(of) + ('# edited' if of is module else ''))
    after = properties(tmp_path)
    assert [name for name in before if before[name] != after[name]] == [component]


def test_what_is_known_only_afterwards_is_no_input():
    assert not {'arr_delay', 'late', 'flight_id', 'flight_day', 'scheduled_departure'} & set(preprocessing.INPUTS)
    assert set(preprocessing.INPUTS) < set(pipeline.FLIGHTS.features)
