"""Assignment: the formula as it is written down, even over units, apart between experiments."""

from __future__ import annotations

import collections
import datetime
import hashlib
import itertools
import math
import uuid
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment import assignment
from tfx_cassandra.components.inference_log.logger import InferenceLogger, assign, bucket_of

WEIGHTS = {'control': 0.6, 'b': 0.3, 'c': 0.1}


def by_hand(experiment: str, unit: str, weights: dict[str, float]) -> str:
    """The formula of docs/ab-testing.md in integers: no rounding but that of the weights."""
    number = int(hashlib.sha256(experiment.encode() + b'\0' + unit.encode()).hexdigest()[:16], 16)
    end = 0
    for arm, weight in weights.items():
        end += round(weight * 2**64)
        if number < end:
            return arm
    return arm


@given(st.text(min_size=1).filter(lambda text: '\0' not in text), st.text(min_size=1))
def test_assignment_is_the_formula(experiment: str, unit: str) -> None:
    assert assign(experiment, unit, WEIGHTS) == by_hand(experiment, unit, WEIGHTS)


def test_known_units_stay_where_they_are() -> None:
    known = ['b', 'b', 'b', 'c', 'c', 'b', 'control', 'control']
    # Whatever is changed here sends units of running experiments to another arm.
    assert [assign('flight-delay', f'unit {i}', WEIGHTS) for i in range(8)] == known


def test_units_are_spread_by_weight() -> None:
    counts = collections.Counter(assign('e', str(i), WEIGHTS) for i in range(50_000))
    expected = [50_000 * weight for weight in WEIGHTS.values()]
    assert stats.chisquare([counts[arm] for arm in WEIGHTS], expected).pvalue > 0.001


def test_experiments_are_independent() -> None:
    half = {'a': 0.5, 'b': 0.5}
    pairs = collections.Counter((assign('e', str(i), half), assign('f', str(i), half)) for i in range(20_000))
    table = [[pairs[one, other] for other in 'ab'] for one in 'ab']
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_a_unit_and_an_experiment_do_not_run_together() -> None:
    arms = {(e, u): assign(e, u, {str(i): 1 / 64 for i in range(64)}) for e, u in itertools.product('ab', ('b', 'ab'))}
    assert len(set(arms.values())) > 1


def test_the_last_arm_takes_what_rounding_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    tenths = {str(i): 0.1 for i in range(10)}
    assert math.fsum(tenths.values()) == 1 != list(itertools.accumulate(tenths.values()))[-1]
    # The last point there is, behind the end that rounding leaves.
    monkeypatch.setattr(assignment.hashlib, 'sha256', lambda _: SimpleNamespace(digest=lambda: b'\xff' * 32))
    assert assign('e', 'u', tenths) == '9'


@pytest.mark.parametrize('weights', [{}, {'a': 0.5}, {'a': 0.7, 'b': 0.7}, {'a': 1.0, 'b': 0.0}, {'a': math.nan}])
def test_weights_sum_to_one(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r'weights: got .*, rule: positive numbers that sum to one'):
        assign('e', 'u', weights)


@pytest.mark.parametrize('experiment', ['', 'a\0b'])
def test_an_experiment_has_a_name(experiment: str) -> None:
    with pytest.raises(ValueError, match='experiment_id: got'):
        assign(experiment, 'u', {'a': 1.0})


@pytest.mark.parametrize('unit', ['', None, 5])
def test_a_unit_has_a_name(unit: str) -> None:
    with pytest.raises(ValueError, match=r'unit: got .*, rule: a non-empty text'):
        assign('e', unit, {'a': 1.0})


def test_buckets_are_hours_in_utc_with_a_salt() -> None:
    moment = datetime.datetime(2026, 11, 23, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    buckets = {bucket_of(moment, uuid.UUID(int=i)) for i in range(200)}
    assert buckets == {f'2026-11-23T10/{salt}' for salt in range(8)}
    assert bucket_of(moment, uuid.UUID(int=7), salts=1) == '2026-11-23T10/0'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'table': 'elsewhere'}, "table: got 'elsewhere', rule: inference_results or"),
        ({'capacity': 0}, 'capacity: got 0'),
        ({'salts': 0}, 'salts: got 0'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST'"),
        ({'experiment_id': 5}, 'experiment_id: got 5, rule: a non-empty text, or None'),
        ({'experiment_id': ''}, "experiment_id: got '', rule: a non-empty text, or None"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InferenceLogger(CassandraConnection(), **arguments)


@pytest.mark.parametrize('table', ['inference_results', 'inference_results_bucketed'])
@pytest.mark.parametrize('request_id', ['6d8b1a0e-9a55-4c80-8d3c-2f5d2f0c3a11', '', 7])
def test_a_request_id_is_a_uuid(table: str, request_id: uuid.UUID) -> None:
    log = InferenceLogger(CassandraConnection(), table=table)
    with pytest.raises(ValueError, match=r'request_id: got .*, rule: a uuid\.UUID'):
        log.log('m', 0.5, request_id=request_id)
    with pytest.raises(ValueError, match=r'request_id: got .*, rule: a uuid\.UUID'):
        log.log_outcome('m', request_id, 'click', 1.0)
