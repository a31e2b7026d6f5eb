"""What the status page shows in tests: versions, metrics, features and runs, some of them with hostile names."""

from __future__ import annotations

import datetime
import json
import math
import pathlib
from collections.abc import Sequence

from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.scan import ledger, ring
from tfx_cassandra.components.scan.area import Area

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
SCRIPT = '<script>window.hacked=1</script>'
HOSTILE = f'"><img src=x onerror=window.hacked=1>{SCRIPT}'
LONG = 'a-very-long-name-' * 30
FINGERPRINT = 'aa66b8ea09a9cf81a125719c3af64e496341e0a8ee657a4b93c53c66e6f99eef'
WINDOW = '2013-01-01T00:00:00+00:00/2013-03-01T00:00:00+00:00'


def version(experiment: str, model: str, number: int, **fields: object) -> ModelVersion:
    created = NOW - HOUR * (600 - number)
    return ModelVersion(experiment, model, str(1_700_000_000 + number), created, **fields)  # type: ignore[arg-type]


def fill_registry(connection: CassandraConnection) -> None:
    """Records an ordinary experiment, one with hostile names, and one with 500 versions."""
    with ModelRegistry(connection) as registry:
        for number in range(590, 600):
            metrics = {'auc': 0.7 + 0.01 * math.sin(number), 'loss': 0.5 - number / 1e4, 'auc{slice.carrier=AA}': 0.71}
            found = version(
                'flight-delay', 'late-arrival', number, metrics=metrics, digest='b' * 64, examples_window=WINDOW,
                model_uri='/srv/models/late-arrival/1', pipeline_run='flight-delay-20260101T000000',
                gates=('infra_blessing', 'model_blessing'), examples_fingerprint=FINGERPRINT,
            )  # fmt: skip
            registry.record(found)
        for number, verdict, difference in ((597, 'ship', 0.02), (598, 'hold', 0.001), (599, 'harm', -0.03)):
            statistics = {
                'difference': difference, 'low': difference - 0.01, 'high': difference + 0.01,
                'sequential_low': difference - 0.02, 'sequential_high': difference + 0.02,
            }  # fmt: skip
            registry.add_metrics(
                'flight-delay', 'late-arrival', str(1_700_000_000 + number),
                {f'clicks{{ab={name}}}': value for name, value in statistics.items()}, f'arm-{number}', verdict,
            )  # fmt: skip
        registry.promote('flight-delay', 'champion', 'late-arrival', '1700000597', reason='better')
        registry.promote('flight-delay', 'shadow', 'late-arrival', '1700000599')
        for model, number in ((HOSTILE, 1), (LONG, 2), ('модель-模型-🚀', 3)):
            hostile = version(
                HOSTILE, model, number, metrics={HOSTILE: 1.5, LONG: math.pi, 'tiny': 5e-324, 'huge': 1.7e308},
                digest=HOSTILE, examples_window=HOSTILE, model_uri=f'javascript:{SCRIPT}', pipeline_run=LONG,
                gates=(HOSTILE,), examples_fingerprint=HOSTILE, ab_test_group=LONG, evaluation_uri=HOSTILE,
            )  # fmt: skip
            registry.record(hostile)
        registry.promote(HOSTILE, HOSTILE, HOSTILE, '1700000001', reason=HOSTILE)


def fill_many(session: Session, keyspace: str, count: int = 500) -> None:
    """Inserts versions of one experiment, without the transactions that make a registry's inserts slow."""
    insert = session.prepare(
        f'INSERT INTO "{keyspace}".model_versions (experiment_id, created_at, model_id, version, metrics) '
        'VALUES (?, ?, ?, ?, ?)'
    )
    futures = [
        session.execute_async(insert, ('many', NOW - HOUR * number, f'model-{number % 7}', str(number), {'auc': 0.5}))
        for number in range(count)
    ]
    for future in futures:
        future.result()


def fill_tables(session: Session, keyspace: str) -> None:
    """Writes time series and features."""
    metric = session.prepare(
        f'INSERT INTO "{keyspace}".model_metrics (model_id, metric_name, timestamp, value) VALUES (?, ?, ?, ?)'
    )
    for name in ('feature_age_seconds{feature=temp}', 'brier{ab=value,experiment=flight-delay,arm=control}', HOSTILE):
        for step in range(48):
            session.execute(metric, ('late-arrival', name, NOW - HOUR * (48 - step), 0.2 + 0.01 * math.sin(step / 3)))
    session.execute(metric, ('late-arrival', 'never a number', NOW, math.nan))
    feature = session.prepare(
        f'INSERT INTO "{keyspace}".feature_store (model_id, feature_name, timestamp, value) VALUES (?, ?, ?, ?)'
    )
    for hours, name in ((1, 'temp'), (2, 'wind_speed'), (900, HOSTILE), (3, LONG)):
        for step in range(5):
            session.execute(feature, ('JFK', name, NOW - HOUR * (hours + step), 1.0 + step))
    session.execute(f'CREATE TABLE "{keyspace}".visits (shop text, at timestamp, spent double, items int, '
                    'PRIMARY KEY (shop, at))')  # fmt: skip
    visit = session.prepare(f'INSERT INTO "{keyspace}".visits (shop, at, spent, items) VALUES (?, ?, ?, ?)')
    for shop in range(20):
        for step in range(1, 4):
            session.execute(
                visit, (f'shop-{shop}', NOW - HOUR * step * (shop + 1), 1.5 * step, None if shop < 5 else 3)
            )


def coverage(splits: int = 26, gap: bool = False, rows: int = 1900) -> dict[str, object]:
    """Returns the JSON of a ledger, by the ledger's own code; with a gap, one range is taken out of it."""
    reads = [
        ledger.RangeRead(Area(tokens), rows=rows + 7 * i, bytes=65_000, pages=1, checksum=i, coordinator='127.0.0.1')
        for i, tokens in enumerate(ring.RING.split(splits))
    ]
    content = ledger.verified(reads).as_json()
    if gap:
        del content['reads'][5]
    return {'table': 'ml_features.flights', 'plan': 'scan', 'cql': 'SELECT', 'fingerprint': FINGERPRINT, **content}


def write_runs(folder: pathlib.Path) -> None:
    """Writes the summaries of three runs: one that succeeded, one whose ledger has a gap, and one that is torn."""
    tasks = {
        'CassandraExampleGen': ('SUCCEEDED', ''),
        'Trainer': ('SUCCEEDED', ''),
        'CassandraPusher': ('FAILED', f'RegistryError: {HOSTILE}'),
    }
    for name, state, gap in (
        ('flight-delay-20260102T000000', 'SUCCEEDED', False),
        ('broken-20260101T000000', 'FAILED', True),
    ):
        examples = folder / name / 'examples'
        examples.mkdir(parents=True)
        view = {**coverage(splits=2000), 'table': 'ml_features.feature_store'}
        keys = {**coverage(), 'table': 'ml_features.planes', 'reads': _by_key((5, -(2**62), 2**62))}
        content = {'window': WINDOW, **coverage(gap=gap), 'views': {'weather': view, 'planes': keys}}
        content |= {'examples': {'train': 33_000, 'eval': 16_400}}
        (examples / 'coverage.json').write_text(json.dumps(content))
        artifact = {'uri': str(examples), 'metadata': {'fingerprint': FINGERPRINT}}
        summary = {
            'run': name, 'state': state, 'started': (NOW - 2 * HOUR).isoformat(), 'ended': (NOW - HOUR).isoformat(),
            'tasks': {
                task: {
                    'state': found, 'error': error, 'seconds': 12.5 * i, 'attempts': 1, 'ended': f'2026-01-0{i + 1}',
                    'outputs': {'artifacts': {'examples': [artifact]} if not i else {}, 'parameters': {}},
                }
                for i, (task, (found, error)) in enumerate(tasks.items()) if state == 'FAILED' or i < 2
            },
        }  # fmt: skip
        (folder / name / 'summary.json').write_text(json.dumps(summary))
    (folder / 'torn').mkdir()
    (folder / 'torn' / 'summary.json').write_text('{"run": ')


def _by_key(tokens: Sequence[int]) -> list[dict[str, object]]:
    reads = [ledger.RangeRead(Area(ring.TokenRange(token - 1, token)), rows=3) for token in sorted(tokens)]
    return [read.as_json() for read in reads]
