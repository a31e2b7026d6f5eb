"""Checks of the pipeline that need no run; tests/integration/test_flight_delay.py runs it."""

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
    assert not {'arr_delay', 'late', 'landed', 'flight_id', 'flight_day', 'tailnum'} & set(preprocessing.INPUTS)
    sources = (pipeline.FLIGHTS.example_names, pipeline.WEATHER_VIEW.example_names, pipeline.PLANES.example_names)
    assert set(preprocessing.INPUTS) < {name for names in sources for name in names}


def test_a_leaky_pipeline_differs_in_its_training_set_only(tmp_path):
    truthful, leaky = properties(tmp_path), properties(tmp_path, leaky=True)
    assert [name for name in truthful if truthful[name] != leaky[name]] == ['CassandraExampleGen']
