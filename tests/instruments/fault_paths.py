"""What is done while a node fails, and the model that its result is compared with.

A path is a function of a Place and a seed. It raises what the package raises, and MismatchError where the package said
that all is well while a row is missing, doubled, or another one than was written.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import io
import json
import threading
import uuid
from collections.abc import Callable

import apache_beam as beam
import role_uses
from apache_beam.testing.test_pipeline import TestPipeline
from fault_components import back_up, evaluate, join, load, push
from fault_place import MismatchError, Place, compare, value_of
from scans import read_batches, rows_of

from tfx_cassandra.components import FeatureStore, InferenceLogger, ModelRegistry, WriteToCassandra
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.registry.registry import ModelVersion

_DAY = datetime.timedelta(days=1)


def read(place: Place, seed: int) -> None:
    least = place.least
    compare(place.rows('numbers', place.ring.connection, page_rows=500), least, place.most)


def write(place: Place, seed: int) -> None:
    keys = [(n % 50, seed * 10_000 + n) for n in range(3000)]
    failed = place.folder / f'failed-{seed}'
    rows = [{'k': k, 'n': n, 'v': value_of(k, n)} for k, n in keys]
    with TestPipeline() as pipeline:
        writing = WriteToCassandra(place.ring.connection, 'written', consistency='QUORUM', max_errors=len(rows))
        result = pipeline | beam.Create(rows) | writing
        _ = (
            result.failed
            | beam.Map(lambda row: json.dumps([row.row['k'], row.row['n']]))
            | beam.io.WriteToText(str(failed))
        )
    refused = {tuple(json.loads(line)) for path in failed.parent.glob(f'{failed.name}-*') for line in path.open()}
    place.ring.wait_whole()
    found = {key: v for key, v in place.rows('written').items() if key[1] // 10_000 == seed}
    compare(found, set(keys) - refused, set(keys))
    if refused:
        raise TfxCassandraError(f'{len(refused)} rows named as failed')


def ingest(place: Place, seed: int) -> None:
    keys = [(n % 50, seed * 10_000 + n) for n in range(3000)]
    file, checkpoint = place.folder / f'{seed}.jsonl', place.folder / f'{seed}.checkpoint'
    file.write_text(''.join(json.dumps({'k': k, 'n': n, 'v': value_of(k, n)}) + '\n' for k, n in keys))
    connection = place.ring.connection
    where = ['--contact-points', ','.join(connection.contact_points), '--keyspace', 'faulty']
    arguments = ['ingest', 'ingested', file, '--checkpoint', checkpoint, '--max-errors', 0, *where]
    said = ''
    for _ in range(2):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main([str(argument) for argument in arguments])
        if code == 0:
            break
        said = errors.getvalue().strip().splitlines()[-1]
        place.ring.wait_whole()
    if code:
        raise MismatchError(f'ingest did not end after the fault: {said}')
    place.ring.wait_whole()
    found = {key: v for key, v in place.rows('ingested').items() if key[1] // 10_000 == seed}
    compare(found, set(keys), set(keys))
    if said:
        raise TfxCassandraError(said)


def register(place: Place, seed: int) -> None:
    """Pushes of three threads: each acknowledged version has one row, and the alias moved once for each promotion."""
    experiment, recorded, errors = f'e{seed}', [], []

    def push(number: int) -> None:
        with ModelRegistry(place.ring.connection) as registry:
            for round_ in range(3):
                try:
                    claim = registry.claim(experiment, 'm', f'{number}-{round_}')
                    version = ModelVersion(experiment, 'm', str(claim.version), claim.created_at, {'auc': 0.5})
                    registry.record(version)
                    recorded.append(version.version)
                    registry.promote(experiment, 'champion', 'm', version.version)
                except TfxCassandraError as error:
                    errors.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.ring.wait_whole()
    with ModelRegistry(place.ring.straight) as registry:
        rows = collections.Counter(version.version for version in registry.list(experiment))
        moves = registry.history(experiment, 'champion')
        current = registry.alias(experiment, 'champion')
    if missing := set(recorded) - set(rows):
        raise MismatchError(f'recorded versions are missing: {sorted(missing)}')
    if [version for version, count in rows.items() if count > 1] or len(recorded) != len(set(recorded)):
        raise MismatchError('a version has two rows')
    if moves and (current is None or current.version != moves[0].version):
        raise MismatchError('the alias does not point where its last move went')
    if errors:
        raise errors[0]


def serve(place: Place, seed: int) -> None:
    """Features that were acknowledged are read back, at QUORUM both."""
    model, acknowledged = f'm{seed}', {}
    with FeatureStore(place.ring.connection) as store:
        failure: TfxCassandraError | None = None
        for n in range(150):
            try:
                store.write_feature(model, f'f{n % 10}', float(n), role_uses.NOON + n * _DAY, consistency='QUORUM')
                acknowledged[f'f{n % 10}', n] = float(n)
            except TfxCassandraError as error:
                failure = error
            try:
                found = store.get_latest_feature(model, f'f{n % 10}', consistency='QUORUM')
            except TfxCassandraError as error:
                failure = error
                continue
            newest = max((m for f, m in acknowledged if f == f'f{n % 10}'), default=None)
            if newest is not None and (found is None or found.value < newest or found.value > n):
                raise MismatchError(f'f{n % 10}: got {found}, but {newest} was acknowledged')
    if failure is not None:
        raise failure


def log(place: Place, seed: int) -> None:
    """What the logger counts as written is there; the rest it counts as failed or dropped."""
    experiment = f'log{seed}'
    with InferenceLogger(place.ring.connection, experiment, consistency='QUORUM') as logger:
        for n in range(2000):
            at = role_uses.NOON + datetime.timedelta(seconds=n)
            logger.log('m', 0.5, request_id=uuid.UUID(int=seed << 32 | n), timestamp=at, unit=str(n))
        logger.flush(90)
        counts = logger.counts
    if counts.accepted + counts.dropped != 2000 or counts.written + counts.failed > counts.accepted:
        raise MismatchError(f'the counts do not add up: {counts}')
    place.ring.wait_whole()
    columns = ['model_id', 'timestamp', 'request_id', 'experiment_id']
    batches = read_batches(place.ring.straight, 'inference_results', columns=columns, consistency='QUORUM')
    found = [row for batch in batches for row in rows_of(batch) if row[3] == experiment]
    if len(found) != len(set(found)) or not counts.written <= len(found) <= counts.accepted:
        raise MismatchError(f'{len(found)} rows are there, {len(set(found))} of them different, but {counts}')
    if counts.failed or counts.dropped:
        raise TfxCassandraError(f'counted as not written: {counts}')


PATHS: dict[str, Callable[[Place, int], None]] = {
    'read': read,
    'join': join,
    'write': write,
    'ingest': ingest,
    'registry': register,
    'pusher': push,
    'A/B run': evaluate,
    'feature store': serve,
    'inference log': log,
    'torch loader': load,
    'snapshot': back_up,
}
