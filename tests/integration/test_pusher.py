"""CassandraPusher's executor on a real node, with a real SavedModel: gates, reruns, crashes, a whole run by TFX."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from cassandra.cluster import Session
from counted import counted
from exec_properties import stored
from google.protobuf import json_format
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_slice_metrics_to_proto
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2
from tfx.types import Artifact, standard_artifacts

from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError, SchemaError, UnavailableError
from tfx_cassandra.components.pusher.component import CassandraPusher
from tfx_cassandra.components.pusher.config import to_properties
from tfx_cassandra.components.pusher.executor import Executor
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.publish import content_digest
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration


class Scale(tf.Module):
    def __init__(self, factor: float) -> None:
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.factor * x


def artifact(kind: type[Artifact], uri: pathlib.Path, **properties: Any) -> Artifact:
    made = kind()
    made.uri = str(uri)
    for name, value in properties.items():
        (made.set_int_custom_property if isinstance(value, int) else made.set_string_custom_property)(name, value)
    return made


@dataclasses.dataclass(frozen=True)
class Push:
    """One push into a serving directory of its own; `run` may be called again and again."""

    folder: pathlib.Path
    connection: CassandraConnection
    experiment: str
    alias: str | None = None
    serving: str = 'serving'
    remote: str | None = None

    @property
    def base(self) -> pathlib.Path:
        return self.folder / self.serving

    def model(self, factor: float) -> Artifact:
        uri = self.folder / f'model {factor}'
        if not uri.exists():
            tf.saved_model.save(Scale(factor), str(uri / 'Format-Serving'))
        return artifact(standard_artifacts.Model, uri)

    def properties(self) -> dict[str, str]:
        filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=self.remote or str(self.base))
        config = to_properties(
            self.connection, 1000, experiment_id=self.experiment, model_id='scale', ab_test_group='B', alias=self.alias
        )
        return stored({**config, 'push_destination': pusher_pb2.PushDestination(filesystem=filesystem)})

    def run(self, factor: float = 2.0, run: str = 'run-1', **inputs: Artifact) -> Artifact:
        pushed = artifact(standard_artifacts.PushedModel, self.folder / 'pushed')
        given = {'model': [self.model(factor)], **{name: [item] for name, item in inputs.items()}}
        executor = Executor(BaseExecutor.Context(pipeline_run_id=run, unique_id='7'))
        executor.Do(given, {'pushed_model': [pushed]}, self.properties())
        return pushed

    def rows(self) -> tuple[ModelVersion, ...]:
        with ModelRegistry(self.connection) as registry:
            return registry.list(self.experiment)


@pytest.fixture
def push(connection: CassandraConnection, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Push:
    return Push(tmp_path, connection, request.node.name)


def served(directory: pathlib.Path) -> float:
    return float(tf.saved_model.load(str(directory))(21.0))


def files(directory: pathlib.Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob('*') if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def evaluation(directory: pathlib.Path) -> Artifact:
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / 'metrics-00000-of-00001.tfrecord')) as writer:
        metrics = {MetricKey('auc'): 0.75, MetricKey('example_count'): 5.0}
        writer.write(convert_slice_metrics_to_proto(((), metrics), None).SerializeToString())
    config = {'version': tfma.VERSION_STRING, 'evalConfig': {'modelSpecs': [{}]}}
    (directory / 'eval_config.json').write_text(json.dumps(config))
    return artifact(standard_artifacts.ModelEvaluation, directory)


EXAMPLES = {'fingerprint': 'f00d', 'window': '2013-01/2013-02', 'backup_name': 'nightly', 'backup_digest': 'd16e57'}


def test_a_blessed_model_is_served_and_recorded(push: Push, session: Session) -> None:
    pushed = push.run(
        model_blessing=artifact(standard_artifacts.ModelBlessing, push.folder, blessed=1),
        infra_blessing=artifact(standard_artifacts.InfraBlessing, push.folder, blessed=1),
        evaluation=evaluation(push.folder / 'evaluation'),
        examples=artifact(standard_artifacts.Examples, push.folder, **EXAMPLES),
    )
    version = pushed.get_string_custom_property('pushed_version')
    directory = push.base / version
    assert os.listdir(push.base) == [version]
    assert served(directory) == served(push.folder / 'pushed') == 42.0
    assert pushed.get_int_custom_property('pushed') == 1
    assert pushed.get_string_custom_property('pushed_destination') == str(directory)
    assert pushed.get_string_custom_property('experiment_id') == push.experiment
    assert pushed.get_string_custom_property('model_id') == 'scale'
    assert pushed.get_string_custom_property('created_at') == moment(int(version)).isoformat()

    cql = f'SELECT * FROM "{push.connection.keyspace}".model_versions WHERE experiment_id = %s'
    (row,) = session.execute(cql, (push.experiment,))
    assert row._asdict() == {
        'experiment_id': push.experiment,
        'model_id': 'scale',
        'version': version,
        'created_at': moment(int(version)).replace(tzinfo=None),
        'metrics': {'auc': 0.75, 'example_count': 5.0},
        'ab_test_group': 'B',
        'digest': content_digest(str(directory)),
        'model_uri': str(directory),
        'pipeline_run': 'run-1',
        'examples_fingerprint': 'f00d',
        'examples_window': '2013-01/2013-02',
        'examples_backup': 'nightly@d16e57',
        'gates': {'infra_blessing', 'model_blessing'},
        'evaluation_uri': str(push.folder / 'evaluation'),
        'verdict': None,
    }


def test_a_rerun_leaves_one_row_and_one_directory(push: Push) -> None:
    with counted() as grown:
        first = push.run()
        before = files(push.base)
        again = push.run(run='run-2')
    assert grown['tfx_cassandra_pushes_total', ('pushed',)] == 2
    assert grown['tfx_cassandra_push_seconds_count', ()] == 2
    assert again.mlmd_artifact == first.mlmd_artifact
    assert files(push.base) == before
    (row,) = push.rows()
    assert (row.pipeline_run, row.metrics, row.examples_fingerprint) == ('run-1', {}, None)


def test_a_model_goes_to_a_file_system_that_cannot_rename_directories(push: Push) -> None:
    remote = dataclasses.replace(push, remote=f'ram://{uuid.uuid4().hex}/serving')
    version = remote.run().get_string_custom_property('pushed_version')
    assert remote.run(run='run-2').get_string_custom_property('pushed_version') == version
    (row,) = push.rows()
    assert (row.version, row.model_uri, row.pipeline_run) == (version, f'{remote.remote}/{version}', 'run-1')
    assert content_digest(str(row.model_uri)) == row.digest
    assert [str(name).rstrip('/') for name in fileio.listdir(remote.remote)] == [version]
    assert float(tf.saved_model.load(str(row.model_uri))(21.0)) == 42.0


def test_another_model_gets_a_later_version_and_the_first_keeps_its_own(push: Push) -> None:
    versions = [push.run(factor).get_string_custom_property('pushed_version') for factor in (2.0, 3.0, 2.0)]
    assert int(versions[1]) > int(versions[0]) == int(versions[2])
    assert [row.version for row in push.rows()] == [versions[1], versions[0]]
    assert [served(push.base / version) for version in versions] == [42.0, 63.0, 42.0]


@pytest.mark.parametrize(
    ('name', 'kind'),
    [('model_blessing', standard_artifacts.ModelBlessing), ('infra_blessing', standard_artifacts.InfraBlessing)],
)
def test_a_model_that_is_not_blessed_leaves_no_trace(name: str, kind: type[Artifact], push: Push) -> None:
    # Not even a cluster is needed to refuse a model.
    nowhere = dataclasses.replace(push, connection=CassandraConnection(port=9))
    pushed = nowhere.run(**{name: artifact(kind, push.folder, blessed=0)})
    assert pushed.get_int_custom_property('pushed') == 0
    assert not pushed.has_custom_property('pushed_version')
    assert not push.base.exists()
    assert push.rows() == ()


def verdict(push: Push, says: str, version: str, experiment: str | None = None, model: str = 'scale') -> Artifact:
    """An A/B test's verdict on one version, as ABEvaluator writes it."""
    uri = push.folder / f'verdict {says} {version} {experiment} {model}'
    uri.mkdir()
    treatment = cassandra_pb2.ArmResult(arm='B', model_id=model, version=version, verdict=says)
    control = cassandra_pb2.ArmResult(arm='A', model_id=model, version='1')
    found = cassandra_pb2.Verdict(experiment_id=experiment or push.experiment, control=control, treatments=[treatment])
    (uri / 'verdict.json').write_text(json_format.MessageToJson(found, preserving_proto_field_name=True))
    return artifact(AbVerdict, uri)


def elsewhere(push: Push) -> Push:
    """The same pushes into another serving directory, as from the canary to production."""
    return dataclasses.replace(push, serving='production', alias='champion')


@pytest.mark.parametrize('says', ['ship', 'hold', 'invalid'])
def test_a_model_that_did_no_harm_is_pushed_and_one_that_won_is_named(says: str, push: Push) -> None:
    version = push.run().get_string_custom_property('pushed_version')
    production = elsewhere(push)
    pushed = production.run(verdict=verdict(push, says, version))
    assert pushed.get_string_custom_property('pushed_version') == version
    assert os.listdir(production.base) == [version]
    assert [row.version for row in push.rows()] == [version]
    with ModelRegistry(push.connection) as registry:
        named = [(move.alias, move.version, move.reason) for move in registry.aliases(push.experiment)]
    assert named == ([('champion', version, 'pushed by run-1')] if says == 'ship' else [])


def test_a_model_that_did_harm_leaves_no_trace(push: Push) -> None:
    version = push.run().get_string_custom_property('pushed_version')
    production = elsewhere(push)
    rows = push.rows()
    pushed = production.run(verdict=verdict(push, 'harm', version))
    assert pushed.get_int_custom_property('pushed') == 0
    assert not production.base.exists()
    assert push.rows() == rows


def test_of_several_versions_that_were_tested_the_pushed_one_counts(push: Push) -> None:
    bad, good = (push.run(factor).get_string_custom_property('pushed_version') for factor in (2.0, 3.0))
    both = verdict(push, 'harm', bad)
    found = json.loads((pathlib.Path(both.uri) / 'verdict.json').read_text())
    found['treatments'].append({'model_id': 'scale', 'version': good, 'verdict': 'ship'})
    (pathlib.Path(both.uri) / 'verdict.json').write_text(json.dumps(found))
    production = elsewhere(push)
    assert production.run(2.0, verdict=both).get_int_custom_property('pushed') == 0
    assert production.run(3.0, verdict=both).get_string_custom_property('pushed_version') == good
    assert os.listdir(production.base) == [good]


@pytest.mark.parametrize(
    ('says', 'others', 'message'),
    [
        ('ship', {'experiment': 'other'}, "got one of experiment 'other', rule: of "),
        ('harm', {'experiment': 'other'}, "got one of experiment 'other', rule: of "),
        ('ship', {'model': 'rival'}, "got one on 'rival', rule: on model 'scale'"),
        ('ship', {'version': '17'}, r"got one on version 17, rule: on what is pushed, which is version \d+ of 'scale'"),
        ('harm', {'version': '17'}, r"got one on version 17, rule: on what is pushed, which is version \d+ of 'scale'"),
        ('maybe', {}, "got '.*verdict.json', rule: JSON .* 'maybe' is not one of ship, hold, harm, invalid"),
    ],
)
def test_a_verdict_on_something_else_is_an_error(says: str, others: dict, message: str, push: Push) -> None:
    version = push.run().get_string_custom_property('pushed_version')
    production = elsewhere(push)
    with pytest.raises(RegistryError, match=f'^verdict: {message}') as caught:
        production.run(verdict=verdict(push, says, **{'version': version, **others}))
    assert '\n' not in str(caught.value)
    assert not production.base.exists()


@pytest.mark.parametrize('says', ['ship', 'harm'])
def test_a_verdict_cannot_be_on_a_model_that_was_never_served(says: str, push: Push) -> None:
    with pytest.raises(RegistryError, match=r'^verdict: got one on version 17, rule: .* a model without a version'):
        push.run(verdict=verdict(push, says, '17'))
    assert push.rows() == ()


@pytest.mark.parametrize(
    'text', [None, '', '{', '[]', '{"experiment_id": "e"}', '{"experiment_id": "e", "treatments": [{}]}']
)
def test_a_file_that_is_no_verdict_is_one_line(text: str | None, push: Push) -> None:
    given = artifact(AbVerdict, push.folder)
    if text is not None:
        (push.folder / 'verdict.json').write_text(text)
    with pytest.raises(
        RegistryError, match=r"^verdict: got '.*', rule: (JSON with|a directory that holds verdict.json)"
    ) as caught:
        push.run(verdict=given)
    assert '\n' not in str(caught.value)


def test_an_alias_follows_the_pushes_and_a_rerun_does_not_move_it_back(push: Push) -> None:
    push = dataclasses.replace(push, alias='champion')
    first, second = (push.run(factor).get_string_custom_property('pushed_version') for factor in (2.0, 3.0))
    push.run(2.0)
    with ModelRegistry(push.connection) as registry:
        assert [move.version for move in registry.history(push.experiment, 'champion')] == [second, first]
        registry.rollback(push.experiment, 'champion')
        push.run(3.0)
        standing = registry.alias(push.experiment, 'champion')
    assert standing is not None
    assert standing.version == first


def without_cluster(push: Push) -> Push:
    return dataclasses.replace(push, connection=CassandraConnection(port=9, connect_timeout=2))


def without_schema(push: Push) -> Push:
    return dataclasses.replace(push, connection=dataclasses.replace(push.connection, keyspace='no_such_keyspace'))


@pytest.mark.parametrize(
    ('broken', 'error'), [(without_cluster, UnavailableError), (without_schema, SchemaError)], ids=['cluster', 'schema']
)
def test_nothing_is_copied_where_nothing_can_be_recorded(broken: Any, error: type[Exception], push: Push) -> None:
    with counted() as grown, pytest.raises(error) as caught:
        broken(push).run()
    assert grown['tfx_cassandra_pushes_total', ('failed',)] == 1
    assert '\n' not in str(caught.value)
    assert not push.base.exists()
    assert not (push.folder / 'pushed').exists()


def test_a_higher_number_that_nobody_pushed_is_told(push: Push, caplog: pytest.LogCaptureFixture) -> None:
    versions = [push.run(factor).get_string_custom_property('pushed_version') for factor in (2.0, 3.0)]
    assert not push.run(2.0).has_custom_property('higher_versions')
    assert 'TensorFlow Serving' not in caplog.text
    for name in ('20260101120000', versions[0] + '0', '7'):
        (push.base / name).mkdir()
    with caplog.at_level('WARNING', logger='absl'):
        pushed = push.run(2.0)
    assert pushed.get_string_custom_property('pushed_version') == versions[0]
    assert pushed.get_string_custom_property('higher_versions') == f'{versions[0]}0, 20260101120000'
    assert f'TensorFlow Serving goes on serving version 20260101120000 in {push.base}' in caplog.text
    assert push.run(3.0).has_custom_property('higher_versions')


def test_a_file_that_cannot_be_copied_is_told_before_anything_is_claimed(push: Push, session: Session) -> None:
    os.mkfifo(pathlib.Path(push.model(2.0).uri) / 'Format-Serving' / 'pipe')
    with pytest.raises(RegistryError, match=r"^model: got '.*/pipe', rule: a regular file or a directory, but a FIFO"):
        push.run(2.0)
    cql = f'SELECT * FROM "{push.connection.keyspace}".model_claims WHERE experiment_id = %s AND model_id = %s'
    assert not push.base.exists()
    assert list(session.execute(cql, (push.experiment, 'scale'))) == []


def test_an_evaluation_without_metrics_is_told_before_anything_is_claimed(push: Push, session: Session) -> None:
    (push.folder / 'evaluation').mkdir()
    with pytest.raises(RegistryError, match=r'^evaluation: got'):
        push.run(evaluation=artifact(standard_artifacts.ModelEvaluation, push.folder / 'evaluation'))
    cql = f'SELECT * FROM "{push.connection.keyspace}".model_claims WHERE experiment_id = %s AND model_id = %s'
    assert not push.base.exists()
    assert list(session.execute(cql, (push.experiment, 'scale'))) == []


# Imports TFX once, then forks one pusher per step, which kills itself there as SIGKILL does: nothing is cleaned up.
KILLED = """
import json, os, signal, sys
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import standard_artifacts
from tfx_cassandra.components.pusher import executor
from tfx_cassandra.components.registry import publish
from tfx_cassandra.components.registry.registry import ModelRegistry

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, calls=1):
    original, made = getattr(owner, name), []
    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        made.append(name)
        if len(made) == calls:
            die()
        return result
    setattr(owner, name, wrapped)

STEPS = {
    'claim': lambda: after(ModelRegistry, 'claim'),
    'half copy': lambda: after(publish.fileio, 'copy', calls=2),
    'copy': lambda: after(publish.io_utils, 'copy_dir'),
    'rename': lambda: after(publish.fileio, 'rename'),
    'before record': lambda: setattr(ModelRegistry, 'record', die),
    'record': lambda: after(ModelRegistry, 'record'),
    'before alias': lambda: setattr(ModelRegistry, 'advance', die),
    'alias': lambda: after(ModelRegistry, 'advance'),
    'archive': lambda: after(publish.io_utils, 'copy_dir', calls=2),
}
for step, (uri, pushed_uri, properties) in json.load(sys.stdin).items():
    pid = os.fork()
    if pid == 0:
        STEPS[step]()
        model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
        model.uri, pushed.uri = uri, pushed_uri
        context = BaseExecutor.Context(pipeline_run_id='killed')
        executor.Executor(context).Do({'model': [model]}, {'pushed_model': [pushed]}, properties)
        os._exit(0)
    print(json.dumps([step, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]), flush=True)
"""

# step -> what the dead run leaves: a temporary directory, the version's directory, the row
LEFT = {
    'claim': (False, False, False),
    'half copy': (True, False, False),
    'copy': (True, False, False),
    'rename': (False, True, False),
    'before record': (False, True, False),
    'record': (False, True, True),
    'before alias': (False, True, True),
    'alias': (False, True, True),
    'archive': (False, True, True),
}


def test_a_run_killed_at_any_step_is_completed_by_the_next(push: Push) -> None:
    model = push.model(2.0)
    whole = files(pathlib.Path(model.uri) / 'Format-Serving')
    pushes = {
        step: dataclasses.replace(push, folder=push.folder / step, experiment=f'{push.experiment} {step}', alias='live')
        for step in LEFT
    }
    orders = {step: (model.uri, str(each.folder / 'pushed'), each.properties()) for step, each in pushes.items()}
    killed = subprocess.run(
        [sys.executable, '-c', KILLED], input=json.dumps(orders), capture_output=True, text=True, timeout=300
    )
    outcomes = dict(map(json.loads, killed.stdout.splitlines()))
    assert outcomes == dict.fromkeys(LEFT, -signal.SIGKILL), killed.stderr[-2000:]

    for step, each in pushes.items():
        found = os.listdir(each.base) if each.base.exists() else []
        left = (any(not name.isdigit() for name in found), any(map(str.isdigit, found)), bool(each.rows()))
        assert left == LEFT[step], step
        each.folder.mkdir(exist_ok=True)
        os.symlink(model.uri, each.folder / 'model 2.0')
        version = each.run(run='next').get_string_custom_property('pushed_version')
        assert os.listdir(each.base) == [version], step
        assert files(each.base / version) == whole, step
        (row,) = each.rows()
        assert (row.version, row.model_uri) == (version, str(each.base / version)), step
        assert row.pipeline_run == ('killed' if LEFT[step][2] else 'next'), step
        with ModelRegistry(push.connection) as registry:
            assert [move.version for move in registry.history(each.experiment, 'live')] == [version], step


def test_tfx_runs_the_component_and_keeps_the_artifact(push: Push) -> None:
    model = Importer(source_uri=push.model(2.0).uri, artifact_type=standard_artifacts.Model).with_id('model')
    blessing = Importer(
        source_uri=str(push.folder), artifact_type=standard_artifacts.ModelBlessing, custom_properties={'blessed': 1}
    ).with_id('blessing')
    pusher = CassandraPusher(
        model=model.outputs['result'],
        model_blessing=blessing.outputs['result'],
        connection=push.connection,
        experiment_id=push.experiment,
        model_id='scale',
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(push.base))
        ),
    )
    store = metadata.sqlite_metadata_connection_config(str(push.folder / 'metadata.db'))
    LocalDagRunner().run(
        Pipeline(
            'push', str(push.folder / 'root'), components=[model, blessing, pusher], metadata_connection_config=store
        )
    )
    (row,) = push.rows()
    assert served(push.base / row.version) == 42.0
    assert row.pipeline_run
    with metadata.Metadata(store) as handle:
        (pushed,) = handle.store.get_artifacts_by_type('PushedModel')
    properties = {name: value.string_value for name, value in pushed.custom_properties.items()}
    assert properties['pushed_version'] == row.version
    assert properties['created_at'] == row.created_at.isoformat()
    assert served(pathlib.Path(pushed.uri)) == 42.0
