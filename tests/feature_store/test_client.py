"""What a FeatureValue accepts, and what a FeatureStore refuses before it says anything to a cluster."""

from __future__ import annotations

import datetime
import math
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cassandra import OperationTimedOut
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.window import milliseconds

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)


def _value(**fields: Any) -> FeatureValue:
    return FeatureValue(**{'model_id': 'm', 'feature_name': 'f', 'timestamp': NOON, 'value': 1.0, **fields})


@pytest.mark.parametrize(
    ('field', 'value', 'rule'),
    [
        ('timestamp', datetime.datetime(2013, 1, 1), 'a datetime with a time zone'),
        ('timestamp', '2013-01-01T00:00Z', 'a datetime with a time zone'),
        ('timestamp', NOON.replace(microsecond=1), 'whole milliseconds'),
        ('timestamp', NOON.replace(microsecond=999_999), 'whole milliseconds'),
        ('value', '1.0', 'a real number'),
        ('value', True, 'a real number'),
        ('value', 1j, 'a real number'),
        ('value', 10**400, 'a real number'),
        ('model_id', '', 'a text of 1 to 65535 bytes'),
        ('model_id', None, 'a text of 1 to 65535 bytes'),
        ('model_id', 'x' * 65536, 'a text of 1 to 65535 bytes'),
        ('model_id', 'ä' * 32768, 'a text of 1 to 65535 bytes'),
        ('feature_name', '', 'a text of 1 to 65535 bytes'),
        ('feature_name', '\ud800', 'a text of 1 to 65535 bytes'),
        ('feature_name', 7, 'a text of 1 to 65535 bytes'),
        ('metadata', {1: 'a'}, 'a text that UTF-8 can encode'),
        ('metadata', {'a': None}, 'a text that UTF-8 can encode'),
        ('metadata', {'a': '\udfff'}, 'a text that UTF-8 can encode'),
    ],
)
def test_a_value_names_the_field_that_breaks_its_rule(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f'^{field}.*: got .*, rule: {rule}') as caught:
        _value(**{field: value})
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ('given_value', 'kept'),
    [(1, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (math.inf, math.inf), (-math.inf, -math.inf), (None, None)],
)
def test_a_value_is_a_double_or_missing(given_value: object, kept: float | None) -> None:
    value = _value(value=given_value).value
    assert value == kept
    assert value is None or type(value) is float


def test_a_nan_is_kept() -> None:
    assert math.isnan(_value(value=math.nan).value)


@pytest.mark.parametrize(
    ('metadata', 'user_id'),
    [(None, None), ({}, None), ({'a': 'b'}, None), ({'user_id': ''}, None), ({'user_id': 'u1', 'a': 'b'}, 'u1')],
)
def test_the_user_is_the_one_of_the_metadata(metadata: dict | None, user_id: str | None) -> None:
    assert _value(metadata=metadata).user_id == user_id


@pytest.mark.parametrize(
    ('moment', 'first'),
    [
        (datetime.datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), 1),
        (datetime.datetime(1970, 1, 1, 0, 0, 0, 1001, tzinfo=UTC), 2),
        (datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), -1),
        (datetime.datetime(1969, 12, 31, 23, 59, 59, 999_001, tzinfo=UTC), 0),
        (datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))), 0),
        (datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), 253_402_300_799_999),
    ],
)
def test_a_bound_is_the_first_millisecond_not_before_it(moment: datetime.datetime, first: int) -> None:
    assert milliseconds('start', moment) == first


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-3, 3))
def test_a_bound_in_milliseconds_selects_what_the_moment_selects(moment: datetime.datetime, near: int) -> None:
    stored = milliseconds('t', moment) + near
    exact = (moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // datetime.timedelta(microseconds=1)
    assert (stored >= milliseconds('t', moment)) == (stored * 1000 >= exact)


def test_a_consistency_is_checked_at_construction() -> None:
    with pytest.raises(ValueError, match=r"^consistency: got 'MOST', rule: one of "):
        FeatureStore(CassandraConnection(), consistency='MOST')


def test_a_store_is_used_inside_its_with_block() -> None:
    store = FeatureStore(CassandraConnection())
    message = re.escape('ml_features.feature_store: the store is not open, rule: used inside its `with` block')
    with pytest.raises(TfxCassandraError, match=message):
        store.write_feature('m', 'f', 1.0, NOON)
    with pytest.raises(TfxCassandraError, match=message):
        store.get_latest_feature('m', 'f')
    store.close()


class _Future:
    """Answers when it is told to, as a node that is slow or dead; no real one can be made to keep a given pace."""

    def __init__(self, session: _Session, answer: list | Exception) -> None:
        self._session, self._answer = session, answer

    def result(self) -> Any:
        self._session.waiting -= 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return type('ResultSet', (), {'all': lambda _: self._answer})()


class _Session:
    """Counts the requests in flight."""

    def __init__(self) -> None:
        self.waiting = self.most = 0

    def execute_async(self, answer: list | Exception, **_: object) -> _Future:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return _Future(self, answer)


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    session = _Session()
    error = OperationTimedOut()
    answers: list[list | Exception] = [[n] for n in range(100)]
    answers[41] = error
    got = list(outcomes(session, enumerate(answers), 7))
    assert got == list(enumerate(answers))
    assert (session.most, session.waiting) == (7, 0)


@pytest.mark.parametrize('rows', [0, 1, 6, 7, 8])
def test_every_request_has_an_outcome(rows: int) -> None:
    got = list(outcomes(_Session(), ((n, [n]) for n in range(rows)), 7))
    assert got == [(n, [n]) for n in range(rows)]


def test_input_is_taken_as_there_is_room_and_in_the_callers_thread() -> None:
    taken, threads = [], set()

    def requests() -> Iterator[tuple[int, list]]:
        for n in range(100):
            taken.append(n)
            threads.add(threading.get_ident())
            yield n, [n]

    running = outcomes(_Session(), requests(), 7)
    assert taken == []
    next(running)
    assert len(taken) == 8
    assert threads == {threading.get_ident()}


def test_input_that_raises_is_heard_of_after_what_was_sent_is_done() -> None:
    session = _Session()

    def requests() -> Iterator[tuple[int, list]]:
        yield from ((n, [n]) for n in range(3))
        raise OSError('the file ended')

    with pytest.raises(OSError, match='the file ended'):
        list(outcomes(session, requests(), 7))
    assert session.waiting == 0
