"""A round of the monitor on a real cluster: every figure beside one computed in a plain loop over what was written."""

from __future__ import annotations

import datetime
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import prometheus_client
import pytest
import tensorflow as tf
from cassandra.cluster import Session
from counted import counted
from prometheus_client.parser import text_string_to_metric_families

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.metrics import declared
from tfx_cassandra.components.monitoring.config import Monitoring, SkewCheck
from tfx_cassandra.components.monitoring.drift import drift
from tfx_cassandra.components.monitoring.exporter import Exporter
from tfx_cassandra.components.monitoring.rounds import measure, stored
from tfx_cassandra.components.monitoring.windows import Load

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
NOW = datetime.datetime.now(UTC).replace(microsecond=0) - datetime.timedelta(minutes=5)
MINUTE = datetime.timedelta(minutes=1)
HOUR = 60 * MINUTE
SHOPS, STEPS = 40, 50
WIDE = FeatureView('visits', 'visits', ('shop',), 'at', ('spent', 'items', 'note'))
FAST = Load(rows_per_second=None)
Samples = dict[tuple[str, tuple[str, ...]], float]


def moments() -> list[datetime.datetime]:
    """Times from the reference window, 12 hours, to the current one, an hour."""
    return [NOW - HOUR * 13 + i * HOUR * 13 / STEPS for i in range(STEPS)]


def visit(shop: int, i: int) -> tuple[float | None, int | None, str | None]:
    """What a shop's row holds: spent drifts in the last hour, items is often null, once NaN."""
    late = moments()[i] >= NOW - HOUR
    spent = math.nan if (shop, i) == (3, STEPS - 1) else shop % 7 + (20.0 if late else 0.0)
    return spent, None if (shop + i) % 4 == 0 else shop % 3, 'x' if i < 5 else None


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    session.execute(
        f'CREATE TABLE {connection.keyspace}.visits (shop int, at timestamp, spent double, items int, note text, '
        'PRIMARY KEY (shop, at))'
    )
    insert = session.prepare(
        f'INSERT INTO {connection.keyspace}.visits (shop, at, spent, items, note) VALUES (?, ?, ?, ?, ?)'
    )
    for shop in range(SHOPS):
        for i, moment in enumerate(moments()):
            session.execute(insert, (shop, moment, *visit(shop, i)))
    values = [FeatureValue('m', name, NOW - n * MINUTE, n % 5.0) for name in ('a', 'b') for n in range(2, 300)]
    stale = [FeatureValue('old', 'c', NOW - 90 * 24 * HOUR, 1.0)]
    with FeatureStore(connection) as store:
        assert not [result for result in store.write_features([*values, *stale]) if result.error]
    return connection


def samples(exporter: Exporter) -> Samples:
    registry = prometheus_client.CollectorRegistry()
    registry.register(exporter.snapshot)
    return parsed(prometheus_client.generate_latest(registry).decode())


def parsed(text: str) -> Samples:
    order = {metric.name: metric.labels for metric in declared()}
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sample.labels[label] for label in order.get(sample.name, ()))): sample.value
        for family in families for sample in family.samples
    }  # fmt: skip


def test_the_figures_of_a_wide_view(filled: CassandraConnection) -> None:
    settings = Monitoring((WIDE,), current=HOUR, reference=12 * HOUR, load=FAST)
    found = {(m.metric.name, m.labels): m.value for m in measure(filled, settings, NOW)}
    windows = {'reference': (NOW - 13 * HOUR, NOW - HOUR), 'current': (NOW - HOUR, NOW)}
    for place, name in enumerate(('spent', 'items')):
        held = {}
        for window, (start, end) in windows.items():
            rows = [visit(s, i)[place] for s in range(SHOPS) for i, at in enumerate(moments()) if start <= at < end]
            values = [value for value in rows if value is not None and not math.isnan(value)]
            held[window] = np.array(values, float)
            key = ('visits', name, window)
            assert found['tfx_cassandra_feature_values', key] == len(values)
            assert found['tfx_cassandra_feature_missing_ratio', key] == pytest.approx(1 - len(values) / len(rows))
            assert found['tfx_cassandra_feature_mean', key] == pytest.approx(sum(values) / len(values))
            median = sorted(values)[len(values) // 2]
            assert found['tfx_cassandra_feature_quantile', (*key, '0.5')] == pytest.approx(median, abs=1)
        expected = drift(held['reference'], held['current'])
        key = ('visits', name)
        assert found['tfx_cassandra_feature_drift_psi', key] == pytest.approx(expected.psi)
        assert found['tfx_cassandra_feature_drift_ks', key] == pytest.approx(expected.ks)
        assert found['tfx_cassandra_feature_drift_mean', key] == pytest.approx(expected.mean)
    assert found['tfx_cassandra_feature_drift_psi', ('visits', 'spent')] > 1
    assert found['tfx_cassandra_feature_drift_psi', ('visits', 'items')] < 0.1
    # Texts have no drift, but an age and a share that is missing.
    newest = max(at for i, at in enumerate(moments()) if i < 5)
    key = ('visits', 'note')
    assert found['tfx_cassandra_feature_newest_timestamp_seconds', key] == int(newest.timestamp() * 1000) / 1000
    assert found['tfx_cassandra_feature_missing_ratio', (*key, 'current')] == 1.0
    assert ('tfx_cassandra_feature_drift_psi', key) not in found


def test_every_feature_of_the_feature_store_without_configuration(filled: CassandraConnection) -> None:
    views = stored(filled, None)
    assert [(view.name, view.features) for view in views] == [('m', ('a', 'b')), ('old', ('c',))]
    exporter = Exporter(filled, Monitoring(load=FAST), write=False)
    before = time.time()
    exporter.round()
    found = samples(exporter)
    newest = (NOW - 2 * MINUTE).timestamp()
    assert found['tfx_cassandra_feature_age_seconds', ('m', 'a')] == pytest.approx(before - newest, abs=60)
    assert found['tfx_cassandra_feature_age_seconds', ('old', 'c')] == math.inf
    assert found['tfx_cassandra_feature_values', ('old', 'c', 'current')] == 0
    assert ('tfx_cassandra_feature_missing_ratio', ('old', 'c', 'current')) not in found
    assert found['tfx_cassandra_feature_values', ('m', 'a', 'reference')] > 200
    assert found['tfx_cassandra_monitor_last_round_timestamp_seconds', ()] >= before


def test_rows_are_limited(filled: CassandraConnection) -> None:
    settings = Monitoring((WIDE,), current=HOUR, reference=12 * HOUR, load=Load(None, 300))
    with counted() as grown:
        found = {(m.metric.name, m.labels): m.value for m in measure(filled, settings, NOW)}
    assert found['tfx_cassandra_feature_values', ('visits', 'spent', 'reference')] == 300
    # Pages that were in flight when enough had been read are not counted, and not read to their end.
    assert grown['tfx_cassandra_read_rows_total', (f'{filled.keyspace}.visits',)] < SHOPS * STEPS
    assert ('tfx_cassandra_read_in_flight', ()) not in grown or grown['tfx_cassandra_read_in_flight', ()] <= 16


def test_rows_a_second_are_limited(filled: CassandraConnection) -> None:
    began = time.monotonic()
    measure(filled, Monitoring((WIDE,), current=HOUR, reference=12 * HOUR, load=Load(1000.0)), NOW)
    assert time.monotonic() - began > SHOPS * STEPS / 1000 / 2  # a lower bound: no load makes it shorter


def test_a_round_is_in_model_metrics(filled: CassandraConnection, session: Session) -> None:
    exporter = Exporter(filled, Monitoring((WIDE,), current=2 * HOUR, reference=12 * HOUR, load=FAST))
    exporter.round()
    found = samples(exporter)
    rows = list(session.execute(f'SELECT * FROM {filled.keyspace}.model_metrics'))
    stored_rows = {(row.model_id, row.metric_name): row for row in rows}
    expected = {(name, labels): value for (name, labels), value in found.items() if labels and math.isfinite(value)}
    assert len(rows) == len(expected)
    psi = stored_rows['visits', 'feature_drift_psi{feature=spent}']
    assert psi.value == found['tfx_cassandra_feature_drift_psi', ('visits', 'spent')]
    assert psi.tags == {'view': 'visits', 'feature': 'spent'}
    missing = stored_rows['visits', 'feature_missing_ratio{feature=items,window=current}']
    assert missing.value == found['tfx_cassandra_feature_missing_ratio', ('visits', 'items', 'current')]


@pytest.fixture(scope='module')
def served(filled: CassandraConnection) -> list[tuple[int, datetime.datetime, dict[str, float]]]:
    """Logged requests, of which every fifth served another `spent`, and every seventh no `items`."""
    requests = []
    with InferenceLogger(filled) as log:
        for n in range(70):
            shop, at = n % SHOPS, NOW - HOUR / 2 + n * MINUTE / 4
            features = {}
            spent, items = known(shop, at)
            if spent is not None:
                features['spent'] = spent + (1.5 if n % 5 == 0 else 0)
            if items is not None and n % 7:
                features['items'] = float(items)
            log.log('skewed', 0.5, unit=str(shop), timestamp=at, features=[features, {'unknown': 1.0}])
            requests.append((shop, at, features))
        log.log('skewed', 0.5, unit=None, timestamp=NOW - MINUTE, features=[{'spent': 1.0}])
        assert log.flush()
    return requests


def known(shop: int, at: datetime.datetime) -> tuple[float | None, float | None]:
    """What a training set holds for a shop and a time: the newest value of each feature that is not after it."""
    newest: list[float | None] = [None, None]
    for i, moment in enumerate(moments()):
        if moment <= at:
            for place, value in enumerate(visit(shop, i)[:2]):
                newest[place] = newest[place] if value is None else float(value)
    return newest[0], newest[1]


def training_set(folder: Path, requests: list) -> str:
    (folder / 'Split-train').mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / 'Split-train' / 'a.gz'), 'GZIP') as writer:
        for shop, at, _ in requests:
            example = tf.train.Example()
            feature = example.features.feature
            feature['shop'].int64_list.value.append(shop)
            feature['at'].int64_list.value.append(round(at.timestamp() * 1000))
            for name, value in zip(('spent', 'items'), known(shop, at), strict=True):
                if value is not None:
                    feature[name].float_list.value.append(value)
            writer.write(example.SerializeToString())
    return str(folder)


@pytest.mark.parametrize('written', [False, True], ids=['views', 'examples'])
def test_skew(filled: CassandraConnection, served: list, written: bool, tmp_path: Path) -> None:
    folder = training_set(tmp_path / 'examples', served) if written else None
    check = SkewCheck('skewed', {'shop': 'unit'}, training_set=folder, time='at')
    settings = Monitoring((WIDE,), (check,), current=HOUR, reference=HOUR, load=FAST)
    found = {(m.metric.name, m.labels): m.value for m in measure(filled, settings, NOW)}
    for place, name in enumerate(('spent', 'items')):
        pairs = [(features.get(name), known(shop, at)[place]) for shop, at, features in served]
        pairs = [(a, b) for a, b in pairs if (a, b) != (None, None)]
        differing = sum(a is None or b is None or (a != b and not math.isnan(a)) for a, b in pairs)
        assert differing > 5
        assert found['tfx_cassandra_skew_values', ('skewed', name)] == len(pairs)
        assert found['tfx_cassandra_skew_ratio', ('skewed', name)] == differing / len(pairs)
        both = [abs(a - b) for a, b in pairs if a is not None and b is not None and not math.isnan(a)]
        nan = sum(a is not None and math.isnan(a) for a, _ in pairs)
        difference = found['tfx_cassandra_skew_mean_difference', ('skewed', name)]
        assert difference == pytest.approx(sum(both) / (len(both) + nan))
    assert {labels[1] for name, labels in found if name == 'tfx_cassandra_skew_ratio'} == {'spent', 'items'}


def test_skew_of_no_view_is_one_line(filled: CassandraConnection) -> None:
    check = SkewCheck('skewed', {'house': 'unit'})
    with pytest.raises(ValueError, match=r'^skew.entity: got .*, rule: the entity columns of a view'):
        measure(filled, Monitoring((WIDE,), (check,), load=FAST), NOW)


def options(connection: CassandraConnection) -> list[str]:
    points = ','.join(connection.contact_points)
    return ['--contact-points', points, '--port', str(connection.port), '--keyspace', connection.keyspace]


def test_once_prints_a_round(filled: CassandraConnection, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    view = {'name': 'v', 'table': 'visits', 'entity_columns': ['shop'], 'timestamp_column': 'at', 'features': ['spent']}
    config = tmp_path / 'config.json'
    config.write_text(json.dumps({'views': [view]}))
    assert cli.main(['metrics', 'once', '--config', str(config), '--no-write', *options(filled)]) == 0
    found = parsed(capsys.readouterr().out)
    assert found['tfx_cassandra_feature_values', ('v', 'spent', 'reference')] > 100


def test_a_table_that_is_not_there_is_one_line(filled: CassandraConnection) -> None:
    view = FeatureView('v', 'nothing', ('shop',), 'at', ('spent',))
    with pytest.raises(SchemaError, match='nothing'):
        Exporter(filled, Monitoring((view,))).round()


@pytest.fixture(scope='module')
def serving(filled: CassandraConnection) -> Iterator[tuple[subprocess.Popen, str]]:
    command = [sys.executable, '-m', cli.__name__, 'metrics', 'serve', '--listen', '127.0.0.1:0', '--interval', '0.5']
    process = subprocess.Popen(
        [*command, '--no-write', *options(filled)], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stderr is not None
    line = process.stderr.readline().strip()
    assert line.startswith('serving http://127.0.0.1:'), line
    yield process, line.removeprefix('serving ')
    process.kill()
    process.wait()


def test_a_port_in_use_is_one_line(
    serving: tuple[subprocess.Popen, str], filled: CassandraConnection, capsys: pytest.CaptureFixture
) -> None:
    address = serving[1].removeprefix('http://').removesuffix('/metrics')
    assert cli.main(['metrics', 'serve', '--listen', address, '--no-write', *options(filled)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"tfx-cassandra: error: listen: got '{address}', rule: an address that is free (")
    assert '\n' not in error


def test_serve_answers_and_goes_on(serving: tuple[subprocess.Popen, str]) -> None:
    process, url = serving

    def last() -> Samples:
        with urllib.request.urlopen(url, timeout=10) as response:
            return parsed(response.read().decode())

    first = last()
    assert first['tfx_cassandra_feature_age_seconds', ('m', 'a')] > 0
    name = ('tfx_cassandra_monitor_last_round_timestamp_seconds', ())
    for _ in range(100):
        if last()[name] > first[name]:
            break
        time.sleep(0.2)
    else:
        pytest.fail('no second round')
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
