"""What makes other tools ship a version that is no better: early looks, one heavy unit, lost outcomes, few units."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import uuid
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats

from tfx_cassandra.components import protos
from tfx_cassandra.components.experiment import estimates, statistics
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.evaluate import evaluation_time
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.observations import join_outcomes
from tfx_cassandra.components.experiment.reduced import prepare_outcomes, prepare_requests, request_columns
from tfx_cassandra.components.experiment.report import report
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.experiment.tally import _HALF_SEED, HALVES, tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

WINDOW = TimeWindow.parse('2013-06-01T00:00Z/2013-06-01T05:00Z')
A, B = Arm('control', 'm', '1', 0.5), Arm('treatment', 'm', '2', 0.5)
CLICK = Metric('click', 'outcome:click', missing=0.0)
SPEND = Metric('spend', 'prediction')
DESIGN = Design('e', A, (B,), WINDOW, (CLICK,))
SPENDS = dataclasses.replace(DESIGN, metrics=(SPEND,))
HOUR = datetime.timedelta(hours=1)

REQUESTS = pa.schema(
    [('model_id', pa.string()), ('version', pa.string()), ('experiment_id', pa.string()), ('request_id', pa.string()),
     ('timestamp', pa.timestamp('ms', 'UTC')), ('unit', pa.string()), ('prediction', pa.float64())]
)  # fmt: skip
OUTCOMES = pa.schema(
    [('request_id', pa.string()), ('outcome', pa.string()), ('timestamp', pa.timestamp('ms', 'UTC')),
     ('value', pa.float64())]
)  # fmt: skip


def request(i: int, arm: Arm, value: float = 0.0, **columns: Any) -> dict[str, Any]:
    when = WINDOW.start + datetime.timedelta(milliseconds=i * 7919 % 18_000_000)
    row = {'model_id': 'm', 'version': arm.version, 'experiment_id': 'e', 'request_id': str(uuid.UUID(int=i))}
    return row | {'timestamp': when, 'unit': None, 'prediction': value} | columns


def outcome(of: dict[str, Any], value: float, after: datetime.timedelta = HOUR) -> dict[str, Any]:
    return {'request_id': of['request_id'], 'outcome': 'click', 'timestamp': of['timestamp'] + after, 'value': value}


def evaluated(
    requests: list[dict], outcomes: list[dict], design: Design, as_of: datetime.datetime | None = None
) -> Verdict:
    wanted = pa.schema([REQUESTS.field(name) for name in request_columns(design)])
    prepared = [prepare_requests(batch, design) for batch in pa.Table.from_pylist(requests, wanted).to_batches()]
    logged = [prepare_outcomes(batch, design) for batch in pa.Table.from_pylist(outcomes, OUTCOMES).to_batches()]
    return decide(design, tally(*join_outcomes(prepared, logged, design, as_of), design), as_of)


def traffic(count: int, values: tuple[float, float]) -> list[dict]:
    return [request(i, (A, B)[i % 2], values[i % 2], unit=f'u{i}') for i in range(count)]


# An early look.


@pytest.mark.parametrize('hours', [1, 6, 12, 20, 24, 29])
@pytest.mark.parametrize('decide_by', ['sequential', 'fixed'])
def test_an_early_look_waits_for_outcomes_that_come_later_in_one_arm(hours: int, decide_by: str) -> None:
    draw, requests = np.random.default_rng(1), traffic(4000, (0.0, 0.0))
    delays = (datetime.timedelta(hours=20), HOUR)
    as_of = WINDOW.end + hours * HOUR
    clicks = [outcome(r, 1.0, delays[i % 2]) for i, r in enumerate(requests) if draw.random() < 0.3]
    read = [click for click in clicks if click['timestamp'] <= as_of]
    found = evaluated(requests, read, dataclasses.replace(DESIGN, decide_by=decide_by), as_of)
    assert found.verdict == 'hold'
    mature = sum(r['timestamp'] + DESIGN.outcome_delay <= as_of for r in requests)
    assert (found.as_of, found.immature) == (as_of, 4000 - mature)
    assert sum(arm.requests for arm in found.arms) == mature
    assert (f'{4000 - mature:,} requests are younger than 1 day, 0:00:00 and do not count yet' in found.reasons) == (
        mature < 4000
    )


def test_all_requests_would_have_shipped_a_non_effect() -> None:
    """The trap: the same look without an age."""
    draw, requests = np.random.default_rng(1), traffic(4000, (0.0, 0.0))
    read = [outcome(r, 1.0) for i, r in enumerate(requests) if draw.random() < 0.3 and i % 2]
    design = dataclasses.replace(DESIGN, srm_alpha=1e-300)  # or it is found that one arm has no outcome
    assert evaluated(requests, read, design).verdict == 'ship'


def test_what_takes_no_outcome_need_not_wait() -> None:
    found = evaluated(traffic(400, (0.0, 0.0)), [], SPENDS, WINDOW.end)
    assert (found.immature, found.control.requests) == (0, 200)


def test_a_look_is_in_the_past_and_alike_once_all_requests_are_old_enough() -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    running = dataclasses.replace(DESIGN, window=TimeWindow(now - HOUR, now + HOUR))
    assert now <= evaluation_time(running, None) <= now + HOUR / 6
    assert evaluation_time(running, now - HOUR) == now - HOUR
    with pytest.raises(ValueError, match=r'^as_of: got .*, rule: not after the time of the run'):
        evaluation_time(running, now + HOUR)
    # Of a window that is over, every look is recorded alike; a rerun gives the same bits.
    assert evaluation_time(DESIGN, None) == evaluation_time(DESIGN, now) == WINDOW.end + DESIGN.outcome_delay
    assert evaluation_time(SPENDS, None) == WINDOW.end


def test_an_earlier_look_anew_does_not_count_what_came_since() -> None:
    requests, as_of = traffic(400, (0.0, 0.0)), WINDOW.start + 24.5 * HOUR
    clicks = [outcome(r, 1.0) for r in requests[::3]] + [outcome(r, 1.0, 23.9 * HOUR) for r in requests[1::3]]
    then = [click for click in clicks if click['timestamp'] < as_of]
    assert len(then) < len(clicks)
    assert evaluated(requests, clicks, DESIGN, as_of) == evaluated(requests, then, DESIGN, as_of)


@pytest.mark.parametrize('year', [1, 9999])
@pytest.mark.parametrize('days', [1, 365 * 2500])
def test_a_look_of_any_year_is_no_raw_error(year: int, days: int) -> None:
    as_of = datetime.datetime(year, 6, 1, tzinfo=datetime.timezone.utc)
    design = dataclasses.replace(DESIGN, outcome_delay=datetime.timedelta(days=days))
    assert evaluated(traffic(10, (0.0, 0.0)), [], design, as_of).immature == (10 if year == 1 else 0)


def test_without_outcomes_requests_after_the_look_do_not_count() -> None:
    found = evaluated(traffic(400, (0.0, 0.0)), [], SPENDS, WINDOW.start + HOUR / 6)
    assert found.immature > 300
    assert found.reasons[-1] == f'{found.immature} requests are later than the evaluation and do not count yet'


# One unit that makes most of the requests.


def with_bot(requests: int, units: int, seed: int = 0) -> list[dict]:
    draw = np.random.default_rng(seed)
    rows = [request(i, (A, B)[i % 2], float(draw.normal()), unit=f'u{i}') for i in range(2 * units)]
    return rows + [request(10_000 + i, B, 5.0, unit='bot') for i in range(requests)]


@pytest.mark.parametrize('requests', [40, 700, 5000])
@pytest.mark.parametrize('units', [100, 400])
@pytest.mark.parametrize('decide_by', ['sequential', 'fixed'])
def test_one_bot_ships_nothing(requests: int, units: int, decide_by: str) -> None:
    design = dataclasses.replace(SPENDS, decide_by=decide_by, srm_alpha=1e-12)
    for seed in range(5):
        assert evaluated(with_bot(requests, units, seed), [], design).verdict == 'hold'


def test_two_bots_are_two_units_whatever_the_least_number_of_units() -> None:
    rows = with_bot(700, 100) + [request(20_000 + i, B, 5.0, unit='other bot') for i in range(700)]
    found = evaluated(rows, [], dataclasses.replace(SPENDS, least_units=2, srm_alpha=1e-12)).treatments[0]
    assert found.estimates[0].effective_units == pytest.approx(1500**2 / (100 + 2 * 700**2))
    (metric,) = found.metrics
    assert metric.sequential_p is not None
    assert min(metric.p_value, metric.sequential_p) > 0.001  # it is 0.0035; by the number of units, 2e-42


def test_the_effective_number_of_units_and_the_heaviest_are_told() -> None:
    found = evaluated(with_bot(700, 100), [], SPENDS)
    (estimate,) = found.treatments[0].estimates
    assert (estimate.n, estimate.effective_units) == (101, pytest.approx(800**2 / (100 + 700**2)))
    heaviest = found.treatments[0].heaviest[0]
    assert (heaviest.metric, heaviest.unit, heaviest.share) == ('spend', 'bot', pytest.approx(700 / 800))
    assert 'treatment: bot 87.5%' in report(found)
    assert found.control.estimates[0].effective_units == 100


@pytest.mark.parametrize('decide_by', ['sequential', 'fixed'])
def test_the_least_units_are_effective_ones(decide_by: str) -> None:
    rows = [request(i, (A, B)[i % 2], float(i % 2 == i % 3 % 2), unit=f'u{i}') for i in range(240)]
    rows += [request(1000 + i, B, 1.0, unit='bot') for i in range(9)]  # 129^2 / (120 + 9^2) are 82.8
    design = dataclasses.replace(SPENDS, decide_by=decide_by)
    found = evaluated(rows, [], design)
    assert found.treatments[0].estimates[0].effective_units == pytest.approx(82.8, abs=0.05)
    assert found.treatments[0].reasons == (
        'spend: too early to tell, fewer than 100 effective units with a value in an arm',
    )
    assert found.treatments[0].metrics[0].sequential_p is None
    enough = evaluated(rows, [], dataclasses.replace(design, least_units=82)).treatments[0]
    assert (enough.metrics[0].sequential_p is None, 'too early' in enough.reasons[0]) == (False, False)


def test_a_cap_bounds_what_a_unit_contributes() -> None:
    capped = evaluated(
        with_bot(700, 100), [], dataclasses.replace(SPENDS, metrics=(dataclasses.replace(SPEND, cap=2.0),))
    )
    (estimate,) = capped.treatments[0].estimates
    assert estimate.effective_units == pytest.approx(102**2 / (100 + 4))
    plain = [row['prediction'] for row in with_bot(0, 100) if row['version'] == '2']
    assert estimate.value == pytest.approx((sum(plain) + 2 * 5.0) / 102)

    per_unit = Metric('spend', 'prediction', per='unit', cap=1.5)
    found = evaluated(with_bot(700, 100), [], dataclasses.replace(SPENDS, metrics=(per_unit,)))
    clipped = [min(max(value, -1.5), 1.5) for value in plain] + [1.5]
    assert found.treatments[0].estimates[0].value == pytest.approx(np.mean(clipped))


@pytest.mark.parametrize('cap', [0, -1.0, math.nan, True, '9'])
def test_a_cap_is_a_number_above_zero(cap: Any) -> None:
    with pytest.raises(ValueError, match=r'^spend\.cap: got .*, rule: a number above zero, or None'):
        dataclasses.replace(SPEND, cap=cap)


# Outcomes that were lost.


def test_outcomes_lost_in_one_arm_make_the_test_invalid() -> None:
    draw, metric = np.random.default_rng(2), Metric('good', 'outcome:click')
    requests = traffic(6000, (0.0, 0.0))
    logged = [outcome(r, float(draw.random() < 0.7)) for r in requests]
    lost = [o for i, o in enumerate(logged) if not (i % 2 and o['value'] == 0 and draw.random() < 0.5)]
    design = dataclasses.replace(DESIGN, metrics=(metric,))
    assert evaluated(requests, logged, design).verdict == 'hold'
    found = evaluated(requests, lost, design)
    assert found.verdict == 'invalid'
    assert 'metric good: 100.00% of the requests of control have a value, and 8' in found.reasons[0]


def test_outcomes_lost_within_units_are_noticed_too() -> None:
    draw, metric = np.random.default_rng(3), Metric('good', 'outcome:click')
    requests = [request(i, (A, B)[i // 5 % 2], unit=f'u{i // 5}') for i in range(5000)]
    logged = [outcome(r, float(draw.random() < 0.7)) for r in requests]
    lost = [o for i, o in enumerate(logged) if not (i // 5 % 2 and i % 5 and o['value'] == 0 and draw.random() < 0.5)]
    assert evaluated(requests, lost, dataclasses.replace(DESIGN, metrics=(metric,))).verdict == 'invalid'


@pytest.mark.parametrize('silent', [0, 1])
def test_an_arm_without_any_outcome_is_noticed(silent: int) -> None:
    draw, requests = np.random.default_rng(4), traffic(2000, (0.0, 0.0))
    logged = [outcome(r, 1.0) for i, r in enumerate(requests) if i % 2 != silent and draw.random() < 0.3]
    found = evaluated(requests, logged, DESIGN)
    assert found.verdict == 'invalid'
    arm = ('control', 'treatment')[silent]
    assert f'metric click: of the 1,000 units of arm {arm} no outcome click is known' in found.reasons[0]


def test_a_small_arm_may_have_seen_no_event_yet() -> None:
    requests = [request(i, B if i % 100 == 0 else A, unit=f'u{i}') for i in range(20_000)]
    logged = [outcome(r, 1.0) for i, r in enumerate(requests) if i % 100 == 50]
    design = dataclasses.replace(
        DESIGN, control=dataclasses.replace(A, weight=0.99), treatments=(dataclasses.replace(B, weight=0.01),)
    )
    assert evaluated(requests, logged, design).verdict == 'hold'


def test_one_unit_with_outcomes_does_not_make_the_other_arm_silent() -> None:
    rows = traffic(200, (0.0, 0.0)) + [request(5000 + i, B, unit='bot') for i in range(300)]
    logged = [outcome(row, 1.0) for row in rows[200:]]
    assert evaluated(rows, logged, DESIGN).verdict == 'hold'


@pytest.mark.parametrize('units', [2, 3, 5])
def test_few_units_lose_values_by_chance(units: int) -> None:
    design = dataclasses.replace(DESIGN, metrics=(Metric('good', 'outcome:click'),))
    rows = [request(i, (A, B)[i // 2 % 2], unit=f'u{i // 2}') for i in range(4 * units)]
    logged = [outcome(row, 1.0) for i, row in enumerate(rows) if i // 2 % 2 or i % 2]  # half of control's
    reasons = evaluated(rows, logged, design).reasons
    assert any('values were lost in one arm' in reason for reason in reasons) is False


def test_few_requests_lose_values_by_chance() -> None:
    """By Fisher's test p = 0.0014; the normal approximation says 7e-14."""
    design = dataclasses.replace(DESIGN, metrics=(Metric('good', 'outcome:click'),))
    rows = traffic(16, (0.0, 0.0))
    logged = [outcome(row, 1.0) for i, row in enumerate(rows) if i % 2 or i == 0]  # of control's, one of eight
    reasons = evaluated(rows, logged, design).reasons
    assert any('values were lost in one arm' in reason for reason in reasons) is False
    found = evaluated(rows, logged, dataclasses.replace(design, srm_alpha=0.002))
    assert 'p = 0.0014 for equal shares, so values were lost in one arm' in found.reasons[0]


@pytest.mark.slow
def test_chance_is_rarely_taken_for_loss() -> None:
    draw, alarms = np.random.default_rng(5), 0
    metric = Metric('good', 'outcome:click')
    for _ in range(300):
        requests = traffic(400, (0.0, 0.0))
        logged = [outcome(r, 1.0) for r in requests if draw.random() < 0.8]
        alarms += (
            evaluated(requests, logged, dataclasses.replace(DESIGN, metrics=(metric,), aa_alpha=1e-9)).verdict
            == 'invalid'
        )
    assert alarms <= 2


# Few units.


def test_two_units_an_arm_decide_nothing() -> None:
    rows = [request(i, (A, B)[i % 2], float(i % 2), unit=f'u{i}') for i in range(4)]
    design = dataclasses.replace(SPENDS, decide_by='fixed', srm_alpha=1e-9)
    for least in (2, 100):
        found = evaluated(rows, [], dataclasses.replace(design, least_units=least))
        assert found.verdict == 'hold'
        assert found.treatments[0].metrics[0].p_value == pytest.approx(1 / 3)


def test_few_units_have_the_p_value_of_the_permutation_test() -> None:
    ones = {0, *range(1, 13, 2)}  # 1 of 7 in control, 6 of 7 in treatment
    rows = [request(i, (A, B)[i % 2], float(i in ones), unit=f'u{i}') for i in range(14)]
    metric = Metric('spend', 'prediction', 'proportion')
    (found,) = evaluated(rows, [], dataclasses.replace(SPENDS, metrics=(metric,), least_units=2)).treatments[0].metrics
    exact = stats.fisher_exact([[1, 6], [6, 1]])[1]
    assert exact == pytest.approx(0.0291, abs=1e-4)  # the z-test of two proportions says 0.0075
    assert found.p_value == pytest.approx(exact)
    assert found.sequential_p is not None
    assert found.sequential_p >= exact * (1 - 1e-9)


@pytest.mark.parametrize('metric', [SPEND, Metric('spend', 'prediction', 'proportion')])
@pytest.mark.parametrize('least_units', [2, pytest.param(100, marks=pytest.mark.slow)])
def test_few_units_err_no_more_often_than_promised(metric: Metric, least_units: int) -> None:
    draw, found = np.random.default_rng(6), 0
    design = dataclasses.replace(SPENDS, metrics=(metric,), decide_by='fixed', least_units=least_units, srm_alpha=1e-9)
    for _ in range(150):
        count = int(draw.integers(2, 7))
        rows = [
            request(i, (A, B)[i % 2], float(draw.random() < 0.5), unit=f'u{draw.random()}') for i in range(2 * count)
        ]
        found += evaluated(rows, [], design).verdict in ('ship', 'harm')
    assert found <= stats.binom.isf(0.001, 150, 0.05)


def test_the_control_against_itself_is_no_alarm_with_few_units() -> None:
    for values in ((0, 1, 0, 1), (0, 0, 1, 1), (1, 0, 0, 1)):
        rows = [request(i, A, float(value), unit=f'a{i}') for i, value in enumerate(values)]
        rows += [request(10 + i, B, float(value), unit=f'b{i}') for i, value in enumerate(values)]
        found = evaluated(rows, [], SPENDS)
        assert found.verdict == 'hold'
        assert all(check.p_value >= 1 / 3 - 1e-9 for check in found.aa_checks)


def test_halves_of_few_units_have_the_p_value_of_the_permutation_test() -> None:
    names = pl.Series([f'a{i}'.encode() for i in range(100)])
    halves = (names.hash(seed=_HALF_SEED) % HALVES).to_list()
    rows = []
    for half, ones in enumerate((1, 6)):  # of 7 units
        units = [name.decode() for name, of in zip(names, halves, strict=True) if of == half][:7]
        rows += [request(10 * half + i, A, float(i < ones), unit=unit) for i, unit in enumerate(units)]
    rows += [request(100 + i, B, float(i % 2), unit=f'b{i}') for i in range(14)]
    metric = Metric('spend', 'prediction', 'proportion')
    (check,) = evaluated(rows, [], dataclasses.replace(SPENDS, metrics=(metric,))).aa_checks
    assert check.p_value == pytest.approx(stats.fisher_exact([[1, 6], [6, 1]])[1])  # the z-test says 0.0075


def test_one_heavy_unit_in_each_half_of_the_control_is_no_alarm() -> None:
    """A unit that makes most of a half's requests hides its own spread: Student's t of all units says p = 1e-13."""
    names = pl.Series([f'bot {i}'.encode() for i in range(20)])
    halves = (names.hash(seed=_HALF_SEED) % HALVES).to_list()
    bots = [names[halves.index(half)].decode() for half in range(HALVES)]
    draw = np.random.default_rng(11)
    rows = [request(i, (A, B)[i % 2], float(draw.normal()), unit=f'u{i}') for i in range(160)]
    rows += [request(1000 + i, A, 5.0 * (i % 2), unit=bots[i % 2]) for i in range(800)]
    found = evaluated(rows, [], SPENDS)
    assert found.control.estimates[0].effective_units == pytest.approx(880**2 / (80 + 2 * 400**2))
    assert [check.p_value > 0.05 for check in found.aa_checks] == [True]
    assert found.verdict == 'hold'


def test_the_permutation_test_is_fishers_for_zeros_and_ones_and_scipys_else() -> None:
    ones = np.ones(7)
    for control, treatment in (
        ([0, 0, 1, 0, 0, 0, 1], [1, 1, 1, 1, 0, 1, 1]),
        ([0, 0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1, 1]),
    ):
        pairs = (np.column_stack([np.array(v, dtype=float), ones]) for v in (control, treatment))
        table = [[sum(v), 7 - sum(v)] for v in (control, treatment)]
        assert statistics.permutation_test(*pairs) == pytest.approx(stats.fisher_exact(table)[1])
    draw = np.random.default_rng(7)
    a, b = draw.normal(0, 1, 6), draw.normal(0.7, 1, 5)
    whole = stats.permutation_test(
        (a, b), lambda x, y: abs(np.mean(y) - np.mean(x)), n_resamples=np.inf, alternative='greater'
    )
    mine = statistics.permutation_test(np.column_stack([a, np.ones(6)]), np.column_stack([b, np.ones(5)]))
    assert mine == pytest.approx(whole.pvalue)


@pytest.mark.parametrize(('control', 'others'), [(14, 200), (24, 100), (60, 60)])
def test_a_small_control_is_no_alarm_beside_any_number_of_others(control: int, others: int) -> None:
    """Units of one to some twenty requests, alike within a unit: without exact tests 0.5 % were false."""
    draw, p_values = np.random.default_rng(control), []
    for _ in range(60):
        rows = []
        for unit in range(control + others):
            arm, level, name = A if unit < control else B, draw.beta(1, 4), f'u{draw.random()}'
            rows += [
                request(len(rows) + i, arm, float(draw.random() < level), unit=name) for i in range(draw.geometric(0.2))
            ]
        # None where chance leaves a half without two units.
        p_values += [check.p_value for check in evaluated(rows, [], SPENDS).aa_checks]
    for alpha in (0.05, 0.2):
        assert sum(p <= alpha for p in p_values) <= stats.binom.isf(0.001, len(p_values), alpha)


def test_the_units_of_an_arm_are_kept_until_they_are_many() -> None:
    rows = [request(i, A if i % 3 == 0 else B, float(i), unit=f'u{i}') for i in range(150)]
    wanted = pa.schema([REQUESTS.field(name) for name in request_columns(SPENDS)])
    parts = []
    for part in (rows[:70], rows[70:141], rows[141:]):
        prepared = [prepare_requests(batch, SPENDS) for batch in pa.Table.from_pylist(part, wanted).to_batches()]
        parts.append(tally(*join_outcomes(prepared, [], SPENDS), SPENDS))
    merged = parts[0] + parts[1] + parts[2]
    kept = merged.units_of('spend', 0)
    assert kept is not None
    assert sorted(kept['y']) == [float(i) for i in range(0, 150, 3)]
    # 94 units of the treatment were dropped, and those of the last part are not taken for all.
    assert merged.units_of('spend', 1) is None
    assert merged.few['spend'].filter(pl.col('arm') == 1).height == 6


def test_few_heavy_units_are_told_from_many_by_students_t() -> None:
    light = estimates.Estimate(500, 0.0, 0.5, 0.5, effective=500.0)
    heavy = estimates.Estimate(500, 3.0, 0.5, 0.5, effective=4.0)
    assert statistics.z_test(light, heavy, 0.05).p_value == pytest.approx(2 * stats.norm.sf(3.0))
    df = 1 / (0.25 / 499 + 0.25 / 3)
    assert statistics.cautious_p_value(light, heavy) == pytest.approx(2 * stats.t.sf(3.0, df))
    assert statistics.cautious_p_value(light, dataclasses.replace(heavy, effective=None)) < 0.003
    two = estimates.Estimate(2, 0.0, 1e-9, 1e-9), estimates.Estimate(2, 1.0, 1e-9, 1e-9)
    assert statistics.cautious_p_value(*two) == pytest.approx(1 / 3)


@pytest.mark.parametrize('size', [1e-120, 1e-155, 1e-158, 1e-160, 1e-162, 1e-170, 1e-250])
@pytest.mark.parametrize('kind', ['mean', 'ratio'])
def test_values_next_to_zero_that_vary_are_zeros(size: float, kind: str) -> None:
    draw = np.random.default_rng(10)
    rows = [
        request(i, (A, B)[i % 2], size * float(draw.normal()) if i % 2 == 0 else 1.0, unit=f'u{i}') for i in range(400)
    ]
    metric = dataclasses.replace(SPEND, kind=kind, denominator='requests' if kind == 'ratio' else None)
    found = evaluated(rows, [], dataclasses.replace(SPENDS, metrics=(metric,)))
    assert (found.verdict, found.reasons[0][:27]) == ('ship', 'treatment: spend: better, +')


@pytest.mark.parametrize('size', [1e-200, -1e-200, 1e-320, 1e100, 5e-324])
def test_a_mean_next_to_zero_or_beyond_squares_is_no_raw_error(size: float) -> None:
    draw = np.random.default_rng(8)
    rows = [request(i, (A, B)[i % 2], size if i % 2 == 0 else float(draw.normal()), unit=f'u{i}') for i in range(400)]
    found = evaluated(rows, [], SPENDS)
    relative = found.treatments[0].metrics[0].relative if found.treatments[0].metrics else None
    assert relative is None or math.isfinite(relative)
    assert all(
        math.isfinite(v) for v in (found.control.estimates[0].value or 0.0, found.control.estimates[0].stderr or 0.0)
    )


@pytest.mark.parametrize(('control', 'treatment'), [(1e-200, 1.0), (-1e-200, 1.0), (1e-99, 1e60), (0.0, 1.0)])
def test_a_lift_that_is_no_number_is_none(control: float, treatment: float) -> None:
    first, second = (estimates.Estimate(900, value, 1e-4, 1e-4) for value in (control, treatment))
    assert statistics.z_test(first, second, 0.05).relative is None
    wide = (estimates.Estimate(900, value, 1e200, 1e200) for value in (1e-10, 1e80))
    assert statistics.z_test(*wide, 0.05).relative is None


@pytest.mark.parametrize(('value', 'verdict'), [(1e100, 'hold'), (1.001e100, 'invalid'), (-1e101, 'invalid')])
def test_a_value_beyond_squares_is_told(value: float, verdict: str) -> None:
    rows = [request(i, (A, B)[i % 2], value if i == 0 else float(i % 7), unit=f'u{i}') for i in range(400)]
    found = evaluated(rows, [], dataclasses.replace(SPENDS, aa_alpha=1e-9))
    told = 'metric spend: 1 values of arm control are NaN, infinite or beyond 1e100'
    assert (found.verdict, told in found.reasons) == (verdict, verdict == 'invalid')


def test_a_ratio_beyond_squares_is_an_error() -> None:
    units = Moments.of(np.array([[1e60, 1e-99, 0, 0], [2e60, 1e-99, 0, 0]]))
    with pytest.raises(ValueError, match=r'^value: got .*, rule: a size of at most 1e100'):
        estimates.ratio(units)


@pytest.mark.parametrize('field', ['missing', 'margin', 'cap'])
def test_a_number_of_a_metric_is_a_float(field: str) -> None:
    with pytest.raises(ValueError, match=rf'^click\.{field}: got '):
        dataclasses.replace(CLICK, **{field: 10**400})


@pytest.mark.parametrize('field', ['outcome_delay', 'series_step', 'before'])
@pytest.mark.parametrize('length', ['1d', 86_400, math.nan])
def test_a_length_of_time_is_a_timedelta(field: str, length: Any) -> None:
    with pytest.raises(ValueError, match=rf'^{field}: got .*, rule: a datetime.timedelta'):
        dataclasses.replace(DESIGN, **{field: length})


@pytest.mark.parametrize('field', ['planned_units', 'least_units'])
@pytest.mark.parametrize('count', [1, 2**31, 2.5, True])
def test_a_number_of_units_fits_its_message(field: str, count: Any) -> None:
    with pytest.raises(ValueError, match=rf'^{field}: got .*, rule: an integer of at least 2 and below 2\^31'):
        dataclasses.replace(DESIGN, **{field: count})


def test_a_verdict_of_before_is_read() -> None:
    found = evaluated(traffic(400, (0.0, 1.0)), [], SPENDS, WINDOW.end)
    content = json.loads(protos.to_json(found, cassandra_pb2.Verdict))
    for name in ('as_of', 'immature'):
        content.pop(name, None)
    for arm in (content['control'], *content['treatments']):
        del arm['heaviest']
        for estimate in arm['estimates']:
            del estimate['effective_units']
    read = protos.from_json(Verdict, cassandra_pb2.Verdict, json.dumps(content))
    assert (read.verdict, read.as_of, read.immature, read.control.heaviest) == (found.verdict, None, 0, ())
    assert 'effective units' in report(read)


# Requests and outcomes that are not as they should be.


@pytest.mark.parametrize('moment', [0, 3_600_000])
@pytest.mark.parametrize(('early', 'counts'), [(5, True), (60_000, True), (60_001, False), (3_600_000, False)])
def test_an_outcome_may_be_a_minute_before_its_request_anywhere(moment: int, early: int, counts: bool) -> None:
    when = WINDOW.start + datetime.timedelta(milliseconds=moment)
    request_then = request(1, A, timestamp=when)
    rows = [request_then, *traffic(10, (0.0, 0.0))]
    logged = [outcome(request_then, 1.0, -datetime.timedelta(milliseconds=early))]
    found = evaluated(rows[:1] + rows[3:], logged, dataclasses.replace(DESIGN, srm_alpha=1e-9))
    assert DESIGN.outcome_window.start <= logged[0]['timestamp'] or not counts
    value = found.control.estimates[0].value
    assert (value is not None and value > 0) is counts


def test_one_request_id_of_two_units_counts_for_neither() -> None:
    rows = traffic(400, (0.0, 0.0))
    rows += [
        request(9999, A, unit='one'),
        request(9999, B, unit='other'),
        request(9998, A, unit='x'),
        request(9998, A, unit='y'),
    ]
    found = evaluated(rows, [], SPENDS)
    assert found.verdict == 'invalid'
    assert '2 request ids belong to more than one unit' in found.reasons
    assert sum(arm.requests for arm in found.arms) == 400


def test_a_lift_over_a_negative_control_has_the_sign_of_the_difference() -> None:
    comparison = statistics.z_test(
        estimates.Estimate(900, -0.01, 1e-4, 1e-4), estimates.Estimate(900, 0.3, 1e-4, 1e-4), 0.05
    )
    assert comparison.relative is not None
    lift, low, high = comparison.relative
    assert lift == pytest.approx(31.0)
    assert low < lift < high


@pytest.mark.parametrize(('srm_alpha', 'aa_alpha', 'said'), [(0.05, 1e-9, True), (1e-9, 0.05, False)])
def test_planned_shares_are_judged_by_their_own_alpha(srm_alpha: float, aa_alpha: float, said: bool) -> None:
    rows = [request(i, A if i % 100 < 54 else B, unit=f'u{i}') for i in range(1000)]  # p = 0.011
    found = evaluated(rows, [], dataclasses.replace(SPENDS, srm_alpha=srm_alpha, aa_alpha=aa_alpha))
    assert any('sample-ratio mismatch' in reason for reason in found.reasons) is said


@pytest.mark.parametrize(('aa_alpha', 'srm_alpha', 'said'), [(0.999999, 1e-9, True), (1e-9, 0.05, False)])
def test_the_control_against_itself_is_judged_by_its_own_alpha(aa_alpha: float, srm_alpha: float, said: bool) -> None:
    draw = np.random.default_rng(9)
    rows = [request(i, (A, B)[i % 2], float(draw.normal()), unit=f'u{i}') for i in range(600)]
    found = evaluated(rows, [], dataclasses.replace(SPENDS, srm_alpha=srm_alpha, aa_alpha=aa_alpha))
    assert any('A/A check' in reason for reason in found.reasons) is said


def test_moments_of_few_units_are_those_of_the_frame() -> None:
    units = Moments.of(np.array([[1.0, 1, 0, 0], [3.0, 2, 0, 0]]))
    assert estimates.ratio(units).weight == pytest.approx(9 / 5)
