"""Audits add up, quantiles of age are accurate to one percent, and limits name the features beyond them."""

from __future__ import annotations

import datetime
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.dataset.join.audit import Audit, AuditLimits, readable
from tfx_cassandra.components.dataset.join.join import CUT_OFF, EXPIRED, FOUND, MISSING, FeatureOutcome
from tfx_cassandra.components.errors import DatasetError

ages_ = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 10**15)), min_size=1, max_size=50)


def outcome(ages: list[int], *others: int, name: str = 'f') -> FeatureOutcome:
    return FeatureOutcome(name, np.array([FOUND] * len(ages) + list(others), np.int8), np.array(ages, np.int64))


@settings(deadline=None)
@given(st.lists(ages_, min_size=1, max_size=4))
def test_quantiles_of_parts_are_those_of_the_whole_to_one_percent(parts: list[list[int]]) -> None:
    audit = Audit()
    for part in parts:
        audit.merge(pickle.loads(pickle.dumps(Audit().add([outcome(part)]))))
    every = np.sort(np.concatenate(parts))
    report = audit.report(cut_off=True)['features']['f']['age_seconds']
    assert report['max'] == every[-1] / 1e6
    for label, q in (('p50', 0.5), ('p95', 0.95)):
        exact = np.quantile(every, q, method='lower') / 1e6
        assert report[label] == pytest.approx(exact, rel=0.0101)


def test_the_report_has_shares_and_a_readable_page() -> None:
    audit = Audit().add([outcome([3_600_000_000], MISSING, EXPIRED, CUT_OFF, CUT_OFF), outcome([], MISSING, name='g')])
    report = audit.report(cut_off=True)
    assert report['features']['f'] | {'age_seconds': None} == {
        'examples': 5, 'found': 0.2, 'missing': 0.2, 'expired': 0.2, 'cut_off': 0.4, 'age_seconds': None,
    }  # fmt: skip
    assert 'age_seconds' not in report['features']['g']
    page = readable(report)
    assert '| f | 5 | 20.00% | 20.00% | 20.00% | 40.00% |' in page
    assert '1:00:00 |' in page
    assert 'cut-off on' in page
    assert 'cut-off OFF' in readable(audit.report(cut_off=False))


def test_limits_name_every_feature_beyond_them() -> None:
    audit = Audit().add([outcome([10_000_000] * 8, MISSING, CUT_OFF), outcome([1] * 10, name='g')])
    report = audit.report(cut_off=True)
    AuditLimits(missing=0.1, expired=0.0, cut_off=0.1, age_p95=datetime.timedelta(seconds=11)).check(report)
    AuditLimits().check(report)
    strict = AuditLimits(missing=0.09, cut_off=0.0, age_p95=datetime.timedelta(seconds=9))
    with pytest.raises(DatasetError) as caught:
        strict.check(report)
    assert str(caught.value) == (
        'limits: got f missing 0.1000 (limit 0.09); f cut_off 0.1000 (limit 0.0); f age_p95 10 s (limit 9 s), '
        'rule: no feature of the training set beyond a limit'
    )


@pytest.mark.parametrize(
    'change',
    [{'missing': 1.1}, {'expired': -0.1}, {'age_p95': datetime.timedelta(-1)}, {'cut_off': '1'}, {'age_p95': 60}],
)
def test_bad_limits(change: dict) -> None:
    with pytest.raises(ValueError, match=f'^limits.{next(iter(change))}: got'):
        AuditLimits(**change)


@pytest.mark.parametrize('limits', [{'missing': 0}, {'missing': 1}, {'age_p95': datetime.timedelta(1)}])
def test_without_examples_every_limit_fails(limits: dict) -> None:
    for audit in (Audit(), Audit().add([outcome([])])):
        report = audit.report(cut_off=True)
        with pytest.raises(DatasetError, match=r'^limits: got no examples, rule: at least one example'):
            AuditLimits(**limits).check(report)
        AuditLimits().check(report)


def test_notes_point_out_times_in_another_unit() -> None:
    year = 365 * 86_400 * 10**6
    plain = Audit().add(
        [outcome([1, 9 * year, 9 * year]), outcome([1], MISSING, name='g'), outcome([], EXPIRED, name='h')]
    )
    assert plain.report(cut_off=True)['notes'] == []
    assert 'Notes' not in readable(plain.report(cut_off=True))
    odd = Audit().add([outcome([1, 50 * year, 50 * year], name='a|b'), outcome([], MISSING, MISSING, name='g')])
    report = odd.report(cut_off=True)
    old, lost = report['notes']
    assert old.startswith('a|b: half of its values are 50 years old or more; are the times of its view seconds?')
    assert lost.startswith('g: no example has a value up to its time')
    page = readable(report).splitlines()
    assert f'- {lost}' in page
    (row,) = [line for line in page if line.startswith('| a')]
    assert row.startswith(r'| a\|b | 3 |')


def test_values_that_have_become_infinite_are_in_the_audit() -> None:
    report = Audit().add([outcome([1])]).report(cut_off=True, overflows={'x': 2, 'f': 1_000})
    assert report['beyond_float32'] == {'f': 1000, 'x': 2}
    assert 'infinite there: f 1,000, x 2 values.' in readable(report)
    assert 'infinite' not in readable(Audit().add([outcome([1])]).report(cut_off=True))
