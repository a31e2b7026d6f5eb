"""The paths of fault_paths.py that are components of a pipeline, a loader, or files of the nodes."""

from __future__ import annotations

import collections
import datetime
import io
import pathlib
import shutil
import uuid
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import role_uses
import tensorflow as tf
from exec_properties import stored
from fault_place import MismatchError, Place, compare
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from tfx_cassandra.components import ABEvaluator, Arm, CassandraBackup, InferenceLogger, Metric, ModelRegistry
from tfx_cassandra.components.ab_evaluator.executor import Executor as AbExecutor
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.experiment.verdict_file import VERDICT_FILE
from tfx_cassandra.components.inference_log.logger import assign
from tfx_cassandra.components.pusher.config import to_properties
from tfx_cassandra.components.pusher.executor import Executor as PusherExecutor
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.components.window import TimeWindow

_TRIES = 3
_MODELS = 4  # pushed one after the other
_WEIGHTS = {'control': 0.5, 'treatment': 0.5}
_VERSIONS = {'control': '1700000000', 'treatment': '1700000001'}
_TEST_DAY = TimeWindow.parse('2025-06-01T00:00Z/2025-06-02T00:00Z')  # of which the inference log path writes nothing
_REQUESTS = 800


def until_done(place: Place, what: Callable[[], None]) -> None:
    """Does what may be repeated until it succeeds, once more after each fault; raises the first error all the same.

    Raises:
      MismatchError: It fails although the ring is whole.
    """
    first: TfxCassandraError | None = None
    for _ in range(_TRIES):
        try:
            what()
            break
        except TfxCassandraError as error:
            first = first or error
            place.ring.wait_whole()
    else:
        raise MismatchError(f'still fails when the ring is whole: {first}')
    if first is not None:
        raise first


def join(place: Place, seed: int) -> None:
    if place.training_set() != place.examples:
        raise MismatchError('the training set has other examples than without a fault')


def push(place: Place, seed: int) -> None:
    """Pushes of CassandraPusher: each model has one version, one row and one whole folder, and the alias the last."""
    experiment, serving = f'push{seed}', place.folder / f'serving-{seed}'
    models = [model(place.folder / f'model-{number}', number) for number in range(_MODELS)]
    error: TfxCassandraError | None = None
    versions: list[str] = []
    for one in models:
        try:
            until_done(place, lambda one=one: versions.append(pushed(place, experiment, serving, one)))
        except TfxCassandraError as failed:
            error = failed
    place.ring.wait_whole()
    with ModelRegistry(place.ring.straight) as registry:
        rows = {row.version: row for row in registry.list(experiment)}
        alias = registry.alias(experiment, 'champion')
    if len(rows) != _MODELS or sorted(rows) != sorted(versions):
        raise MismatchError(f'pushed {versions}, but rows are of {sorted(rows)}')
    if sorted(path.name for path in serving.iterdir()) != sorted(versions):
        raise MismatchError(f'pushed {versions}, but served are {sorted(path.name for path in serving.iterdir())}')
    for one, version in zip(models, versions, strict=True):
        if files(serving / version) != files(one / 'Format-Serving'):
            raise MismatchError(f'the files of version {version} are not those of its model')
    if alias is None or alias.version != versions[-1]:
        raise MismatchError(f'the alias points at {alias}, not at version {versions[-1]}')
    if error is not None:
        raise error


class Scale(tf.Module):
    """A model that multiplies."""

    def __init__(self, factor: float) -> None:
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.factor * x


def model(folder: pathlib.Path, number: int) -> pathlib.Path:
    if not folder.exists():
        tf.saved_model.save(Scale(number + 1.0), str(folder / 'Format-Serving'))
    return folder


def pushed(place: Place, experiment: str, serving: pathlib.Path, folder: pathlib.Path) -> str:
    """Pushes a model as TFX does; returns its version."""
    given, out = standard_artifacts.Model(), standard_artifacts.PushedModel()
    given.uri, out.uri = str(folder), str(place.folder / uuid.uuid4().hex)
    config = to_properties(
        place.ring.connection, 1000, experiment_id=experiment, model_id='scale', ab_test_group='B', alias='champion'
    )
    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(serving))
    executor = PusherExecutor(BaseExecutor.Context(pipeline_run_id=experiment, unique_id='7'))
    properties = stored({**config, 'push_destination': pusher_pb2.PushDestination(filesystem=filesystem)})
    executor.Do({'model': [given]}, {'pushed_model': [out]}, properties)
    return out.get_string_custom_property('pushed_version')


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def log_test(connection: CassandraConnection) -> None:
    """Logs a day of an A/B test."""
    with ModelRegistry(connection) as registry:
        for version in _VERSIONS.values():
            registry.record(ModelVersion('test', 'm', version, moment(int(version)), {'auc': 0.7}))
    with InferenceLogger(connection, 'test', consistency='QUORUM') as log:
        for n in range(_REQUESTS):
            arm, at = assign('test', f'unit {n}', _WEIGHTS), _TEST_DAY.start + datetime.timedelta(seconds=n)
            request = log.log('m', 0.5, version=_VERSIONS[arm], request_id=uuid.UUID(int=n), timestamp=at)
            log.log_outcome('m', request, 'late', float(n % (3 if arm == 'control' else 7) == 0), at)
        assert log.flush(60)
        assert log.counts.written == 2 * _REQUESTS


def evaluate(place: Place, seed: int) -> None:
    """The verdict of a test has the bytes that it had without a fault."""
    if place.verdict is None:
        log_test(place.ring.straight)
        place.verdict = verdict(place.ring.straight, place.folder / 'verdict')
    if verdict(place.ring.connection, place.folder / uuid.uuid4().hex) != place.verdict:
        raise MismatchError('the verdict is another one than without a fault')


def verdict(connection: CassandraConnection, folder: pathlib.Path) -> bytes:
    arms = [Arm(name, 'm', _VERSIONS[name], weight) for name, weight in _WEIGHTS.items()]
    component = ABEvaluator(
        connection, 'test', control=arms[0], treatments=arms[1:], window=_TEST_DAY, as_of=role_uses.NOON, shards=2,
        metrics=Metric('late', 'outcome:late', 'proportion', margin=0.1), splits=8, consistency='QUORUM',
    )  # fmt: skip
    artifact = AbVerdict()
    artifact.uri = str(folder)
    AbExecutor().Do({}, {'verdict': [artifact]}, dict(component.exec_properties))
    return (folder / VERDICT_FILE).read_bytes()


def load(place: Place, seed: int) -> None:
    """An epoch of CassandraIterableDataset: each acknowledged row once, by what torch gets, and by its own ledger."""
    from tfx_cassandra.components.torch_dataset import CassandraIterableDataset

    least = place.least
    dataset = CassandraIterableDataset(
        place.ring.connection, 'numbers', consistency='QUORUM', ranges=32, page_rows=500, batch_rows=256, seed=seed,
        shuffle_rows=1000,
    )  # fmt: skip
    counts: collections.Counter[tuple[int, int]] = collections.Counter()
    found: dict[tuple[int, int], str] = {}
    for batch in dataset:
        keys = list(zip(batch['k'].tolist(), batch['n'].tolist(), strict=True))
        counts.update(keys)
        found.update(zip(keys, batch['v'], strict=True))
    if doubled := [key for key, count in counts.items() if count > 1]:
        raise MismatchError(f'{len(doubled)} rows came twice, such as {doubled[0]}')
    compare(found, least, place.most)
    if dataset.coverage().delivered != len(found):
        raise MismatchError(f'{len(found)} rows came, but the ledger says {dataset.coverage()}')


def back_up(place: Place, seed: int) -> None:
    """A snapshot that `snapshot take` says was made has, read from its files, each row that was acknowledged before."""
    name, least = f's{seed}', place.least
    nodes = place.ring.cluster.ring
    hosts = ','.join(place.ring.connection.contact_points)
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(io.StringIO()):
        code = cli.main([
            'snapshot', 'take', name, '--contact-points', hosts, '--keyspace', 'faulty', '--table', 'numbers',
            '--nodetool', f'{place.nodetool} {{host}}', '--data', str(place.folder / '{host}'),
        ])  # fmt: skip
    try:
        if code:
            raise TfxCassandraError(errors.getvalue().strip().splitlines()[-1])
        backup = CassandraBackup(str(nodes[0].folder.parent), name, keyspace='faulty')
        compare(place.rows('numbers', backup), least, place.most)
    finally:
        for node in nodes:
            for folder in node.folder.glob(f'data/faulty/*/snapshots/{name}'):
                shutil.rmtree(folder)
