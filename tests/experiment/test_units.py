"""Units that make many requests: the errors are theirs, whatever is counted, and their past takes out noise."""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from tfx_cassandra.components.experiment import estimates, sequential, statistics
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.observations import Counts
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.experiment.tally import tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.window import TimeWindow

ALPHA = 0.05
WINDOW = TimeWindow.parse('2013-06-02T00:00Z/2013-06-04T00:00Z')
MEAN = Metric('m', 'prediction')
DESIGN = Design(
    'e', Arm('control', 'm', '1', 0.5), (Arm('treatment', 'm', '2', 0.5),), WINDOW, (MEAN,), decide_by='fixed'
)
SCHEMA = {
    'unit': pl.String, 'request_id': pl.Binary, 'timestamp': pl.Datetime('ms', 'UTC'), 'arm': pl.Int64,
    'm.y': pl.Float64, 'm.d': pl.Float64, 'm.x': pl.Float64,
}  # fmt: skip


def row(unit: str | None, arm: int | None, y: float | None, **columns: Any) -> dict[str, Any]:
    """One request, as `join_outcomes` returns it; of no arm, it is before the window."""
    hour = -1 if arm is None else 1
    return {
        'unit': unit,
        'arm': arm,
        'm.y': y,
        'm.d': 1.0,
        'timestamp': WINDOW.start + datetime.timedelta(hours=hour),
    } | columns


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{'request_id': b'r%05d' % i, **r} for i, r in enumerate(rows)], schema=SCHEMA)


def found(rows: list[dict[str, Any]], metric: Metric = MEAN, **changes: Any) -> Verdict:
    design = dataclasses.replace(DESIGN, metrics=(metric,), **changes)
    return decide(design, tally(frame(rows), Counts(), design))


def visits(seed: int, units: int = 200, effect: float = 0.0, spread: float = 1.0) -> list[dict[str, Any]]:
    """Units with one to some twenty requests, which are alike within a unit."""
    draw = np.random.default_rng(seed)
    rows = []
    for unit in range(units):
        level = draw.normal(effect * (unit % 2), spread)
        for value in level + draw.normal(0, 1, draw.geometric(0.2)):
            rows.append(row(f'u{unit}', unit % 2, float(value), **{'m.d': float(draw.integers(1, 5))}))
    return rows


def sums(rows: list[dict[str, Any]], arm: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slow way: of each unit of an arm the number of its requests, the sum of y and the sum of d."""
    of_units: dict[str, list[dict[str, Any]]] = {}
    for entry in rows:
        if entry['arm'] == arm:
            of_units.setdefault(entry['unit'], []).append(entry)
    sizes = np.array([len(group) for group in of_units.values()], dtype=float)
    return sizes, *(np.array([sum(r[key] for r in group) for group in of_units.values()]) for key in ('m.y', 'm.d'))


@pytest.mark.parametrize('kind', ['mean', 'ratio'])
def test_a_mean_of_requests_is_tested_by_the_linear_forms_of_units(kind: str) -> None:
    rows = visits(3, effect=0.4)
    metric = dataclasses.replace(MEAN, kind=kind, denominator='confidence' if kind == 'ratio' else None)
    result = found(rows, metric).treatments[0].metrics[0]
    linear = []
    for arm in (0, 1):
        sizes, y, d = sums(rows, arm)
        d = d if kind == 'ratio' else sizes
        linear.append(y.sum() / d.sum() + (y - y.sum() / d.sum() * d) / d.mean())
    control, treatment = map(DescrStatsW, linear)
    assert result.difference == pytest.approx(treatment.mean - control.mean)
    oracle = CompareMeans(treatment, control)
    interval = oracle.zconfint_diff if kind == 'ratio' else oracle.tconfint_diff
    assert (result.low, result.high) == pytest.approx(interval(ALPHA, usevar='unequal'))
    # The figure itself is that of the requests, whoever made them.
    requests = [[r['m.y'] for r in rows if r['arm'] == arm] for arm in (0, 1)]
    if kind == 'mean':
        assert result.difference == pytest.approx(np.mean(requests[1]) - np.mean(requests[0]))


def test_what_units_sum_to_is_a_plain_test_of_sums() -> None:
    rows = visits(4, effect=0.4)
    verdict = found(rows, dataclasses.replace(MEAN, per='unit'))
    result, (control, treatment) = verdict.treatments[0].metrics[0], (sums(rows, arm)[1] for arm in (0, 1))
    assert result.difference == pytest.approx(treatment.mean() - control.mean())
    assert result.p_value == pytest.approx(stats.ttest_ind(treatment, control, equal_var=False).pvalue)
    assert (verdict.control.units, verdict.control.requests) == (100, sum(r['arm'] == 0 for r in rows))


def test_units_that_ever_did_are_a_proportion() -> None:
    draw = np.random.default_rng(2)
    rows = [row(f'u{u}', u % 2, float(draw.random() < 0.1)) for u in range(400) for _ in range(draw.integers(1, 6))]
    metric = dataclasses.replace(MEAN, kind='proportion', per='unit')
    verdict = found(rows, metric)
    ever = [np.mean(sums(rows, arm)[1] > 0) for arm in (0, 1)]
    assert [arm.estimates[0].value for arm in verdict.arms] == pytest.approx(ever)
    assert verdict.treatments[0].metrics[0].test == 'two-proportion z'
    of_requests = found(rows, dataclasses.replace(metric, per='request')).treatments[0].metrics[0]
    assert of_requests.test == 'z by the delta method'


def test_one_request_a_unit_is_what_it_is_without_units() -> None:
    draw = np.random.default_rng(1)
    rows = [row(f'u{i}', i % 2, float(draw.normal())) for i in range(300)]
    alone = [entry | {'unit': None} for entry in rows]
    for metric in (MEAN, dataclasses.replace(MEAN, per='unit')):
        named, own = (found(case, metric).treatments[0].metrics[0] for case in (rows, alone))
        assert (named.difference, named.p_value) == pytest.approx((own.difference, own.p_value))
    y = [[r['m.y'] for r in rows if r['arm'] == arm] for arm in (0, 1)]
    assert named.p_value == pytest.approx(stats.ttest_ind(*y, equal_var=False).pvalue)


@pytest.mark.slow
@pytest.mark.slow
def test_units_that_never_differed_are_found_different_in_one_of_twenty_and_their_requests_far_more_often() -> None:
    seeds = 400
    by_units, by_requests = 0, 0
    for seed in range(seeds):
        rows = visits(seed, units=100)
        by_units += found(rows).treatments[0].metrics[0].p_value < ALPHA
        by_requests += found([entry | {'unit': None} for entry in rows]).treatments[0].metrics[0].p_value < ALPHA
    low, high = stats.binom.interval(0.999, seeds, ALPHA)
    assert low <= by_units <= high
    assert by_requests > 4 * ALPHA * seeds  # what taking each request for a unit would do


@pytest.mark.slow
@pytest.mark.slow
def test_looking_while_units_still_come_back_errs_at_most_once_in_twenty() -> None:
    seeds, units, looks = 1000, 400, 40
    rho2 = sequential.tuned(units, ALPHA)
    wrong = 0
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        arm, level = np.arange(units) % 2, draw.normal(0, 1, units)
        owner = draw.integers(0, units, 8 * units)  # who makes the next request
        y = level[owner] + draw.normal(0, 1, len(owner))
        p_values = []
        for end in np.linspace(units, len(owner), looks, dtype=int):
            d = np.bincount(owner[:end], minlength=units).astype(float)
            total = np.bincount(owner[:end], y[:end], units)
            arms = []
            for place in (0, 1):
                of_arm = (arm == place) & (d > 0)
                zero = np.zeros(of_arm.sum())
                arms.append(estimates.ratio(Moments.of(np.column_stack([total[of_arm], d[of_arm], zero, zero]))))
            compared = statistics.z_test(*arms, ALPHA)
            p_values.append(sequential.p_value(compared.difference, compared.stderr, arms[0].n + arms[1].n, rho2))
        wrong += min(p_values) < ALPHA
    assert wrong / seeds <= ALPHA


def test_planned_shares_are_those_of_units() -> None:
    # The treatment makes its users ask three times as often: an effect, and no mismatch.
    rows = [row(f'u{u}', u % 2, 1.0) for u in range(2000) for _ in range(1 + 2 * (u % 2))]
    verdict = found(rows)
    assert verdict.srm_p_value == 1.0
    assert [arm.requests for arm in verdict.arms] == [1000, 3000]
    more = found(rows + [row(f'v{u}', 1, 1.0) for u in range(300)])
    assert more.reasons[0].startswith('sample-ratio mismatch: units went to control 1,000 (43.48%')


def test_a_unit_of_two_arms_counts_for_neither() -> None:
    rows = [row(f'u{u}', u % 2, float(u % 7)) for u in range(200) for _ in range(2)]
    verdict = found([*rows, row('u0', 1, 5.0)])
    assert verdict.reasons == ('1 units were answered by more than one arm',)
    assert [arm.units for arm in verdict.arms] == [99, 100]


def test_a_unit_counts_in_the_step_of_its_first_request() -> None:
    late = {'timestamp': WINDOW.end - datetime.timedelta(milliseconds=1)}
    rows = [row('u0', 0, 2.0, **late), row('u0', 0, 1.0), row('u1', 0, 4.0, **late)]
    design = dataclasses.replace(DESIGN, metrics=(MEAN,))
    n = tally(frame(rows), Counts(), design).moments['m'].n.sum(axis=(0, 1))
    assert {int(i): int(n[i]) for i in np.flatnonzero(n)} == {0: 1, 23: 1}


def test_only_values_are_summed() -> None:
    rows = [row('u0', 0, 2.0), row('u0', 0, None), row('u0', 0, math.nan), row('u1', 0, None), row('u2', 0, 5.0)]
    taken = tally(frame(rows), Counts(), DESIGN)
    cells = taken.moments['m']
    assert (cells.n.sum(), (cells.n * cells.mean[..., 0]).sum(), (cells.n * cells.mean[..., 1]).sum()) == (2, 7, 2)
    assert (taken.left_out['m'].tolist(), taken.unusable['m'].tolist()) == ([2, 0], [1, 0])


def test_any_order_of_rows_gives_the_same_bits() -> None:
    rows = [entry | {'request_id': b'q%d' % i} for i, entry in enumerate(visits(9))]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    assert found(rows) == found(shuffled)


def past(seed: int, units: int = 600, effect: float = 0.5) -> list[dict[str, Any]]:
    """Units of a level of their own; three of four of them were there before the window."""
    draw = np.random.default_rng(seed)
    rows = []
    for unit in range(units):
        level, arm = draw.normal(3, 2), unit % 2
        earlier = draw.integers(1, 4) if unit % 8 < 6 else 0
        rows += [row(f'u{unit}', None, float(level + draw.normal(0, 0.5))) for _ in range(earlier)]
        rows += [
            row(f'u{unit}', arm, float(level + effect * arm + draw.normal(0, 0.5))) for _ in range(draw.integers(1, 4))
        ]
    return rows


@pytest.mark.parametrize('per', ['request', 'unit'])
def test_the_past_is_taken_out_as_regression_takes_it(per: str) -> None:
    rows = past(5)
    before = datetime.timedelta(days=1)
    metric = dataclasses.replace(MEAN, covariate='before', per=per)
    result = found(rows, metric, before=before).treatments[0].metrics[0]
    plain = found(rows, dataclasses.replace(metric, covariate=None)).treatments[0].metrics[0]
    linear, x, known, arms = [], [], [], []
    for arm in (0, 1):
        names = list(dict.fromkeys(r['unit'] for r in rows if r['arm'] == arm))
        sizes, y, _ = sums(rows, arm)
        d = sizes if per == 'request' else np.ones(len(y))
        linear += list(y.sum() / d.sum() + (y - y.sum() / d.sum() * d) / d.mean())
        for name in names:
            earlier = [r['m.y'] for r in rows if r['unit'] == name and r['arm'] is None]
            known.append(float(bool(earlier)))
            x.append((sum(earlier) / (len(earlier) if per == 'request' else 1)) if earlier else 0.0)
        arms += [arm] * len(names)
    # Regression on the arm and the past: its coefficient of the arm is the adjusted difference.
    table = sm.add_constant(np.column_stack([arms, x, known]).astype(float))
    fitted = sm.OLS(np.array(linear), table).fit(cov_type='HC0')
    assert result.difference == pytest.approx(fitted.params[1], rel=1e-9)
    assert result.stderr == pytest.approx(fitted.bse[1], rel=0.02)
    assert result.stderr < (0.7 if per == 'request' else 0.95) * plain.stderr
    assert result.test == "Welch's t with CUPED"


@pytest.mark.slow
def test_the_past_does_not_bias() -> None:
    seeds, before = 300, datetime.timedelta(days=1)
    metric = dataclasses.replace(MEAN, covariate='before')
    results = [found(past(s, units=120), metric, before=before).treatments[0].metrics[0] for s in range(seeds)]
    low, high = stats.binom.interval(0.999, seeds, ALPHA)
    assert low <= sum(not r.low <= 0.5 <= r.high for r in results) <= high


def test_a_past_far_from_zero_is_taken_out_all_the_same() -> None:
    metric, before = dataclasses.replace(MEAN, covariate='before'), datetime.timedelta(days=1)
    rows = past(5)
    near = found(rows, metric, before=before).treatments[0].metrics[0]
    for far in (1e5, -1e6):
        moved = [entry | {'m.y': entry['m.y'] + far} for entry in rows]
        result = found(moved, metric, before=before).treatments[0].metrics[0]
        assert (result.difference, result.stderr) == pytest.approx((near.difference, near.stderr), rel=1e-3)


@pytest.mark.parametrize(('units', 'used'), [(38, False), (42, True)])
def test_of_few_units_no_past_is_taken_out(units: int, used: bool) -> None:
    rows = past(3, units=units)
    adjusted = found(rows, dataclasses.replace(MEAN, covariate='before'), before=datetime.timedelta(days=1))
    assert (adjusted.treatments[0].metrics[0].stderr < found(rows).treatments[0].metrics[0].stderr) == used


@pytest.mark.slow
def test_an_arms_own_error_is_that_of_its_value() -> None:
    seeds, metric = 400, dataclasses.replace(MEAN, covariate='before')
    arms = []
    lifts = []
    for seed in range(seeds):
        verdict = found(past(seed, units=100, effect=3.0), metric, before=datetime.timedelta(days=1))
        arms.append(verdict.treatments[0].estimates[0])
        lifts.append(verdict.treatments[0].metrics[0])
    said = np.mean([arm.stderr for arm in arms])
    assert np.std([arm.value for arm in arms]) == pytest.approx(said, rel=0.12)
    # Control and treatment are 3 and 6 on average.
    low, high = stats.binom.interval(0.999, seeds, ALPHA)
    assert low <= sum(not lift.relative_low <= 1.0 <= lift.relative_high for lift in lifts) <= high


def test_a_past_of_nobody_changes_nothing() -> None:
    rows = [entry for entry in past(5) if entry['arm'] is not None]
    metric = dataclasses.replace(MEAN, covariate='before')
    adjusted = found(rows, metric, before=datetime.timedelta(days=1)).treatments[0].metrics[0]
    plain = found(rows).treatments[0].metrics[0]
    assert (adjusted.difference, adjusted.stderr) == pytest.approx((plain.difference, plain.stderr))


def test_a_feature_is_that_of_the_first_request() -> None:
    later = {'timestamp': WINDOW.start + datetime.timedelta(hours=5)}
    rows = [row('u0', 0, 1.0, **{'m.x': 9.0}, **later), row('u0', 0, 1.0, **{'m.x': 4.0}), row('u1', 0, 1.0)]
    design = dataclasses.replace(DESIGN, metrics=(dataclasses.replace(MEAN, covariate='feature:f'),))
    cells = tally(frame(rows), Counts(), design).moments['m']
    assert (cells.n * cells.mean[..., 2]).sum() == 4.0
    assert (cells.n * cells.mean[..., 3]).sum() == 1.0  # the other has no feature
    assert cells.n.sum() == 2


def test_the_feature_is_that_of_the_first_request_even_where_that_has_no_value() -> None:
    later = {'timestamp': WINDOW.start + datetime.timedelta(hours=5)}
    rows = [row('u0', 0, None, **{'m.x': 4.0}), row('u0', 0, 2.0, **{'m.x': 9.0}, **later), row('u0', 0, 3.0, **later)]
    design = dataclasses.replace(DESIGN, metrics=(dataclasses.replace(MEAN, covariate='feature:f'),))
    cells = tally(frame(rows), Counts(), design).moments['m']
    assert cells.mean[0].sum(axis=(0, 1)).tolist() == [5.0, 2.0, 4.0, 1.0]


@pytest.mark.parametrize(
    ('metric', 'changes', 'message'),
    [
        ({'per': 'user'}, {}, "m.per: got 'user', rule: 'request' or 'unit'"),
        ({'per': 'unit', 'kind': 'ratio', 'denominator': 'requests'}, {}, "m.per: got 'unit', rule: 'request' for a"),
        ({'covariate': 'before'}, {}, "before: got None, rule: given for a covariate 'before', and only for that"),
        ({}, {'before': datetime.timedelta(1)}, 'before: got datetime.timedelta(days=1), rule: given for a'),
        ({'covariate': 'before'}, {'before': datetime.timedelta(0)}, 'before: got datetime.timedelta(0), rule: at'),
        ({'covariate': 'before', 'kind': 'proportion'}, {'before': datetime.timedelta(1)}, 'm.covariate: got'),
    ],
)
def test_what_makes_no_sense_is_refused(metric: dict, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        dataclasses.replace(DESIGN, metrics=(dataclasses.replace(MEAN, **metric),), **changes)
    assert str(caught.value).startswith(message)
