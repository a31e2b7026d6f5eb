"""Writers whose clocks differ: which write counts is what the pages say, and no version is given twice."""

from __future__ import annotations

import datetime
import random
import time

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from cassandra.cluster import Session
from fault_place import MismatchError
from fault_results import note, outcome_of

from tfx_cassandra.components import FeatureStore, ModelRegistry, WriteToCassandra
from tfx_cassandra.components.driver import write_time
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.feature_store.client import FeatureValue

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SKEWS = [datetime.timedelta(hours=hours) for hours in (-30, -1, 1, 30)]
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
EVENTS = [NOON + datetime.timedelta(minutes=minute) for minute in range(4)]


def skew(patch: pytest.MonkeyPatch, by: datetime.timedelta) -> None:
    """Sets the clock of this process's writes."""
    seconds = by.total_seconds()
    now, now_ns = time.time, time.time_ns
    patch.setattr(write_time, '_last', 0)
    patch.setattr(time, 'time', lambda: now() + seconds)
    patch.setattr(time, 'time_ns', lambda: now_ns() + int(seconds * 1e9))


@pytest.fixture(scope='module')
def events(session: Session) -> str:
    session.execute('CREATE TABLE faults.readings (k int PRIMARY KEY, v int, at timestamp)')
    return 'readings'


def write(connection: CassandraConnection, rows: list[dict], **options: str) -> None:
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create(rows) | WriteToCassandra(connection, 'readings', **options)


@pytest.mark.parametrize('by', SKEWS, ids=str)
def test_with_event_times_clocks_do_not_matter(
    node: CassandraConnection, session: Session, events: str, by: datetime.timedelta
) -> None:
    """Two writers, one of a skewed clock, write the events of a key in any order and more than once."""
    chance, k = random.Random(by.total_seconds()), SKEWS.index(by)
    writes = [{'k': k, 'v': v, 'at': at} for v, at in enumerate(EVENTS)] * 2
    chance.shuffle(writes)

    def check() -> None:
        for row in writes:
            with pytest.MonkeyPatch.context() as patch:
                if chance.random() < 0.5:
                    skew(patch, by)
                write(node, [row], timestamp_column='at')
        v, written = session.execute(f'SELECT v, writetime(v) FROM faults.readings WHERE k = {k}').one()
        if (v, written) != (3, int(EVENTS[-1].timestamp() * 1e6)):
            raise MismatchError(f'got {v} written at {written}')

    outcome = outcome_of(check)
    note('write', f'clock {by.total_seconds() / 3600:+.0f} h, by event times', outcome)
    assert outcome.kind == 'equal', outcome


@pytest.mark.parametrize('by', SKEWS, ids=str)
def test_without_them_the_later_clock_counts(
    node: CassandraConnection, session: Session, events: str, by: datetime.timedelta
) -> None:
    """What docs/known-issues.md says: the clocks of the writers decide, whichever write came last."""
    k = 100 + SKEWS.index(by)
    with pytest.MonkeyPatch.context() as patch:
        skew(patch, by)
        write(node, [{'k': k, 'v': 1, 'at': NOON}])
    write(node, [{'k': k, 'v': 2, 'at': NOON}])
    (v,) = session.execute(f'SELECT v FROM faults.readings WHERE k = {k}').one()
    assert v == (1 if by > datetime.timedelta() else 2)


@pytest.mark.parametrize('by', SKEWS, ids=str)
def test_a_correction_counts_by_when_it_was_known(node: CassandraConnection, by: datetime.timedelta) -> None:
    model, hour = f'm{SKEWS.index(by)}', datetime.timedelta(hours=1)
    value = FeatureValue(model, 'temp', NOON, 93.0, written_at=NOON)
    correction = FeatureValue(model, 'temp', NOON, 39.0, written_at=NOON + hour)

    def check() -> None:
        with FeatureStore(node) as store:
            for one in (correction, value, value):
                with pytest.MonkeyPatch.context() as patch:
                    skew(patch, by)
                    store.write_features([one])
            found = store.get_latest_feature(model, 'temp')
        if found is None or found.value != 39.0:
            raise MismatchError(f'got {found}')

    outcome = outcome_of(check)
    note('feature store', f'clock {by.total_seconds() / 3600:+.0f} h, by written_at', outcome)
    assert outcome.kind == 'equal', outcome


@pytest.mark.parametrize('by', SKEWS, ids=str)
def test_versions_of_a_skewed_pusher_are_new_and_grow(node: CassandraConnection, by: datetime.timedelta) -> None:
    experiment = f'clock {SKEWS.index(by)}'

    def check() -> None:
        versions = []
        for number in range(6):
            with ModelRegistry(node) as registry, pytest.MonkeyPatch.context() as patch:
                if number % 2:
                    skew(patch, by)
                versions.append(registry.claim(experiment, 'm', f'{number:064x}').version)
        if versions != sorted(set(versions)):
            raise MismatchError(f'versions in turn: {versions}')

    outcome = outcome_of(check)
    note('registry', f'clock {by.total_seconds() / 3600:+.0f} h', outcome)
    assert outcome.kind == 'equal', outcome
