"""Dataclasses survive the trip through their protos, and carry no secret."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components import protos
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.champion.config import ChampionConfig
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import Label, LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls
from tfx_cassandra.components.example_gen.config import ExampleGenConfig, parse_span, span_text
from tfx_cassandra.components.experiment import results
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.feature_writer.config import ColumnSource, FeatureWriterConfig
from tfx_cassandra.components.lookup.options import RetrievalOptions
from tfx_cassandra.components.promoter.config import PromoterConfig
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import MILLISECOND, TimeWindow
from tfx_cassandra.proto import cassandra_pb2

names = st.text(min_size=1, max_size=8)
tables = st.one_of(names.filter(lambda name: '.' not in name), st.just('other.table'))
maybe = st.one_of(st.none(), names)
connections = st.one_of(
    st.builds(CassandraConnection, st.lists(names, min_size=1).map(tuple), st.integers(1, 65535), names, names),
    st.builds(
        CassandraConnection,
        username=names,
        password_env=names,
        tls=st.builds(Tls, names, maybe, maybe, st.booleans()),
        secure_connect_bundle=maybe,
        connect_timeout=st.floats(0.1, 100),
    ),
)
moments = st.datetimes(
    datetime.datetime(1, 1, 2),
    datetime.datetime(9999, 12, 30),
    timezones=st.sampled_from([datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=2))]),
)
windows = st.tuples(moments, moments).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: TimeWindow(*pair))
views = st.builds(
    FeatureView,
    name=names,
    table=tables,
    entity_columns=st.just(('e', 'f')),
    timestamp_column=st.just('ts'),
    features=st.lists(
        st.one_of(
            names.map(lambda name: f'f{name}'),
            st.builds(
                Feature,
                names.map(lambda name: f'f{name}'),
                maybe.map(lambda name: name and f'r{name}'),
                st.one_of(st.none(), st.integers(), st.text(), st.booleans(), st.lists(st.floats(-9, 9)).map(tuple)),
            ),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda f: (f.rename or f.name) if isinstance(f, Feature) else f,
    ),
    ttl=st.one_of(st.none(), st.timedeltas(datetime.timedelta(milliseconds=1), datetime.timedelta(days=9999))),
    created_column=maybe,
    prefix=st.text(max_size=3).map(lambda text: f'p{text}'),
    join_columns=st.sampled_from([(), ('g', 'h')]),
    where=st.dictionaries(names, st.one_of(st.integers(), names, st.lists(names, min_size=1)), max_size=2),
)
spans = st.timedeltas(datetime.timedelta(0), datetime.timedelta(days=99)).map(lambda span: span - span % MILLISECOND)
labels = st.builds(
    LabelSource,
    tables,
    st.just(('e', 'f')),
    st.just('ts'),
    st.lists(
        st.one_of(names.map(lambda n: f'l{n}'), st.builds(Label, names.map(lambda n: f'm{n}'), st.none(), spans)),
        min_size=1,
        max_size=2,
        unique_by=lambda one: getattr(one, 'name', one),
    ),
    delay=st.one_of(st.none(), spans),
    where=st.dictionaries(names, st.booleans(), max_size=1),
)
shares = st.one_of(st.none(), st.floats(0, 1))
positive = st.integers(1, 2**31 - 1)
reads = st.builds(
    ReadOptions, st.sampled_from(['ONE', 'ALL']), st.one_of(st.none(), positive), positive,
    *[st.one_of(st.none(), st.floats(0.1, 1e9))] * 2,
    st.builds(Decoding, st.sampled_from(['error', 'replace']), st.sampled_from(['error', 'text'])),
)  # fmt: skip
span_ranges = st.one_of(
    st.builds(
        SpanRange,
        first=st.integers(-(2**40), 2**40),
        length=spans.map(lambda span: span + MILLISECOND),
        origin=moments,
        lateness=spans,
    ),
    st.builds(SpanRange, count=st.integers(1, 99), skip=st.integers(0, 9)),
    st.builds(SpanRange, first=st.integers(-9, 9)),
)
backups = st.builds(
    CassandraBackup,
    uri=st.sampled_from(['/backups', 's3://backups/cluster']),
    backup=st.one_of(st.none(), names),
    layout=st.sampled_from(['snapshot', 'medusa']),
    keyspace=names,
    replicas=st.sampled_from(['all', 'one']),
    ring=st.sampled_from([None, '/backups/tokenmap.json']),
)
training_sets = st.one_of(
    st.builds(
        TrainingSetOptions,
        views=st.lists(views, max_size=3).map(tuple),
        window=windows,
        labels=st.one_of(st.none(), labels),
        read=reads,
        availability_cut_off=st.booleans(),
        limits=st.one_of(st.none(), st.builds(AuditLimits, shares, shares, shares, st.one_of(st.none(), spans))),
        span=st.one_of(st.none(), span_ranges),
        as_of=st.one_of(st.none(), moments),
        history=st.one_of(st.none(), st.integers(1, 99)),
        **origin,
    )
    for origin in ({'connection': connections}, {'connection': st.none(), 'source': backups})
)
example_gens = st.builds(
    ExampleGenConfig,
    training_sets,
    st.one_of(st.none(), positive),
    shuffle_seed=st.integers(-(2**63), 2**63 - 1),
    entity_split=st.lists(names, max_size=2).map(tuple),
    time_split=maybe,
    gap=st.one_of(st.none(), spans),
    starts=st.lists(moments, max_size=2).map(tuple),
    cache_by=st.sampled_from(['configuration', 'content']),
)
retrievals = st.builds(
    RetrievalOptions, connections, st.lists(views, min_size=1, max_size=1).map(tuple), names,
    st.sampled_from(['absent', 'error']), st.just('ONE'),
)  # fmt: skip
days = st.timedeltas(datetime.timedelta(seconds=1), datetime.timedelta(days=9))
metrics = st.one_of(
    st.just(Metric('clicks', 'outcome:click', 'proportion')),
    st.builds(
        Metric,
        st.just('m'),
        st.just('prediction'),
        better=st.just('lower'),
        margin=st.floats(0, 9),
        per=st.sampled_from(['request', 'unit']),
    ),
    st.just(Metric('r', 'outcome:a', 'ratio', 'feature:b', covariate='feature:c', missing=0.5)),
)
arms = st.floats(0.1, 0.9).map(lambda share: (Arm('a', 'm', '1', share), Arm('b', 'm', '2', 1 - share)))
designs = st.builds(
    lambda names, window, delay, step, metric: Design(
        'e', names[0], names[1:], window, (metric,), delay, series_step=step
    ),
    arms, windows, days, st.sampled_from([None, datetime.timedelta(days=9999)]), metrics,
)  # fmt: skip
evaluators = st.builds(
    EvaluationOptions, connections, designs, tables, reads, st.integers(1, 9), st.one_of(st.none(), moments)
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
maybe_number = st.one_of(st.none(), numbers)
estimates = st.builds(results.ArmEstimate, names, st.integers(0, 9), st.just(0), maybe_number, maybe_number)
compared = st.builds(results.MetricResult, names, names, *[numbers] * 5, *[maybe_number] * 8, numbers, names)
arm_results = st.builds(
    results.ArmResult,
    names, names, names, numbers, st.integers(0, 2**60), st.integers(0, 2**60),
    st.lists(estimates, max_size=2).map(tuple),
    maybe, st.lists(names, max_size=2).map(tuple),
    st.lists(compared, max_size=1).map(tuple),
)  # fmt: skip
points = st.builds(results.Point, moments, names, names, st.integers(0, 9), *[maybe_number] * 4)
verdicts = st.builds(
    results.Verdict, names, names, st.lists(names, max_size=2).map(tuple), maybe, arm_results,
    st.lists(arm_results, max_size=1).map(tuple), maybe_number,
    st.lists(st.builds(results.AaCheck, names, numbers), max_size=1).map(tuple), st.integers(0, 9), st.integers(0, 9),
    st.lists(points, max_size=2).map(tuple), designs,
)  # fmt: skip
pushers = st.builds(PusherConfig, connections, names, names, maybe, maybe, st.integers(1, 2**31 - 1))


MESSAGES = {EvaluationOptions: cassandra_pb2.ABEvaluatorConfig}


def message_of(kind: type) -> Any:
    return MESSAGES.get(kind) or getattr(cassandra_pb2, kind.__name__)


@given(st.one_of(example_gens, pushers, evaluators, verdicts, retrievals))
def test_round_trip(settings: object) -> None:
    kind, message = type(settings), message_of(type(settings))
    assert protos.from_json(kind, message, protos.to_json(settings, message)) == settings


@given(span_ranges)
def test_a_span_survives_as_text(span: SpanRange) -> None:
    text = span_text(span)
    assert parse_span(text) == span
    assert '\n' not in text


KINDS = [
    ExampleGenConfig, EvaluationOptions, PusherConfig, RetrievalOptions, TrainingSetOptions, ReadOptions, AuditLimits,
    CassandraBackup, CassandraConnection, Decoding, Tls, Feature, FeatureView, Label, LabelSource, SpanRange,
    TimeWindow, Arm, Design, Metric, results.AaCheck, results.ArmEstimate, results.ArmResult, results.HeavyUnit,
    results.MetricResult, results.Point, results.Verdict, ChampionConfig, PromoterConfig, ColumnSource,
    FeatureWriterConfig,
]  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_messages_have_the_dataclasses_fields(kind: type) -> None:
    fields = message_of(kind).DESCRIPTOR.fields
    message = {field.name.removesuffix('_seconds').removesuffix('_json') for field in fields}
    assert message == {field.name for field in dataclasses.fields(kind)}


def test_every_message_is_that_of_a_dataclass() -> None:
    assert {message_of(kind).DESCRIPTOR.name for kind in KINDS} == set(cassandra_pb2.DESCRIPTOR.message_types_by_name)


def test_a_field_that_is_missing_has_its_default() -> None:
    assert protos.from_json(ReadOptions, cassandra_pb2.ReadOptions, '{"splits": 3}') == ReadOptions(splits=3)
    assert protos.from_json(SpanRange, cassandra_pb2.SpanRange, '{"count": 7}') == SpanRange(count=7)


def test_paths_leave_out_and_give_values() -> None:
    settings = PusherConfig(CassandraConnection(keyspace='here'), 'e', 'm')
    paths = ('connection.keyspace', 'model_id')
    message = protos.to_message(settings, cassandra_pb2.PusherConfig(), paths)
    assert 'here' not in str(message)
    given = dict(zip(paths, ('there', 'n'), strict=True))
    assert protos.from_message(PusherConfig, message, given) == PusherConfig(
        CassandraConnection(keyspace='there'), 'e', 'n'
    )


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (results.ArmEstimate('m', 2**63, 0, None, None), f'n: got {2**63}, rule: an integer of 64 bits'),
        (results.AaCheck('m', 'much'), "p_value: got 'much', rule: a number"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_does_not_fit_is_named(value: object, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        protos.to_message(value, message_of(type(value))())
    assert str(caught.value) == message


def test_the_password_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PASSWORD_HERE', 'open sesame')
    settings = PusherConfig(CassandraConnection(username='ada', password_env='PASSWORD_HERE'), 'e', 'm')
    assert 'open sesame' not in protos.to_json(settings, cassandra_pb2.PusherConfig) + repr(settings)


@pytest.mark.parametrize('text', ['', '{', '{"nonsense": 1}', '{"experiment_id": 3}'])
def test_bad_json_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r'^config: got .*, rule: JSON of PusherConfig') as caught:
        protos.from_json(PusherConfig, cassandra_pb2.PusherConfig, text)
    assert '\n' not in str(caught.value)
