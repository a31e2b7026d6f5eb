"""Every argument of every public constructor: a wrong value is refused in one line with field, value and rule."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import inspect
import re
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx import types
from tfx.proto.pusher_pb2 import PushDestination
from tfx.types import standard_artifacts

from tfx_cassandra import components
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.checks import Name, Rule, between, check_fields, checked, conform, words
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.files.split import HashSplits
from tfx_cassandra.components.driver.connection import Tls
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.lookup.retrieve import CassandraEnrichmentHandler, RetrieveFeatures

MESSAGE = re.compile(r'[^\n]+: got [^\n]*, rule: [^\n]+')
DAY = datetime.timedelta(days=1)
MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
CONNECTION = components.CassandraConnection()
VIEW = components.FeatureView('v', 't', ('e',), 'ts', ('f',))
WINDOW = components.TimeWindow(MOMENT, MOMENT + DAY)
BUCKETS = (('train', 2), ('eval', 1))
ARMS = components.Arm('a', 'm', '1', 0.5), components.Arm('b', 'm', '2', 0.5)
METRIC = components.Metric('m', 'prediction')
# Arguments that make each public class, one of each kind where the arguments exclude each other.
VALID: dict[Any, dict[str, Any]] = {
    components.ABEvaluator: {
        'connection': CONNECTION, 'experiment_id': 'e', 'control': ARMS[0], 'treatments': ARMS[1], 'window': WINDOW,
        'metrics': METRIC,
    },
    components.Arm: {'name': 'a', 'model_id': 'm', 'version': '1', 'weight': 0.5},
    components.AuditLimits: {},
    components.CassandraBackup: {'uri': '/backups'},
    components.CassandraConnection: {},
    components.CassandraExampleGen: {'connection': CONNECTION, 'views': VIEW, 'window': WINDOW},
    components.CassandraFeatureRetrieval: {
        'examples': types.Channel(type=standard_artifacts.Examples), 'connection': CONNECTION, 'views': VIEW,
    },
    components.CassandraPusher: {
        'model': types.Channel(type=standard_artifacts.Model), 'connection': CONNECTION, 'experiment_id': 'e',
        'model_id': 'm',
        'push_destination': PushDestination(filesystem=PushDestination.Filesystem(base_directory='/serving')),
    },
    components.CassandraFeatureWriter: {
        'examples': types.Channel(type=standard_artifacts.Examples), 'connection': CONNECTION, 'table': 't',
        'columns': {'c': 'f'},
    },
    components.ChampionModel: {'connection': CONNECTION, 'experiment_id': 'e'},
    components.ModelPromoter: {
        'verdict': types.Channel(type=AbVerdict), 'connection': CONNECTION, 'experiment_id': 'e',
    },
    components.Feature: {'name': 'f'},
    components.EntitySplits: {'buckets': BUCKETS, 'columns': ('e',)},
    components.FeatureStore: {'connection': CONNECTION},
    components.AsyncFeatureStore: {'connection': CONNECTION},
    components.FeatureView: {
        'name': 'v', 'table': 't', 'entity_columns': ('e',), 'timestamp_column': 'ts', 'features': ('f',),
    },
    components.InferenceLogger: {'connection': CONNECTION},
    components.Metric: {'name': 'm', 'value': 'outcome:o'},
    components.Label: {'name': 'l'},
    components.LabelSource: {
        'table': 't', 'entity_columns': ('e',), 'timestamp_column': 'ts', 'label_columns': ('l',),
    },
    components.ModelRegistry: {'connection': CONNECTION},
    components.ReadFromCassandra: {'connection': CONNECTION, 'table': 't', 'window': WINDOW},
    components.ReadFromSSTables: {'backup': components.CassandraBackup('/backups'), 'table': 't', 'window': WINDOW},
    components.SpanRange: {'count': 1},
    components.TimeSplits: {'buckets': BUCKETS, 'column': 'ts'},
    components.TimeWindow: {'start': MOMENT, 'end': MOMENT + DAY},
    components.WriteToCassandra: {'connection': CONNECTION, 'table': 't'},
    CassandraEnrichmentHandler: {'connection': CONNECTION, 'view': VIEW},
    Decoding: {},
    Design: {'experiment_id': 'e', 'control': ARMS[0], 'treatments': ARMS[1], 'window': WINDOW, 'metrics': METRIC},
    HashSplits: {'buckets': BUCKETS},
    RetrieveFeatures: {'connection': CONNECTION, 'views': VIEW},
    Tls: {'ca_file': 'ca.pem'},
}  # fmt: skip
ARGUMENTS = [(kind, name) for kind in VALID for name in inspect.signature(kind).parameters]
# Of no type that any argument takes.
FOREIGN: list[Any] = [
    object(), 1j, b'bytes', decimal.Decimal('1.5'), fractions.Fraction(1, 2), uuid.UUID(int=1), range(3),
    datetime.date(2020, 1, 1), datetime.time(1), np.arange(3), np.array([[1, 2], [3, 4]]), lambda: None, dict, ...,
    {'a': object()}, [object()], (object(),), {object()}, [[object()]], [None], [[None]], types.Channel,
]  # fmt: skip
values = st.one_of(
    st.sampled_from(FOREIGN),
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.sampled_from([2**31 - 1, 2**31, 2**40, -(2**40), 2**63, 2**70, -(2**70), 10**400, -(10**5000)]),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(['', 'a.b.c', '.', 'latest', 'START/END', '2020-01-01T00:00/2020-01-02T00:00', '\ud800', 'a\nb']),
    st.datetimes(),
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
    st.timedeltas(),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none(), st.floats()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([CONNECTION, VIEW, WINDOW, ARMS[0], METRIC, components.SpanRange(count=1)]),
    st.sampled_from([np.float32('nan'), np.int64(2**40), np.datetime64('NaT'), np.str_('text')]),
)


def refused(kind: Any, name: str, value: Any) -> str | None:
    """Returns the message with which a value is refused; None if it is taken."""
    try:
        kind(**{**VALID[kind], name: value})
    except (ValueError, TfxCassandraError) as error:
        message = str(error)
    else:
        return None
    assert MESSAGE.fullmatch(message), message
    return message


def test_every_public_class_is_covered() -> None:
    assert {getattr(components, name) for name in components.__all__} <= set(VALID)


@pytest.mark.parametrize('kind', VALID, ids=lambda kind: kind.__name__)
def test_what_is_valid_is_taken(kind: Any) -> None:
    kind(**VALID[kind])


@pytest.mark.parametrize(('kind', 'name'), ARGUMENTS, ids=lambda one: getattr(one, '__name__', one))
def test_what_is_of_no_fitting_type_is_refused(kind: Any, name: str) -> None:
    for value in FOREIGN:
        if kind.__name__.startswith('ReadFrom') and name == 'where' and isinstance(value, dict):
            continue  # its values are checked against the column's type, once the table is known
        message = refused(kind, name, value)
        assert message is not None, value
        assert name in message


@given(st.data())
@settings(max_examples=1500, deadline=None)
def test_a_value_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    kind, name = data.draw(st.sampled_from(ARGUMENTS))
    refused(kind, name, data.draw(values))


@pytest.mark.parametrize(
    ('kind', 'arguments', 'message'),
    [
        (components.CassandraExampleGen, {'window': 42}, 'window: got 42, rule: a TimeWindow, a text, '),
        (components.CassandraExampleGen, {'window': 'May'}, "window: got 'May', rule: START/END in ISO-8601"),
        (components.CassandraExampleGen, {'views': ['flights']}, "views: got ['flights'], rule: a FeatureView or a "),
        (components.CassandraExampleGen, {'shards': 1.5}, 'shards: got 1.5, rule: an integer of at least 1'),
        (
            components.CassandraExampleGen,
            {'availability_cut_off': 'off'},
            "availability_cut_off: got 'off', rule: True",
        ),
        (components.CassandraExampleGen, {'shuffle_seed': 2**70}, f'shuffle_seed: got {2**70}, rule: an integer of 64'),
        (components.CassandraExampleGen, {'page_rows': 2**40}, f'page_rows: got {2**40}, rule: an integer of at least'),
        (components.CassandraExampleGen, {'rows_per_second': True}, 'rows_per_second: got True, rule: a number above'),
        (components.CassandraExampleGen, {'history': 0}, 'history: got 0, rule: an integer of at least 1'),
        (components.CassandraConnection, {'connect_timeout': None}, 'connect_timeout: got None, rule: seconds above'),
        (components.CassandraConnection, {'contact_points': 5}, 'contact_points: got 5, rule: one or more host names'),
        (components.ReadFromCassandra, {'window': 'May'}, "window: got 'May', rule: START/END in ISO-8601"),
        (components.ReadFromCassandra, {'page_rows': 2**40}, f'page_rows: got {2**40}, rule: an integer of at least'),
        (components.ReadFromCassandra, {'rows_per_second': True}, 'rows_per_second: got True, rule: a number above 0'),
        (components.ReadFromCassandra, {'columns': 'name'}, "columns: got 'name', rule: one or more names, each once"),
        (components.ReadFromCassandra, {'table': 'a.b.c'}, "table: got 'a.b.c', rule: the name of a table, or key"),
        (components.WriteToCassandra, {'ttl': 3600}, 'ttl: got 3600, rule: whole seconds, at least one and at most 20'),
        (components.WriteToCassandra, {'ttl': 9999 * DAY}, 'ttl: got datetime.timedelta(days=9999), rule: whole sec'),
        (components.ABEvaluator, {'control': 'a'}, "control: got 'a', rule: an Arm"),
        (components.ABEvaluator, {'alpha': float('nan')}, 'alpha: got nan, rule: between 0 and 1'),
        (components.ModelRegistry, {'connection': 'localhost'}, "connection: got 'localhost', rule: a CassandraConn"),
    ],
)
def test_messages(kind: Any, arguments: dict[str, Any], message: str) -> None:
    ((name, value),) = arguments.items()
    assert (refused(kind, name, value) or '').startswith(message)


def test_a_window_may_be_text() -> None:
    read = components.ReadFromCassandra(CONNECTION, 't', window='2020-01-01T00:00Z/2020-01-02T00:00Z')
    assert read.display_data()['window'] == str(WINDOW)


@pytest.mark.parametrize(
    ('hint', 'rule'),
    [
        (int, 'an integer'),
        (Name | None, 'a non-empty text, or None'),
        (Literal['a', 'b', 'c'], "'a', 'b' or 'c'"),
        (tuple[Name, ...], 'a list in which each item is a non-empty text'),
        (tuple[str, int], '(a text, an integer)'),
        (Annotated[int, between(1, 9)], 'an integer from 1 to 9'),
        (str | int | float, 'a text, an integer or a number'),
    ],
)
def test_rules_in_words(hint: Any, rule: str) -> None:
    assert words(hint) == rule


def test_forms() -> None:
    assert conform('names', 'a', tuple[str, ...]) == ('a',)
    assert conform('names', ['a', 'b'], tuple[str, ...]) == ('a', 'b')
    assert conform('pairs', [['a', 1]], tuple[tuple[str, int], ...]) == (('a', 1),)
    at = datetime.datetime(2020, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert conform('at', at, datetime.datetime).utcoffset() == datetime.timedelta(0)
    with pytest.raises(ValueError, match=r'^names: got \{.*\}, rule: a list'):
        conform('names', {'a': 1}, tuple[str, ...])


def test_classes_of_our_own() -> None:
    even = Annotated[int, Rule('an even number', lambda number: number % 2 == 0)]

    @dataclasses.dataclass(frozen=True)
    class Pair:
        number: Any

        def __post_init__(self) -> None:
            check_fields(self, 'pair.')

    def make(number: Any, *, name: Any = 'n') -> None:
        assert isinstance(number, int)

    make.__annotations__ = {'number': even, 'name': Name}
    Pair.__annotations__ = {'number': even}
    decorated: Callable[..., None] = checked(make)
    decorated(2, name='x')
    for call, message in (
        (lambda: Pair(3), 'pair.number: got 3, rule: an even number'),
        (lambda: decorated(3), 'number: got 3, rule: an even number'),
        (lambda: decorated(2, name=''), "name: got '', rule: a non-empty text"),
    ):
        with pytest.raises(ValueError, match='rule') as caught:
            call()
        assert str(caught.value) == message
