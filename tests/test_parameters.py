"""Parameters of a run: what components take them for, how they travel, and how they are checked in the end."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from tfx import v1 as tfx
from tfx.dsl.compiler import compiler
from tfx.orchestration import pipeline as pipelines
from tfx.types import channel, standard_artifacts

from tfx_cassandra.components import (
    ABEvaluator,
    Arm,
    CassandraConnection,
    CassandraExampleGen,
    CassandraFeatureRetrieval,
    CassandraPusher,
    FeatureView,
    Metric,
    TimeWindow,
)
from tfx_cassandra.components.ab_evaluator import config as ab_evaluator
from tfx_cassandra.components.dataset.files.split import TimeSplits
from tfx_cassandra.components.dataset.spec.span import DAY, SpanRange
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.example_gen import config as example_gen
from tfx_cassandra.components.feature_retrieval import config as feature_retrieval
from tfx_cassandra.components.lookup.options import RetrievalOptions
from tfx_cassandra.components.pusher import config as pusher

Parameter = tfx.dsl.experimental.RuntimeParameter
WINDOW = '2013-01-01T00:00Z/2013-02-01T00:00Z'
VIEW = FeatureView('v', 't', ('e',), 'ts', ('a',))


def parameter(name: str) -> Parameter:
    return Parameter(name, str, default='a default')


CLUSTER = {name: parameter(name.replace('_', '-')) for name in ('contact_points', 'local_datacenter', 'keyspace')}
CONNECTION = CassandraConnection(**CLUSTER, port=9142)
RUN_OF_CLUSTER = {'contact_points': '10.0.0.1, 10.0.0.2', 'local_datacenter': 'dc9', 'keyspace': 'k'}
RESOLVED = CassandraConnection(('10.0.0.1', '10.0.0.2'), 9142, 'dc9', 'k')


def generate(**changes: Any) -> CassandraExampleGen:
    return CassandraExampleGen(**{'connection': CONNECTION, 'views': VIEW, **changes})


def push(**changes: Any) -> CassandraPusher:
    destination = tfx.proto.PushDestination.Filesystem(base_directory='/serving')
    given = {
        'model': channel.Channel(type=standard_artifacts.Model),
        'connection': CONNECTION,
        'experiment_id': parameter('experiment'),
        'model_id': parameter('model'),
        'push_destination': tfx.proto.PushDestination(filesystem=destination),
    }
    return CassandraPusher(**given | changes)


def evaluate(**changes: Any) -> ABEvaluator:
    given = {
        'connection': CONNECTION,
        'experiment_id': parameter('experiment'),
        'control': Arm('control', 'm', parameter('old'), 0.5),
        'treatments': [Arm('a', 'm', parameter('new'), 0.25), Arm('b', 'm', '17', 0.25)],
        'window': parameter('window'),
        'metrics': Metric('brier', 'squared_error:late'),
    }
    return ABEvaluator(**given | changes)


def retrieve(**changes: Any) -> CassandraFeatureRetrieval:
    examples = channel.Channel(type=standard_artifacts.Examples)
    return CassandraFeatureRetrieval(**{'examples': examples, 'connection': CONNECTION, 'views': VIEW, **changes})


def run(component: Any, **values: Any) -> dict[str, Any]:
    """Returns a component's execution properties with the values of a run for its parameters."""
    assert values.keys() <= component.exec_properties.keys()
    return component.exec_properties | RUN_OF_CLUSTER | values


def test_example_gen() -> None:
    opened = generate(window=parameter('window'), as_of=parameter('as-of'), consistency=parameter('consistency'))
    assert {name for name, value in opened.exec_properties.items() if isinstance(value, Parameter)} == {
        *CLUSTER, 'window', 'as_of', 'consistency',
    }  # fmt: skip
    given = run(opened, window=WINDOW, as_of='2014-01-01T00:00Z', consistency='ONE')
    settings = example_gen.from_properties(given)[0].training_set
    plain = generate(connection=RESOLVED, window=WINDOW, as_of='2014-01-01T00:00Z', consistency='ONE')
    assert settings == example_gen.from_properties(plain.exec_properties)[0].training_set
    assert (settings.connection, settings.window, settings.read.consistency) == (
        RESOLVED, TimeWindow.parse(WINDOW), 'ONE',
    )  # fmt: skip
    assert example_gen.from_properties(given | {'as_of': ''})[0].training_set.as_of is None


@pytest.mark.parametrize(
    ('text', 'span'),
    [('latest', SpanRange(count=1)), ('15706', SpanRange(15706)), ('{"count": 7}', SpanRange(count=7)),
     ('{"first": -3, "last": 4, "length_seconds": 3600}', SpanRange(-3, 4, length=DAY / 24))],
)  # fmt: skip
def test_a_span(text: str, span: SpanRange) -> None:
    config, _ = example_gen.from_properties(run(generate(span=parameter('span')), span=text))
    assert (config.training_set.span, config.training_set.window) == (span, None)


def test_window_or_span_may_be_chosen_when_a_run_starts() -> None:
    opened = generate(span=parameter('span'), window=parameter('window'))
    for given in ({'window': WINDOW, 'span': ''}, {'window': '', 'span': 'latest'}):
        example_gen.from_properties(run(opened, **given))
    for given in ({'window': WINDOW, 'span': 'latest'}, {'window': '', 'span': ''}):
        with pytest.raises(ValueError, match=r'^window: got .*, rule: either window or span$'):
            example_gen.from_properties(run(opened, **given))


def test_pusher() -> None:
    opened = push(ab_test_group=parameter('group'), alias=parameter('alias'), max_metrics=5)
    given = run(opened, experiment_id='e', model_id='m', ab_test_group='B', alias='')
    assert pusher.from_properties(given) == pusher.PusherConfig(RESOLVED, 'e', 'm', 'B', None, 5)


def test_ab_evaluator() -> None:
    given = run(evaluate(), experiment_id='e', window=WINDOW, control_version='15', treatment_1_version='16')
    settings = ab_evaluator.from_properties(given)
    plain = evaluate(
        connection=RESOLVED, experiment_id='e', window=WINDOW, control=Arm('control', 'm', '15', 0.5),
        treatments=[Arm('a', 'm', '16', 0.25), Arm('b', 'm', '17', 0.25)],
    )  # fmt: skip
    assert settings == ab_evaluator.from_properties(plain.exec_properties)
    assert [arm.version for arm in settings.design.arms] == ['15', '16', '17']
    assert evaluate(series_step=DAY / 10_000).exec_properties['window'].name == 'window'


def test_feature_retrieval() -> None:
    settings = feature_retrieval.from_properties(run(retrieve(as_of=parameter('as-of')), as_of='ts'))
    assert settings == RetrievalOptions(RESOLVED, (VIEW,), 'ts')


@pytest.mark.parametrize(
    ('component', 'resolve', 'field', 'value', 'message'),
    [
        (generate(window=parameter('w')), example_gen, 'window', 'January', "window: got 'January', rule: START/END"),
        (generate(window=parameter('w')), example_gen, 'window', '2013-01-01/2013-02-01', 'start: got datetime'),
        (generate(window=parameter('w')), example_gen, 'window', 3, 'window: got 3, rule: a text'),
        (generate(window=parameter('w')), example_gen, 'window', '', 'window: got None, rule: either window or span'),
        (generate(span=parameter('s')), example_gen, 'span', 'newest', "span: got 'newest', rule: a SpanRange"),
        (generate(span=parameter('s')), example_gen, 'span', '{"count": 0}', 'count: got 0, rule: 1 or more spans'),
        (generate(span=parameter('s')), example_gen, 'span', '{count', "span: got '{count', rule: JSON of SpanRange"),
        (generate(window=WINDOW, as_of=parameter('a')), example_gen, 'as_of', 'now', "as_of: got 'now', rule: ISO-86"),
        (generate(window=WINDOW, consistency=parameter('c')), example_gen, 'consistency', 'MOST',
         "consistency: got 'MOST', rule: one of"),
        (generate(window=WINDOW, as_of=parameter('a'), join_plan='lookup'), example_gen, 'as_of', '2014-01-01T00:00Z',
         "join_plan: got 'lookup', rule: 'scan' or 'auto' with as_of"),
        (generate(window=parameter('w'), split=TimeSplits((('a', 1), ('b', 1)), 'ts', gap=DAY)), example_gen, 'window',
         '2013-01-01T00:00Z/2013-01-02T00:00Z', 'starts: got'),
        (generate(window=WINDOW), example_gen, 'contact_points', ' , ', 'contact_points: got (), rule: one or more'),
        (generate(window=WINDOW), example_gen, 'keyspace', '', "keyspace: got '', rule: a non-empty text"),
        (push(model_id='m'), pusher, 'experiment_id', '', "experiment_id: got '', rule: a non-empty text"),
        (push(), pusher, 'model_id', '', "model_id: got '', rule: a non-empty text"),
        (evaluate(), ab_evaluator, 'window', '', "window: got '', rule: START/END in ISO-8601"),
        (evaluate(), ab_evaluator, 'experiment_id', '', "experiment_id: got '', rule: a non-empty text"),
        (evaluate(), ab_evaluator, 'control_version', '', "arm.version: got '', rule: a non-empty text"),
        (evaluate(), ab_evaluator, 'treatment_1_version', '17', "arms: got ['m 17'], rule: each once"),
        (evaluate(series_step=DAY), ab_evaluator, 'window', '1913-01-01T00:00Z/2013-02-01T00:00Z', 'series_step: got'),
        (evaluate(as_of=parameter('a')), ab_evaluator, 'as_of', 'now', "as_of: got 'now', rule: ISO-8601"),
        (retrieve(as_of=parameter('a')), feature_retrieval, 'as_of', '', "as_of: got '', rule: 'latest' or the name"),
    ],
)  # fmt: skip
def test_a_wrong_value_at_run_time_has_the_message_of_a_wrong_argument(
    component: Any, resolve: Any, field: str, value: Any, message: str
) -> None:
    valid = {'experiment_id': 'e', 'model_id': 'm', 'control_version': '1', 'treatment_1_version': '2'}
    valid = {'window': WINDOW, **valid} if resolve is ab_evaluator else valid
    given = {name: text for name, text in valid.items() if name in component.exec_properties}
    with pytest.raises(ValueError, match=f'^{re.escape(message)}') as caught:
        resolve.from_properties(run(component, **given | {field: value}))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('ptype', [int, float, None])
@pytest.mark.parametrize(
    ('field', 'declare'),
    [
        ('window', lambda value: generate(window=value)),
        ('keyspace', lambda value: CassandraConnection(keyspace=value)),
        ('alias', lambda value: push(alias=value)),
        ('experiment_id', lambda value: evaluate(experiment_id=value)),
        ('arm.version', lambda value: Arm('a', 'm', value, 0.5)),
        ('as_of', lambda value: retrieve(as_of=value)),
    ],
)
def test_a_parameter_is_a_text(field: str, declare: Any, ptype: type | None) -> None:
    with pytest.raises(
        ValueError, match=f'^{field}: got .RuntimeParameter p., rule: a RuntimeParameter with ptype=str'
    ):
        declare(Parameter('p', ptype))


@pytest.mark.parametrize('field', CLUSTER)
def test_a_connection_with_a_parameter_is_not_opened(field: str) -> None:
    connection = CassandraConnection(**{field: CLUSTER[field]})
    message = f"^{field}: got 'RuntimeParameter {field.replace('_', '-')}', rule: a value; parameters are resolved"
    with pytest.raises(ValueError, match=message), connections.session(connection):
        pass
    assert '\n' not in str(connection) + repr(connection)


def test_placeholders_of_what_earlier_components_give() -> None:
    nodes = {
        name: tfx.dsl.Importer(source_uri=f'/{name}', artifact_type=standard_artifacts.String).with_id(name)
        for name in ('window', 'keyspace', 'version')
    }
    window, keyspace, version = (node.outputs['result'].future()[0].value for node in nodes.values())
    connection = dataclasses.replace(RESOLVED, keyspace=keyspace + '_of_tests')
    generator = generate(connection=connection, window=window)
    evaluator = evaluate(connection=connection, window=window, treatments=Arm('treatment', 'm', version, 0.5))
    ir = compiler.Compiler().compile(
        pipelines.Pipeline('p', '/root', components=[*nodes.values(), generator, evaluator])
    )
    open_properties = {
        node.pipeline_node.node_info.id: {
            name for name, value in node.pipeline_node.parameters.parameters.items() if value.HasField('placeholder')
        }
        for node in ir.nodes
    }
    assert open_properties['CassandraExampleGen'] == {'window', 'keyspace'}
    assert open_properties['ABEvaluator'] == {'window', 'keyspace', 'treatment_1_version'}


def test_the_compiled_pipeline_keeps_them_apart() -> None:
    ir = compiler.Compiler().compile(
        pipelines.Pipeline('p', '/root', components=[generate(window=parameter('window')), evaluate()])
    )
    for node in ir.nodes:
        compiled = node.pipeline_node.parameters.parameters
        for name in (*CLUSTER, 'window'):
            assert compiled[name].runtime_parameter.name == name.replace('_', '-')
        config = compiled['config'].field_value.string_value
        assert 'a default' not in config
        assert not any(f'"{name}"' in config for name in (*CLUSTER, 'window'))
