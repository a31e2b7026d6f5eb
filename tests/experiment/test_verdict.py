"""From rows to the verdict: what is joined, what counts, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import datetime
import math
import random
import uuid
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tfx_cassandra.components.experiment.design import OUTCOME_KINDS, Arm, Design, Metric
from tfx_cassandra.components.experiment.observations import join_outcomes
from tfx_cassandra.components.experiment.reduced import prepare_outcomes, prepare_requests, request_columns
from tfx_cassandra.components.experiment.results import Verdict, metric_values
from tfx_cassandra.components.experiment.tally import Tally, tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.window import TimeWindow

WINDOW = TimeWindow.parse('2013-06-01T00:00Z/2013-06-02T00:00Z')
A, B = Arm('control', 'm', '1', 0.5), Arm('treatment', 'm', '2', 0.5)
CLICK = Metric('click', 'outcome:click', 'proportion')
BRIER = Metric('brier', 'squared_error:click', better='lower')
DESIGN = Design('e', A, (B,), WINDOW, (CLICK,), decide_by='fixed')
BRIERS = dataclasses.replace(DESIGN, metrics=(BRIER,))

_FEATURES = pa.list_(pa.map_(pa.string(), pa.float64()))
REQUESTS = pa.schema(
    [('model_id', pa.string()), ('version', pa.string()), ('experiment_id', pa.string()), ('request_id', pa.string()),
     ('timestamp', pa.timestamp('ms', 'UTC')), ('prediction', pa.float64()), ('confidence', pa.float64()),
     ('unit', pa.string()), ('features', _FEATURES)]
)  # fmt: skip
OUTCOMES = pa.schema(
    [('request_id', pa.string()), ('outcome', pa.string()), ('timestamp', pa.timestamp('ms', 'UTC')),
     ('value', pa.float64())]
)  # fmt: skip


def request(i: int, arm: Arm = A, **columns: Any) -> dict[str, Any]:
    when = WINDOW.start + datetime.timedelta(seconds=i % 86_400)
    row = {'model_id': arm.model_id, 'version': arm.version, 'experiment_id': 'e', 'request_id': identity(i)}
    return row | {'timestamp': when, 'prediction': 0.3, 'confidence': 0.9, 'unit': None, 'features': None} | columns


def outcome(i: int, value: float | None, name: str = 'click', after: float = 60, **columns: Any) -> dict[str, Any]:
    when = request(i)['timestamp'] + datetime.timedelta(seconds=after)
    return {'request_id': identity(i), 'outcome': name, 'timestamp': when, 'value': value} | columns


def identity(i: int) -> str:
    return str(uuid.UUID(int=i))


def batches(rows: list[dict], schema: pa.Schema, size: int = 700) -> list[pa.RecordBatch]:
    table = pa.Table.from_pylist(rows, schema)
    return table.to_batches(size) if rows else []


def tallied(requests: list[dict], outcomes: list[dict], design: Design = DESIGN) -> Tally:
    wanted = pa.schema([REQUESTS.field(name) for name in request_columns(design)])
    read = [prepare_requests(batch, design) for batch in batches(requests, wanted)]
    taken = [row for row in outcomes if row['outcome'] in design.names_of(*OUTCOME_KINDS)]
    return tally(
        *join_outcomes(read, [prepare_outcomes(batch, design) for batch in batches(taken, OUTCOMES)], design), design
    )


def verdict(requests: list[dict], outcomes: list[dict], design: Design = DESIGN) -> Verdict:
    return decide(design, tallied(requests, outcomes, design))


def traffic(per_arm: int, rates: tuple[float, float], seed: int = 1) -> tuple[list[dict], list[dict]]:
    draw = np.random.default_rng(seed)
    requests, outcomes = [], []
    for i in range(2 * per_arm):
        place = i % 2
        requests.append(request(i, (A, B)[place], prediction=float(draw.uniform(0.1, 0.4))))
        outcomes.append(outcome(i, float(draw.random() < rates[place])))
    return requests, outcomes


def test_a_better_treatment_ships_with_the_figures_of_the_plain_test() -> None:
    requests, outcomes = traffic(2000, (0.2, 0.3))
    found = verdict(requests, outcomes)
    assert (found.verdict, found.winner) == ('ship', 'treatment')
    ones = [sum(o['value'] for o in outcomes[place::2]) for place in (0, 1)]
    result = found.treatments[0].metrics[0]
    assert result.difference == pytest.approx((ones[1] - ones[0]) / 2000)
    pooled = sum(ones) / 4000
    z = result.difference / math.sqrt(pooled * (1 - pooled) * 2 / 2000)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(z))
    assert found.reasons[0].startswith('treatment: click: better, +0.')
    assert [estimate.n for arm in found.arms for estimate in arm.estimates] == [2000, 2000]


@pytest.mark.parametrize(('rates', 'said'), [((0.3, 0.2), 'harm'), ((0.25, 0.25), 'hold'), ((0.2, 0.3), 'ship')])
@pytest.mark.parametrize('decide_by', ['fixed', 'sequential'])
def test_the_verdict_follows_the_goal(rates: tuple[float, float], said: str, decide_by: str) -> None:
    found = verdict(*traffic(2000, rates), dataclasses.replace(DESIGN, decide_by=decide_by))
    assert found.verdict == found.treatments[0].verdict == said


@pytest.mark.parametrize(
    ('rates', 'margin', 'said', 'conclusion'),
    [
        ((0.3, 0.3), 0.1, 'ship', 'not worse'),
        ((0.3, 0.3), 0.01, 'hold', 'undecided'),
        ((0.4, 0.2), 0.1, 'harm', 'violated'),
        ((0.2, 0.4), 0.0, 'ship', 'not worse'),
    ],
)
def test_a_guardrail_may_be_worse_by_its_margin(
    rates: tuple[float, float], margin: float, said: str, conclusion: str
) -> None:
    design = dataclasses.replace(DESIGN, metrics=(dataclasses.replace(CLICK, margin=margin),))
    found = verdict(*traffic(2000, rates), design)
    assert (found.verdict, found.treatments[0].metrics[0].conclusion) == (said, conclusion)


def test_a_goal_does_not_ship_past_a_guardrail() -> None:
    metrics = (BRIER, dataclasses.replace(CLICK, margin=0.05))
    found = verdict(*traffic(2000, (0.6, 0.3)), dataclasses.replace(DESIGN, metrics=metrics))
    assert [result.conclusion for result in found.treatments[0].metrics] == ['better', 'violated']
    assert found.verdict == 'harm'


def test_less_is_better_where_the_metric_says_so() -> None:
    found = verdict(*traffic(2000, (0.6, 0.3)), dataclasses.replace(DESIGN, metrics=(BRIER,)))
    assert found.treatments[0].metrics[0].difference < 0
    assert found.verdict == 'ship'


def test_too_few_values_say_nothing_at_any_time() -> None:
    found = verdict(*traffic(60, (0.0, 1.0)), dataclasses.replace(DESIGN, decide_by='sequential'))
    assert found.verdict == 'hold'
    assert found.treatments[0].reasons == ('click: too early to tell, fewer than 100 units with a value in an arm',)
    assert found.treatments[0].metrics[0].sequential_p is None


def test_goals_are_corrected_for_their_number_and_guardrails_are_not() -> None:
    metrics = (CLICK, BRIER, Metric('sure', 'confidence'), dataclasses.replace(CLICK, name='guard', margin=0.1))
    found = verdict(*traffic(500, (0.2, 0.25)), dataclasses.replace(DESIGN, metrics=metrics))
    by_name = {result.metric: result for result in found.treatments[0].metrics}
    goals = sorted((by_name[name] for name in ('click', 'brier', 'sure')), key=lambda result: result.p_value)
    assert goals[0].p_adjusted == pytest.approx(min(1.0, 3 * goals[0].p_value))
    assert by_name['guard'].p_adjusted is None


# What makes a test invalid: (rows, words)
def broken() -> Iterator[tuple[list[dict], list[dict], Design, str]]:
    requests, outcomes = traffic(500, (0.2, 0.3))
    yield requests[::2], outcomes, DESIGN, 'arm treatment: no request of model m version 2 in 2013-06-01'
    yield [], [], DESIGN, 'arm control: no request of model m version 1'
    yield requests + [request(5000 + i, B) for i in range(150)], outcomes, DESIGN, 'sample-ratio mismatch: units'
    unequal = dataclasses.replace(DESIGN, control=dataclasses.replace(A, weight=0.9),
                                  treatments=(dataclasses.replace(B, weight=0.1),))  # fmt: skip
    yield requests, outcomes, unequal, 'sample-ratio mismatch: units went to control 500 (50.00% where 90.00%'
    yield requests, [], DESIGN, 'metric click: units with a value: got 0, rule: at least two in'
    strangers = [outcome(90_000 + i, 1.0) for i in range(30)]
    yield requests, strangers, DESIGN, 'outcomes: none of 30 belongs to a request of an arm in 2013-06-01'
    for bad in (math.nan, math.inf, -math.inf):
        yield requests, [*outcomes[1:], outcome(0, bad)], BRIERS, 'metric brier: 1 values of arm control are NaN, inf'
    yield (
        requests,
        [*outcomes[1:], outcome(0, 0.5)],
        DESIGN,
        'metric click: 1 values of arm control are neither 0 nor 1',
    )
    yield [*requests, request(0, B)], outcomes, DESIGN, '1 units were answered by more than one arm'
    yield [*requests, request(9, A, version=None, request_id=identity(7777))], outcomes, DESIGN, '1 requests have no'
    ratio = Metric('r', 'outcome:click', 'ratio', denominator='outcome:nothing', missing=0.0)
    yield requests, outcomes, dataclasses.replace(DESIGN, metrics=(ratio,)), 'metric r: denominator: got 0.0, rule'


@pytest.mark.parametrize(('requests', 'outcomes', 'design', 'words'), list(broken()))
def test_what_cannot_tell_is_invalid_and_says_why(
    requests: list[dict], outcomes: list[dict], design: Design, words: str
) -> None:
    found = verdict(requests, outcomes, design)
    assert found.verdict == 'invalid'
    assert found.winner is None
    assert all(arm.verdict == 'invalid' for arm in found.treatments)
    assert all(result.conclusion == 'undecided' for arm in found.treatments for result in arm.metrics)
    assert any(reason.startswith(words) for reason in found.reasons), found.reasons


@pytest.mark.parametrize('score', ['squared_error', 'absolute_error', 'log_loss', 'correct'])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_prediction_that_is_no_number_spoils_every_score(score: str, bad: float) -> None:
    requests, outcomes = traffic(50, (0.2, 0.3))
    requests[4] = requests[4] | {'prediction': bad}
    design = dataclasses.replace(DESIGN, metrics=(Metric('m', f'{score}:click'),))
    assert tallied(requests, outcomes, design).unusable['m'].tolist() == [1, 0]


def test_scores_are_what_their_names_say() -> None:
    rows = [(0.3, 1.0), (0.8, 1.0), (0.9, 0.0), (0.2, 0.0)]
    requests = [request(i, prediction=p) for i, (p, _) in enumerate(rows)]
    outcomes = [outcome(i, o) for i, (_, o) in enumerate(rows)]
    p, o = np.array(rows).T
    oracles = {
        'squared_error': (p - o) ** 2,
        'absolute_error': abs(p - o),
        'log_loss': -np.log(np.where(o == 1, p, 1 - p)),
        'correct': (p > 0.5) == (o == 1),
    }
    metrics = tuple(Metric(name, f'{name}:click') for name in oracles)
    moments = tallied(requests, outcomes, dataclasses.replace(DESIGN, metrics=metrics)).moments
    for name, oracle in oracles.items():
        cells = moments[name][0]
        assert (cells.n * cells.mean[..., 0]).sum() / 4 == pytest.approx(oracle.mean())


def test_the_latest_outcome_in_time_counts() -> None:
    day = 86_400
    outcomes = [
        outcome(0, 0.0, after=10),
        outcome(0, 1.0, after=day - 1),  # corrected within the delay
        outcome(2, 0.0, after=10),
        outcome(2, 1.0, after=day),  # known too late
        outcome(4, 1.0, name='other'),
    ]
    found = tallied([request(0), request(2), request(4)], outcomes)
    cells = found.moments['click'][0]
    assert (cells.n * cells.mean[..., 0]).sum() == 1
    assert (cells.n.sum(), found.left_out['click'].tolist()) == (2, [1, 0])
    filled = dataclasses.replace(DESIGN, metrics=(dataclasses.replace(CLICK, missing=0.0),))
    assert tallied([request(0), request(2), request(4)], outcomes, filled).moments['click'].n.sum() == 3


def test_only_the_experiments_own_requests_count() -> None:
    rows = [
        request(0),
        request(0, timestamp=WINDOW.start + datetime.timedelta(hours=5)),  # the same request again
        request(2, experiment_id='another'),
        request(4, experiment_id=None),
        request(6, version='3'),
        request(8, model_id='n'),
    ]
    assert tallied(rows, []).requests.tolist() == [2, 0]


def test_a_model_that_is_one_arm_needs_no_version() -> None:
    design = dataclasses.replace(DESIGN, treatments=(Arm('treatment', 'n', '2', 0.5),))
    rows = [request(0, version=None), request(2, model_id='n', version=None)]
    assert tallied(rows, [], design).requests.tolist() == [1, 1]


def test_cuped_takes_the_covariate_from_the_logged_features() -> None:
    draw = np.random.default_rng(5)
    requests, outcomes = [], []
    for i in range(1000):
        x = float(draw.normal(10, 3))
        features = [[('noise', 1.0)], [('x', x), ('x2', 0.0)]]
        requests.append(request(i, (A, B)[i % 2], features=features))
        outcomes.append(outcome(i, x + float(draw.normal(0.5 * (i % 2), 1)), name='spend'))
    plain = Metric('spend', 'outcome:spend')
    metrics = (plain, dataclasses.replace(plain, name='adjusted', covariate='feature:x'))
    found = verdict(requests, outcomes, dataclasses.replace(DESIGN, metrics=metrics))
    wide, narrow = found.treatments[0].metrics
    assert narrow.test == "Welch's t with CUPED"
    assert narrow.stderr < wide.stderr / 2.5
    assert narrow.conclusion == 'better'
    assert narrow.low < 0.5 < narrow.high


def test_shards_in_any_order_give_the_verdict_of_all_rows() -> None:
    requests, outcomes = traffic(1000, (0.2, 0.3))
    design = dataclasses.replace(DESIGN, metrics=(CLICK, BRIER))
    whole = verdict(requests, outcomes, design)
    shards = []
    for shard in range(4):
        mine = {identity(i) for i in range(2000) if i % 4 in (shard, (shard + 4) % 4)}
        rows = [[row for row in part if row['request_id'] in mine] for part in (requests, outcomes)]
        for part in rows:
            random.Random(shard).shuffle(part)
        shards.append(tallied(*rows, design))
    merged = decide(design, shards[0] + shards[1] + shards[2] + shards[3])
    assert merged.treatments[0].metrics[1].difference == pytest.approx(whole.treatments[0].metrics[1].difference)
    assert merged.treatments[0].metrics[1].stderr == pytest.approx(whole.treatments[0].metrics[1].stderr)
    assert merged.verdict == whole.verdict
    # Within a shard the order of rows changes no bit.
    assert decide(design, tallied(requests[::-1], outcomes[::-1], design)) == whole


def test_two_halves_that_differ_by_more_than_chance_are_found() -> None:
    requests, outcomes = traffic(1000, (0.2, 0.2))
    found = verdict(requests, outcomes)
    assert found.aa_checks[0].p_value > 0.001
    cells = tallied(requests, outcomes)
    cells.moments['click'].mean[0, 0, :, 0] += 0.5
    cells.moments['click'].products[0] *= 0.1
    mean = Metric('click', 'outcome:click')
    broken = decide(dataclasses.replace(DESIGN, metrics=(mean,)), cells)
    assert broken.verdict == 'invalid'
    assert broken.reasons[0].startswith('A/A check: two random halves of the control differ in click')


def test_the_series_runs_to_the_whole_difference() -> None:
    found = verdict(*traffic(1000, (0.2, 0.3)), dataclasses.replace(DESIGN, decide_by='sequential'))
    last = [point for point in found.series if point.arm == 'treatment'][-1]
    result = found.treatments[0].metrics[0]
    assert (last.difference, last.low) == pytest.approx((result.difference, result.sequential_low))
    assert len(found.series) == 2 * 24
    assert sum(point.n for point in found.series) == 2000


@pytest.mark.parametrize('hours', [0, 2, -5])
def test_each_request_is_in_the_step_of_its_time(hours: int) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    window = TimeWindow(WINDOW.start.astimezone(zone), WINDOW.end.astimezone(zone))
    seconds = [0, 0.999, 1, 4999.999, 5000, 86_399.999]
    rows = [request(i, timestamp=WINDOW.start + datetime.timedelta(seconds=s)) for i, s in enumerate(seconds)]
    step = datetime.timedelta(seconds=1000)
    design = dataclasses.replace(DESIGN, window=window, series_step=step, metrics=(Metric('p', 'prediction'),))
    steps = tallied(rows, [], design).moments['p'].n.sum(axis=(0, 1))
    assert {int(i): int(steps[i]) for i in np.flatnonzero(steps)} == {0: 3, 4: 1, 5: 1, 86: 1}
    assert len(steps) == 87


def test_metric_keys() -> None:
    found = verdict(*traffic(1000, (0.2, 0.3)))
    control, treatment = (metric_values(found, arm) for arm in found.arms)
    of_test = {'requests{ab=n}', 'units{ab=n}', 'srm{ab=p_value}'}
    assert set(control) == of_test | {'click{ab=n}', 'click{ab=value}', 'click{ab=stderr}'}
    assert {'click{ab=difference}', 'click{ab=p_adjusted}', 'click{ab=sequential_low}'} < set(treatment)
    assert treatment['click{ab=difference}'] == found.treatments[0].metrics[0].difference
    assert treatment['click{ab=stderr}'] == found.treatments[0].estimates[0].stderr
    assert treatment['click{ab=difference_stderr}'] == found.treatments[0].metrics[0].stderr


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'treatments': ()}, 'treatments: got (), rule: at least one'),
        ({'metrics': ()}, 'metrics: got (), rule: at least one'),
        ({'treatments': (dataclasses.replace(B, weight=0.4),)}, 'weights: got [0.5, 0.4], rule: they sum to one'),
        ({'treatments': (dataclasses.replace(B, name='control'),)}, "arms: got ['control'], rule: each once"),
        ({'treatments': (dataclasses.replace(B, version='1'),)}, "arms: got ['m 1'], rule: each once"),
        ({'metrics': (CLICK, CLICK)}, "metrics: got ['click'], rule: each once"),
        ({'experiment_id': ''}, "experiment_id: got '', rule: a non-empty text"),
        ({'alpha': 1.5}, 'alpha: got 1.5, rule: between 0 and 1'),
        ({'alpha': math.nan}, 'alpha: got nan, rule: between 0 and 1'),
        ({'decide_by': 'gut'}, "decide_by: got 'gut', rule: 'sequential' or 'fixed'"),
        ({'outcome_delay': datetime.timedelta(0)}, 'outcome_delay: got'),
        ({'series_step': datetime.timedelta(seconds=1)}, 'series_step: got'),
        ({'least_units': 1}, 'least_units: got 1'),
        ({'control': None}, 'control: got None, rule: an Arm'),
        ({'window': 'today'}, "window: got 'today', rule: a TimeWindow"),
        ({'treatments': (A, 'b')}, 'treatments: got (Arm('),
        ({'metrics': ('click',)}, "metrics: got ('click',), rule: a list in which each item is a Metric"),
        (
            {'outcome_delay': datetime.timedelta(days=10**7)},
            'outcome_delay: got datetime.timedelta(days=',
        ),
    ],
)
def test_a_design_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        dataclasses.replace(DESIGN, **changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ('m', 'input_hash'),
            "m.value: got 'input_hash', rule: a number: one of prediction, confidence, requests, or NAME",
        ),
        (('m', 'outcome:'), "m.value: got 'outcome:'"),
        (('m', 3), 'm.value: got 3'),
        (('m n', 'prediction'), "metric.name: got 'm n'"),
        (('m', 'prediction', 'median'), "m.kind: got 'median'"),
        (('m', 'prediction', 'ratio'), 'm.denominator: got None, rule: given for a ratio'),
        (('m', 'prediction', 'mean', 'confidence'), "m.denominator: got 'confidence'"),
        (('m', 'prediction', 'mean', None, 'outcome:x'), "m.covariate: got 'outcome:x'"),
        (('m', 'prediction', 'proportion', None, 'feature:x'), "m.covariate: got 'feature:x'"),
        (('m', 'prediction', 'mean', None, 'feature:'), "m.covariate: got 'feature:'"),
        (('m', 'prediction', 'mean', None, None, math.nan), 'm.missing: got nan'),
        (('m', 'prediction', 'mean', None, None, 0.0), 'm.missing: got 0.0, rule: None for a metric without outcomes'),
        (('m', 'prediction', 'mean', None, None, None, 'more'), "m.better: got 'more'"),
        (('m', 'prediction', 'mean', None, None, None, 'higher', -0.1), 'm.margin: got -0.1'),
    ],
)
def test_a_metric_that_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        Metric(*arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize('weight', [0.0, -0.5, 1.5, math.nan, math.inf, True, '0.5'])
def test_a_weight_is_a_share(weight: Any) -> None:
    with pytest.raises(ValueError, match=r'arm\.weight of a: got'):
        Arm('a', 'm', '1', weight)


def test_features_are_columns_of_their_rows() -> None:
    rows = [None, [], [None, [('x', 1.0)]], [[('y', 2.0), ('x', 3.0)], [('x', 4.0)]], [[('y', None)]], [[]]]
    batch = pa.RecordBatch.from_pylist([request(i, features=features) for i, features in enumerate(rows)], REQUESTS)
    design = dataclasses.replace(DESIGN, metrics=(Metric('x', 'feature:x'), Metric('y', 'feature:y')))
    for part in (batch, batch.slice(1), batch.slice(3, 2)):
        read = prepare_requests(part, design).to_pydict()
        start = int(part.column(3)[0].as_py()[-2:], 16)
        assert read['feature:x'] == [None, None, 1.0, 3.0, None, None][start : start + part.num_rows]
        assert read['feature:y'] == [None, None, None, 2.0, None, None][start : start + part.num_rows]


def test_only_what_counts_is_shuffled() -> None:
    rows = [request(0), request(2, B), request(4, version='3'), request(6, experiment_id='x'), request(8, version=None)]
    for design, columns in ((DESIGN, set()), (dataclasses.replace(DESIGN, metrics=(BRIER,)), {'prediction'})):
        wanted = pa.schema([REQUESTS.field(name) for name in request_columns(design)])
        read = prepare_requests(batches(rows, wanted)[0], design)
        assert set(read.schema.names) == {'request_id', 'timestamp', 'unit', 'arm'} | columns
        assert read['arm'].to_pylist() == [0, 1, -1]
        assert read['request_id'].to_pylist() == [uuid.UUID(int=i).bytes for i in (0, 2, 8)]
    read = prepare_outcomes(batches([outcome(0, 1.0)], OUTCOMES)[0], DESIGN)
    assert read.to_pylist()[0]['outcome'] == 0


def test_of_the_time_before_only_what_was_known_before_counts() -> None:
    hour = datetime.timedelta(hours=1)
    early, last = ({'timestamp': WINDOW.start - wait} for wait in (5 * hour, hour))
    requests = [
        request(0, unit='u'),
        request(2, unit='u', experiment_id='another', version='7', **early),
        request(4, unit='u', experiment_id=None, **last),
        request(6, **early),  # of no unit that could be found again
    ]
    outcomes = [
        outcome(0, 1.0),
        outcome(2, 5.0, timestamp=early['timestamp'] + hour),
        outcome(4, 7.0, timestamp=WINDOW.start),  # within the delay, but the arm may have mattered
        outcome(6, 9.0, timestamp=early['timestamp'] + hour),
    ]
    metric = Metric('spend', 'outcome:click', covariate='before')
    design = dataclasses.replace(DESIGN, metrics=(metric,), before=6 * hour)
    found = tallied(requests, outcomes, design)
    cells = found.moments['spend']
    assert found.requests.tolist() == [1, 0]
    assert cells.n.sum() == 1
    assert cells.mean[0].sum(axis=(0, 1)).tolist() == [1.0, 1.0, 5.0, 1.0]
    # The last one's request is left out, and those of the time before are not counted.
    assert (found.counts.outcomes, found.counts.orphans, found.left_out['spend'].tolist()) == (2, 1, [0, 0])


def test_the_time_before_must_not_have_seen_the_arms() -> None:
    requests, outcomes = traffic(200, (0.2, 0.3))
    early = {'timestamp': WINDOW.start - datetime.timedelta(hours=1), 'unit': 'u'}
    metric = Metric('spend', 'outcome:click', covariate='before')
    design = dataclasses.replace(DESIGN, metrics=(metric,), before=datetime.timedelta(hours=6))
    assert verdict([*requests, request(9000, experiment_id='x', **early)], outcomes, design).verdict != 'invalid'
    found = verdict([*requests, request(9000, **early)], outcomes, design)
    assert found.reasons[0].startswith('1 requests of the experiment are before its window, so covariate')


def test_outcomes_that_only_the_time_before_has_do_not_hide_a_broken_join() -> None:
    requests, _ = traffic(200, (0.2, 0.3))
    early = {'timestamp': WINDOW.start - datetime.timedelta(hours=2), 'experiment_id': None}
    earlier = [request(9000 + i, unit=f'u{i}', **early) for i in range(50)]
    known_then = [outcome(9000 + i, 1.0, timestamp=WINDOW.start - datetime.timedelta(hours=1)) for i in range(50)]
    strangers = [outcome(90_000 + i, 1.0) for i in range(30)]
    metric = Metric('spend', 'outcome:click', covariate='before', missing=0.0, margin=0.1)
    design = dataclasses.replace(DESIGN, metrics=(metric,), before=datetime.timedelta(hours=6))
    found = verdict([*requests, *earlier], [*known_then, *strangers], design)
    assert found.reasons == (f'outcomes: none of 30 belongs to a request of an arm in {WINDOW}',)


def test_a_request_before_and_one_in_the_window_may_have_one_id() -> None:
    early = {'timestamp': WINDOW.start - datetime.timedelta(minutes=5), 'experiment_id': None}
    requests = [request(0, unit='u'), request(0, unit='u', **early)]
    design = dataclasses.replace(
        DESIGN, metrics=(Metric('m', 'outcome:click', covariate='before'),), before=datetime.timedelta(hours=1)
    )
    cells = tallied(requests, [outcome(0, 7.0)], design).moments['m']
    assert cells.mean[0].sum(axis=(0, 1)).tolist() == [7.0, 1.0, 0.0, 0.0]  # not known before


def test_rows_of_one_moment_are_in_one_order() -> None:
    twice = [request(0, prediction=0.1), request(0, prediction=0.2)]
    doubled = [outcome(0, 1.0), outcome(0, 0.0)]
    design = dataclasses.replace(DESIGN, metrics=(Metric('p', 'prediction'), CLICK))
    both = [tallied(rows, known_of, design) for rows, known_of in ((twice, doubled), (twice[::-1], doubled[::-1]))]
    for name in ('p', 'click'):
        assert both[0].moments[name].mean.tolist() == both[1].moments[name].mean.tolist()


def test_only_an_outcome_may_be_missing() -> None:
    requests = [request(0, prediction=None), request(2, prediction=0.5), request(4)]
    design = dataclasses.replace(DESIGN, metrics=(dataclasses.replace(BRIER, missing=9.0),))
    found = tallied(requests, [outcome(0, 1.0), outcome(2, 1.0)], design)
    cells = found.moments['brier'][0]
    assert (cells.n * cells.mean[..., 0]).sum() == pytest.approx(0.25 + 9)
    assert found.left_out['brier'].tolist() == [1, 0]


def test_a_value_that_is_the_same_everywhere_does_not_differ() -> None:
    requests = [request(i, (A, B)[i % 2], prediction=0.1, confidence=1 / 3) for i in range(3001)]
    metrics = (Metric('p', 'prediction'), Metric('r', 'prediction', 'ratio', 'confidence'))
    found = verdict(requests, [], dataclasses.replace(DESIGN, metrics=metrics))
    assert [result.p_value for result in found.treatments[0].metrics] == [1.0, 1.0]
    assert found.verdict == 'hold'


@pytest.mark.parametrize('decide_by', ['fixed', 'sequential'])
@pytest.mark.parametrize('kind', ['proportion', 'mean'])
def test_that_nothing_happened_yet_is_no_proof_that_nothing_will(decide_by: str, kind: str) -> None:
    metric = Metric('crash', 'outcome:click', kind, better='lower', margin=0.001)
    design = dataclasses.replace(DESIGN, metrics=(metric,), decide_by=decide_by)
    assert verdict(*traffic(100, (0.0, 0.0)), design).verdict == 'hold'


def test_a_window_of_any_zone_is_the_same() -> None:
    zone = zoneinfo.ZoneInfo('America/New_York')
    window = TimeWindow(WINDOW.start.astimezone(zone), WINDOW.end.astimezone(zone))
    rows = traffic(100, (0.2, 0.3))
    found = verdict(*rows, dataclasses.replace(DESIGN, window=window))
    assert found.treatments == verdict(*rows).treatments


def test_there_may_be_many_arms() -> None:
    weights = 1 / 200
    arms = [Arm(f'a{i}', 'm', str(i), weights) for i in range(200)]
    design = dataclasses.replace(DESIGN, control=arms[0], treatments=tuple(arms[1:]))
    assert tallied([request(i, arms[i]) for i in range(200)], [], design).requests.tolist() == [1] * 200


def test_a_unit_without_a_name_is_none() -> None:
    rows = [request(i, (A, B)[i % 2], unit='') for i in range(10)]
    found = tallied(rows, [])
    assert (found.units.tolist(), found.crossed) == ([5, 5], 0)
