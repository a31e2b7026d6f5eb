"""ABEvaluator on a real cluster: logged by the logger, joined, decided, and read back from wherever it was written."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import re
import uuid
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from cassandra.cluster import Session
from counted import counted
from tfx import types
from tfx.dsl.components.base import base_beam_executor

from tfx_cassandra.components import ABEvaluator, Arm, InferenceLogger, Metric, ModelRegistry
from tfx_cassandra.components.ab_evaluator import config
from tfx_cassandra.components.ab_evaluator.executor import Executor
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.experiment import record
from tfx_cassandra.components.experiment.evaluate import EvaluateAb
from tfx_cassandra.components.experiment.results import Verdict, metric_values
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.inference_log.logger import assign
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

WINDOW = TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z')
WEIGHTS = {'control': 0.5, 'treatment': 0.5}
VERSIONS = {'control': '1700000000', 'treatment': '1700000001'}
METRICS = (
    Metric('brier', 'squared_error:late', better='lower'),
    Metric('lateness', 'outcome:late', 'proportion', better='lower', margin=0.1),
    Metric('cost', 'outcome:cost', 'ratio', denominator='feature:distance', covariate='feature:distance', margin=1.0),
)
REQUESTS = 3000


def log_traffic(
    connection: CassandraConnection, experiment: str, skill: dict[str, float], table: str, seed: int = 5
) -> list[dict]:
    """Logs a day of requests and outcomes; returns them as plain rows."""
    draw, rows = np.random.default_rng(seed), []
    with InferenceLogger(connection, experiment, table) as log:
        for i in range(REQUESTS):
            arm = assign(experiment, f'unit {i}', WEIGHTS)
            late, distance = float(draw.random() < 0.3), float(draw.uniform(100, 2000))
            prediction = float(np.clip(0.3 + skill[arm] * (late - 0.3) + draw.normal(0, 0.1), 0, 1))
            when = WINDOW.start + datetime.timedelta(seconds=float(draw.uniform(0, 86_400)))
            identity = uuid.UUID(int=draw.bit_generator.random_raw())
            features = [{'distance': distance}]
            request = log.log(
                'm', prediction, version=VERSIONS[arm], request_id=identity, timestamp=when, features=features
            )
            cost = distance * float(draw.gamma(2, 0.5))
            known = when + datetime.timedelta(hours=2)
            for name, value in (('late', late), ('cost', cost)):
                log.log_outcome('m', request, name, value, known)
            # Known too late to count, and it would be noticed.
            log.log_outcome('m', request, 'late', 1 - late, when + datetime.timedelta(days=1))
            row = {'arm': arm, 'late': late, 'prediction': prediction, 'cost': cost, 'distance': distance}
            rows.append(row | {'when': when})
        assert log.flush(60)
        assert log.counts.written == log.counts.accepted == 4 * REQUESTS
        assert log.counts.dropped == log.counts.failed == 0
    return rows


def register(connection: CassandraConnection, experiment: str) -> None:
    with ModelRegistry(connection) as registry:
        for version in VERSIONS.values():
            registry.record(ModelVersion(experiment, 'm', version, moment(int(version)), {'auc': 0.7}))


def component(connection: CassandraConnection, experiment: str, **changes: Any) -> ABEvaluator:
    arms = [Arm(name, 'm', VERSIONS[name], weight) for name, weight in WEIGHTS.items()]
    arguments = {'control': arms[0], 'treatments': arms[1:], 'window': WINDOW, 'metrics': METRICS, 'shards': 4}
    return ABEvaluator(connection, experiment, **arguments | changes)


def run(evaluator: ABEvaluator, folder: pathlib.Path) -> tuple[Verdict, types.Artifact]:
    """Runs the component's executor as TFX does, and reads the artifact."""
    artifact = AbVerdict()
    artifact.uri = str(folder)
    executor = Executor(base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder / 'tmp')))
    executor.Do({}, {'verdict': [artifact]}, dict(evaluator.exec_properties))
    return read_verdict(artifact.uri), artifact


@pytest.fixture(scope='module')
def evaluated(
    connection: CassandraConnection, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict], Verdict, types.Artifact]:
    rows = log_traffic(connection, 'e', {'control': 0.3, 'treatment': 0.6}, 'inference_results')
    register(connection, 'e')
    verdict, artifact = run(component(connection, 'e'), tmp_path_factory.mktemp('verdict'))
    return rows, verdict, artifact


def test_the_figures_are_those_of_the_rows_that_were_logged(evaluated: tuple) -> None:
    rows, verdict, _ = evaluated
    for arm in verdict.arms:
        mine = [row for row in rows if row['arm'] == arm.arm]
        brier, lateness, cost = arm.estimates
        assert arm.requests == brier.n == lateness.n == len(mine)
        assert brier.value == pytest.approx(np.mean([(row['prediction'] - row['late']) ** 2 for row in mine]))
        assert lateness.value == pytest.approx(np.mean([row['late'] for row in mine]))
        ratio = sum(row['cost'] for row in mine) / sum(row['distance'] for row in mine)
        assert cost.value == pytest.approx(ratio, rel=0.02)  # adjusted by the covariate
    assert (verdict.verdict, verdict.winner) == ('ship', 'treatment')
    assert verdict.outcomes == 3 * REQUESTS
    assert verdict.outcomes_without_request == 0


def test_registry_report_and_artifact_hold_the_same_numbers(evaluated: tuple, connection: CassandraConnection) -> None:
    _, verdict, artifact = evaluated
    shown = (pathlib.Path(artifact.uri) / record.REPORT_FILE).read_text()
    with ModelRegistry(connection) as registry:
        for arm in verdict.arms:
            row = registry.get('e', 'm', arm.version)
            assert row is not None
            assert dict(row.metrics) == metric_values(verdict, arm) | {'auc': 0.7}
            assert (row.ab_test_group, row.verdict) == (arm.arm, arm.verdict)
            of_arm = re.findall(f'data-arm="{arm.arm}" data-key="([^"]+)" data-value="([^"]+)"', shown)
            assert len(of_arm) > 10
            for key, value in of_arm:
                assert row.metrics[key] == float(value)


def test_the_artifact_says_what_it_is(evaluated: tuple) -> None:
    _, _, artifact = evaluated
    content = json.loads((pathlib.Path(artifact.uri) / 'verdict.json').read_text())
    assert (content['experiment_id'], content['verdict']) == ('e', 'ship')
    assert {arm['version'] for arm in (content['control'], *content['treatments'])} == set(VERSIONS.values())
    assert artifact.get_string_custom_property('winner') == 'treatment'
    with pytest.raises(RegistryError, match="verdict: got one of experiment 'e', rule: of 'another'"):
        read_verdict(artifact.uri, 'another')
    with pytest.raises(RegistryError, match=r'rule: a directory that holds verdict\.json'):
        read_verdict('/nowhere')


def test_the_time_series_is_in_model_metrics(
    evaluated: tuple, connection: CassandraConnection, session: Session
) -> None:
    _, verdict, _ = evaluated
    query = f'SELECT * FROM {connection.keyspace}.model_metrics WHERE model_id = %s AND metric_name = %s'
    rows = session.execute(query, ('m', 'brier{ab=value,experiment=e,arm=treatment}')).all()
    points = [p for p in verdict.series if (p.metric, p.arm) == ('brier', 'treatment')]
    assert [row.value for row in reversed(rows)] == [point.value for point in points]
    assert len(rows) == 24
    assert rows[0].tags['version'] == VERSIONS['treatment']


def test_a_rerun_changes_no_bit(
    evaluated: tuple, connection: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    _, _, first = evaluated
    before = tables(connection, session)
    _, again = run(component(connection, 'e', splits=3, page_rows=500), tmp_path)
    for name in ('verdict.json', 'report.html'):
        assert (pathlib.Path(again.uri) / name).read_text() == (pathlib.Path(first.uri) / name).read_text()
    assert tables(connection, session) == before


def tables(connection: CassandraConnection, session: Session) -> list[list]:
    names = ('model_versions', 'model_metrics')
    return [sorted(map(repr, session.execute(f'SELECT * FROM {connection.keyspace}.{name}'))) for name in names]


def test_the_bucketed_layout_gives_the_same(connection: CassandraConnection, tmp_path: pathlib.Path) -> None:
    skill = {'control': 0.6, 'treatment': 0.6}
    log_traffic(connection, 'b', skill, 'inference_results_bucketed', 6)
    register(connection, 'b')
    found, _ = run(component(connection, 'b', requests_table='inference_results_bucketed'), tmp_path)
    assert sum(arm.requests for arm in found.arms) == REQUESTS
    assert found.verdict == 'hold'
    assert found.outcomes_without_request == 3 * REQUESTS  # those of experiment e, whose requests are elsewhere


def test_requests_too_young_for_their_outcomes_do_not_count_yet(
    evaluated: tuple, connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    rows, _, _ = evaluated
    look = WINDOW.start + datetime.timedelta(hours=36)
    mature = [row for row in rows if row['when'] + datetime.timedelta(days=1) <= look]
    settings = config.from_properties(dict(component(connection, 'e', as_of=look).exec_properties))
    # Without what records the verdict, which other tests read.
    with spool.spooling(beam.Pipeline, str(tmp_path / 'spool')) as pipeline:
        _ = pipeline | EvaluateAb(settings, str(tmp_path / 'spool')) | beam.Map(record.write_files, str(tmp_path))
    verdict = read_verdict(str(tmp_path))
    assert 0 < len(mature) < len(rows)
    assert (verdict.as_of, verdict.immature) == (look, len(rows) - len(mature))
    for arm in verdict.arms:
        mine = [row for row in mature if row['arm'] == arm.arm]
        assert arm.requests == len(mine)
        assert arm.estimates[1].value == pytest.approx(np.mean([row['late'] for row in mine]))


def test_no_traffic_is_an_invalid_verdict(connection: CassandraConnection, tmp_path: pathlib.Path) -> None:
    register(connection, 'empty')
    with counted() as grown:
        found, artifact = run(component(connection, 'empty', window='2020-01-01T00:00Z/2020-01-02T00:00Z'), tmp_path)
    assert grown['tfx_cassandra_ab_runs_total', ('invalid',)] == grown['tfx_cassandra_ab_seconds_count', ()] == 1
    assert found.verdict == 'invalid'
    assert found.reasons[0].startswith('arm control: no request of model m version 1700000000')
    assert 'invalid' in (pathlib.Path(artifact.uri) / 'report.html').read_text()
    with ModelRegistry(connection) as registry:
        row = registry.get('empty', 'm', VERSIONS['treatment'])
        assert row is not None
        assert row.verdict == 'invalid'


def test_a_version_of_no_one_is_an_error_after_the_artifact(
    connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    evaluator = component(connection, 'unregistered', window='2020-01-01T00:00Z/2020-01-02T00:00Z')
    with pytest.raises(RegistryError, match="arm control: version: got '1700000000', rule: a recorded version of 'm'"):
        run(evaluator, tmp_path)
    assert read_verdict(str(tmp_path)).experiment_id == 'unregistered'


def log_visits(connection: CassandraConnection, experiment: str) -> list[dict]:
    """Logs users who come several times, some of them the day before, too; returns them as plain rows."""
    draw, rows = np.random.default_rng(8), []
    table = 'inference_results_bucketed'
    with InferenceLogger(connection, None, table) as before, InferenceLogger(connection, experiment, table) as during:
        for user in range(300):
            arm, level = assign(experiment, f'user {user}', WEIGHTS), float(draw.gamma(2, 5))
            for _ in range(draw.integers(1, 6)):
                hours = float(draw.uniform(-24, 24))
                when = WINDOW.start + datetime.timedelta(hours=hours)
                identity = uuid.UUID(int=draw.bit_generator.random_raw())
                unit = f'user {user}'
                log, version = (before, '1') if hours < 0 else (during, VERSIONS[arm])
                log.log('v', 0.5, version=version, unit=unit, request_id=identity, timestamp=when)
                spend = level + float(draw.normal()) + 2 * (hours >= 0 and arm == 'treatment')
                log.log_outcome('v', identity, 'spend', spend, when + datetime.timedelta(minutes=1))
                rows.append({'arm': arm, 'user': user, 'spend': spend, 'before': hours < 0})
        assert before.flush(60)
        assert during.flush(60)
    return rows


def test_users_are_the_units_and_their_past_is_read(
    connection: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    rows = log_visits(connection, 'units')
    arms = {name: Arm(name, 'v', VERSIONS[name], weight) for name, weight in WEIGHTS.items()}
    with ModelRegistry(connection) as registry:
        for version in VERSIONS.values():
            registry.record(ModelVersion('units', 'v', version, moment(int(version)), {}))
    spend = Metric('spend', 'outcome:spend')
    changes = {
        'control': arms['control'],
        'treatments': arms['treatment'],
        'metrics': (
            spend,
            dataclasses.replace(spend, name='spend_of_users', per='unit'),
            dataclasses.replace(spend, name='adjusted', covariate='before'),
        ),
        'before': datetime.timedelta(days=1),
        'requests_table': 'inference_results_bucketed',
    }
    verdict, artifact = run(component(connection, 'units', **changes), tmp_path / 'first')
    for arm in verdict.arms:
        mine = [row for row in rows if row['arm'] == arm.arm and not row['before']]
        users: dict[int, list[float]] = {}
        for row in mine:
            users.setdefault(row['user'], []).append(row['spend'])
        assert (arm.requests, arm.units) == (len(mine), len(users))
        plain, of_users, _ = arm.estimates
        assert plain.value == pytest.approx(np.mean([row['spend'] for row in mine]))
        assert of_users.value == pytest.approx(np.mean([sum(each) for each in users.values()]))
        assert plain.n == of_users.n == len(users)
        record_of = session.execute(
            f"SELECT metrics FROM {connection.keyspace}.model_versions WHERE experiment_id = 'units'"
            f' AND created_at = {int(arm.version) * 1000} AND model_id = %s',
            ('v',),
        ).one()
        assert record_of.metrics['units{ab=n}'] == len(users)
    plain, _, adjusted = verdict.treatments[0].metrics
    assert adjusted.stderr < 0.8 * plain.stderr
    _, again = run(component(connection, 'units', splits=3, page_rows=100, **changes), tmp_path / 'again')
    for name in ('verdict.json', 'report.html'):
        assert (pathlib.Path(again.uri) / name).read_text() == (pathlib.Path(artifact.uri) / name).read_text()


def test_nothing_is_left_of_the_spool(
    evaluated: tuple, connection: CassandraConnection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, artifact = evaluated
    assert sorted(path.name for path in pathlib.Path(artifact.uri).iterdir()) == ['report.html', 'verdict.json']

    (tmp_path / 'spool').mkdir()  # the user's own

    def fail(*_: object) -> None:
        assert any(path.name.startswith('.spool-') for path in tmp_path.iterdir())
        raise RuntimeError('disk full')

    monkeypatch.setattr(record, 'write_files', fail)
    with pytest.raises(RuntimeError, match='disk full'):
        run(component(connection, 'e'), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['spool']


def test_bad_arguments_are_refused_when_the_pipeline_is_made(connection: CassandraConnection) -> None:
    for changes, message in (
        ({'window': '2026-01-01/2026-01-02'}, 'start: got'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST'"),
        ({'shards': 0}, 'shards: got 0, rule: an integer of at least 1'),
        ({'treatments': Arm('t', 'm', '9', 0.4)}, r'weights: got \[0.5, 0.4\]'),
    ):
        with pytest.raises(ValueError, match=message):
            component(connection, 'e', **changes)
    one = dataclasses.replace(METRICS[0])
    assert component(connection, 'e', metrics=one).outputs['verdict'].type is AbVerdict
