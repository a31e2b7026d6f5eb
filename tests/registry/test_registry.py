"""The rules of versions that need no cluster."""

from __future__ import annotations

import dataclasses
import datetime
import random
import time

import pytest
from cassandra import ConsistencyLevel, InvalidRequest, WriteTimeout, WriteType
from cassandra.protocol import ErrorMessage
from counted import counted

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry import session as registry_session
from tfx_cassandra.components.registry.claims import moment, next_version
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.registry.session import RegistrySession

UTC = datetime.timezone.utc
VERSION = ModelVersion('flights', 'delay', '1700000000', moment(1_700_000_000))


@pytest.mark.parametrize(
    ('now', 'last', 'version'),
    [
        (1_700_000_000.0, None, 1_700_000_000),
        (1_700_000_000.9, None, 1_700_000_000),
        (1_700_000_000.9, 1_699_999_999, 1_700_000_000),
        (1_700_000_000.9, 1_700_000_000, 1_700_000_001),
        (1_700_000_000.0, 1_700_000_500, 1_700_000_501),  # a clock behind the last pusher's
        (0.0, None, 1),
    ],
)
def test_a_version_is_the_second_or_one_more_than_the_last(now: float, last: int | None, version: int) -> None:
    assert next_version(now, last) == version


def test_different_versions_have_different_moments_that_cassandra_stores_exactly() -> None:
    assert moment(1_700_000_000) == datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert moment(1_700_000_001) - moment(1_700_000_000) == datetime.timedelta(seconds=1)
    assert dataclasses.replace(VERSION, created_at=moment(1_700_000_001)).created_at.microsecond == 0


@pytest.mark.parametrize(
    ('field', 'value', 'rule'),
    [
        ('experiment_id', '', 'a non-empty text'),
        ('model_id', None, 'a non-empty text'),
        ('version', 17, 'a non-empty text'),
        ('created_at', datetime.datetime(2023, 11, 14), 'time zone'),
        ('created_at', datetime.datetime(2023, 11, 14, microsecond=1, tzinfo=UTC), 'whole milliseconds'),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f'^{field}: got .*{rule}'):
        dataclasses.replace(VERSION, **{field: value})


@pytest.mark.parametrize('field', ['experiment_id', 'model_id', 'digest'])
def test_a_claim_needs_every_part_of_its_key(field: str) -> None:
    key = {'experiment_id': 'flights', 'model_id': 'delay', 'digest': 'abc', field: ''}
    with pytest.raises(ValueError, match=f"^{field}: got '', rule: a non-empty text"):
        ModelRegistry(CassandraConnection()).claim(**key)


class Attempts:
    """Outcomes of successive attempts: an exception is raised, anything else returned."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.made = 0

    def __call__(self) -> object:
        outcome = self.outcomes[min(self.made, len(self.outcomes) - 1)]
        self.made += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(time, 'sleep', taken.append)
    return taken


TIMEOUT = WriteTimeout('timed\nout', consistency=ConsistencyLevel.SERIAL, write_type=WriteType.CAS)
UNKNOWN = ErrorMessage(0x1700, 'CAS operation result is unknown', None)


@pytest.mark.parametrize('failure', [None, TIMEOUT, UNKNOWN], ids=['contention', 'timeout', 'unknown'])
def test_an_unsettled_attempt_is_made_again_after_a_pause(
    failure: object, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(failure, failure, 'claimed')
    monkeypatch.setattr(random, 'uniform', lambda low, high: high)  # the longest pause that may be drawn
    with counted() as grown:
        assert RegistrySession(CassandraConnection(), ()).settle(attempts, 'model_id') == 'claimed'
    assert attempts.made == 3
    assert grown == {('tfx_cassandra_registry_retries_total', ()): 2}
    assert pauses == [0.02, 0.04]


@pytest.mark.parametrize(
    ('failure', 'reason'),
    [
        (None, 'other pushers came first'),
        (TIMEOUT, 'WriteTimeout: .*timed out'),
        (UNKNOWN, 'CAS op'),
    ],
)
def test_attempts_are_bounded_in_time_and_the_error_is_one_line(
    failure: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_session, 'SETTLE_SECONDS', 0.5)
    attempts, began = Attempts(failure), time.monotonic()
    with pytest.raises(RegistryError, match=rf'^model_id within [\d.]+ s, \d+ attempts \(.*{reason}') as caught:
        RegistrySession(CassandraConnection(), ()).settle(attempts, 'model_id')
    assert attempts.made > 1
    assert time.monotonic() - began <= 1.0  # half of it is for a machine that does other things meanwhile
    assert '\n' not in str(caught.value)


def test_a_request_takes_no_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_session, 'SETTLE_SECONDS', 5.0)
    session = RegistrySession(CassandraConnection(request_timeout=30.0), ())
    assert session._timeout() == 30.0
    assert session.settle(session._timeout, 'model_id') == pytest.approx(5.0, abs=0.5)
    assert session._timeout() == 30.0


def test_a_refused_statement_is_not_repeated(pauses: list[float]) -> None:
    attempts = Attempts(InvalidRequest('no such column'))
    with pytest.raises(RegistryError, match='no such column'):
        RegistrySession(CassandraConnection(), ()).settle(attempts, 'model_id')
    assert (attempts.made, pauses) == (1, [])
