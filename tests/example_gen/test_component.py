"""The component's surface: what it accepts, refuses, and carries into pipeline metadata."""

from __future__ import annotations

import datetime

import pytest
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.files.split import EntitySplits, TimeSplits
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.span import DAY, SpanRange
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.example_gen.component import CassandraExampleGen
from tfx_cassandra.components.example_gen.config import ExampleGenConfig, from_properties
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import TimeWindow

UTC = datetime.timezone.utc
WINDOW = '2013-01-01T00:00Z/2013-02-01T00:00Z'
VIEW = FeatureView('v', 't', ('e',), 'ts', ('a',))
SHARES = (('train', 4), ('eval', 1))
LABELS = LabelSource('labels', ('e',), 'at', ('y',))
CONNECTION = CassandraConnection(username='ada', password_env='ADA_PASSWORD')


def test_the_configuration_reaches_the_executor() -> None:
    component = CassandraExampleGen(CONNECTION, [VIEW], window=WINDOW, consistency='ONE', splits=7, shards=3)
    config, _ = from_properties(component.exec_properties)
    options = TrainingSetOptions(CONNECTION, (VIEW,), TimeWindow.parse(WINDOW), read=ReadOptions('ONE', 7))
    assert config == ExampleGenConfig(options, shards=3)
    assert component.outputs['examples'].type is standard_artifacts.Examples


def test_a_schema_is_a_second_output_where_it_is_asked_for() -> None:
    assert sorted(CassandraExampleGen(CONNECTION, VIEW, window=WINDOW).outputs) == ['examples']
    outputs = CassandraExampleGen(CONNECTION, VIEW, window=WINDOW, emit_schema=True).outputs
    assert outputs['schema'].type is standard_artifacts.Schema


def test_a_history_reaches_the_executor_and_is_of_views_with_a_time() -> None:
    untimed = FeatureView('u', 't', ('e',), None, ('b',))
    component = CassandraExampleGen(CONNECTION, [VIEW, untimed], LABELS, WINDOW, history=5)
    settings = from_properties(component.exec_properties)[0].training_set
    assert (settings.history, settings.sequences) == (5, ('a',))
    plain = CassandraExampleGen(CONNECTION, [VIEW, untimed], LABELS, WINDOW)
    assert from_properties(plain.exec_properties)[0].training_set.sequences == ()


def by_feature(name: str) -> example_gen_pb2.Output:
    output = example_gen_pb2.Output()
    output.split_config.partition_feature_name = name
    output.split_config.splits.add(name='train', hash_buckets=1)
    return output


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'history': 0}, 'history: got 0, rule: an integer of at least 1'),
        ({'labels': None}, 'history: got 2, rule: given with labels and a view that has a timestamp_column'),
        ({'views': FeatureView('u', 't', ('e',), None, ('b',))}, 'history: got 2, rule: given with labels and a view'),
        ({'join_plan': 'lookup'}, "join_plan: got 'lookup', rule: 'scan' or 'auto' with history"),
        ({'views': FeatureView('v', 't', ('e',), 'ts', (Feature('a', default=0),))},
         "default: got ['a'], rule: none with history"),
        ({'split': EntitySplits(SHARES, ('e', 'a'))}, "split: got ['a'], rule: by features that are not sequences"),
        ({'output_config': by_feature('a')}, "split: got ['a'], rule: by features that are not sequences"),
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_given_is_refused(arguments: dict, message: str) -> None:
    given = {'connection': CONNECTION, 'views': VIEW, 'labels': LABELS, 'window': WINDOW, 'history': 2, **arguments}
    with pytest.raises(ValueError, match='rule') as caught:
        CassandraExampleGen(**given)
    assert str(caught.value).startswith(message)


def test_splits_default_to_two_thirds_and_one() -> None:
    _, splits = from_properties(CassandraExampleGen(CONNECTION, VIEW, window=WINDOW).exec_properties)
    assert splits.buckets == (('train', 2), ('eval', 1))


def test_a_split_without_buckets_is_refused() -> None:
    output = example_gen_pb2.Output()
    output.split_config.splits.add(name='train')
    with pytest.raises(ValueError, match='output_config'):
        CassandraExampleGen(CONNECTION, VIEW, window=WINDOW, output_config=output)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'views': []}, 'views: got [], rule: exactly one view, or'),
        ({'views': [VIEW, VIEW]}, "views: got ['v', 'v'], rule: exactly one view"),
        ({'window': '2013-01-01/2013-02-01'}, 'start: got datetime.datetime(2013, 1, 1, 0, 0), rule: a datetime with'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST', rule: one of"),
        ({'page_rows': 0}, 'page_rows: got 0, rule: an integer of at least 1'),
        ({'splits': 0}, 'splits: got 0, rule: an integer of at least 1'),
        ({'shards': 0}, 'shards: got 0, rule: an integer of at least 1'),
        ({'window': None}, 'window: got None, rule: either window or span'),
        ({'span': 7}, f'window: got {str(TimeWindow.parse(WINDOW))!r}, rule: either window or span'),
        ({'window': None, 'span': 'newest'}, "span: got 'newest', rule: a SpanRange"),
        ({'as_of': datetime.datetime(2013, 1, 1)}, 'as_of: got'),
        ({'cache_by': 'luck'}, "cache_by: got 'luck', rule: 'configuration' or 'content'"),
        ({'split': TimeSplits(SHARES, 'x')}, "split: got 'x', rule: the time column of the examples, ts"),
        ({'split': TimeSplits(SHARES, 'ts', gap=DAY * 30)}, 'starts: got'),
        ({'split': EntitySplits(SHARES, 'e'), 'output_config': example_gen_pb2.Output()}, 'split: got EntitySplits'),
    ],
)
def test_bad_arguments_are_refused_when_the_pipeline_is_made(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        CassandraExampleGen(**{'connection': CONNECTION, 'views': VIEW, 'window': WINDOW, **arguments})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    'split', [EntitySplits(SHARES, ('e',)), TimeSplits(SHARES, 'ts', DAY, (datetime.datetime(2013, 1, 9, tzinfo=UTC),))]
)
def test_spans_and_splits_reach_the_executor(split: EntitySplits | TimeSplits) -> None:
    moment = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    component = CassandraExampleGen(CONNECTION, VIEW, span='latest', as_of=moment, split=split)
    config, splits = from_properties(component.exec_properties)
    settings = config.training_set
    assert (settings.span, settings.as_of, settings.window) == (SpanRange(count=1), moment, None)
    assert splits == split


@pytest.mark.parametrize('seed', [0, 7, -(2**63), 2**63 - 1])
def test_the_shuffle_seed_reaches_the_executor(seed: int) -> None:
    component = CassandraExampleGen(CONNECTION, VIEW, window=WINDOW, shuffle_seed=seed)
    assert from_properties(component.exec_properties)[0].shuffle_seed == seed


def test_how_values_are_decoded_reaches_the_executor() -> None:
    component = CassandraExampleGen(CONNECTION, VIEW, window=WINDOW, invalid_text='replace', wide_varints='text')
    assert from_properties(component.exec_properties)[0].training_set.read.decoding == Decoding('replace', 'text')


@pytest.mark.parametrize('seed', [2**63, -(2**63) - 1, 1.5, '1', None])
def test_a_seed_is_an_integer_of_64_bits(seed: object) -> None:
    with pytest.raises(ValueError, match=r'^shuffle_seed: got .*, rule: an integer of 64 bits'):
        CassandraExampleGen(CONNECTION, VIEW, window=WINDOW, shuffle_seed=seed)  # type: ignore[arg-type]
