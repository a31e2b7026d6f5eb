"""The entry point of containers, fed with ExecutorInputs as Kubeflow and Vertex write them, one a quirk."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from tfx.types import artifact_utils, standard_artifacts

from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.kubeflow import artifacts, entrypoint, launcher

MODEL = {'instanceSchema': 'title: tfx.Model\ntype: object\n'}
EXAMPLES = {
    'instanceSchema': 'title: tfx.Examples\ntype: object\nproperties:\n  span:\n    type: integer\n  version:\n'
    '    type: integer\n  split_names:\n    type: string\n'
}
CLASSES = {
    'examples': 'tfx.types.standard_artifacts.Examples', 'model': 'tfx.types.standard_artifacts.Model',
    'blessing': 'tfx.types.standard_artifacts.ModelBlessing',
}  # fmt: skip


def execution(folder: pathlib.Path, **inputs: Any) -> dict[str, Any]:
    """An ExecutorInput with one output, `model`."""
    model = {'name': 'projects/1/artifacts/9', 'uri': str(folder / 'model'), 'type': MODEL}
    return {
        'inputs': inputs,
        'outputs': {
            'outputFile': str(folder / 'out' / 'executor_output.json'),
            'artifacts': {'model': {'artifacts': [model]}},
        },
    }


def run(message: dict[str, Any], executor: str = 'Echo', *more: str, classes: Any = CLASSES) -> int:
    return entrypoint.main([
        '--component', 'Step', '--executor_class_path', f'step_executors.{executor}',
        '--json_serialized_invocation_args', json.dumps(message), '--artifact_classes', json.dumps(classes), *more,
    ])  # fmt: skip


def given(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / 'model' / 'Format-Serving' / 'given.json').read_text())


def output(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / 'out' / 'executor_output.json').read_text())


@pytest.mark.parametrize(
    'kind',
    [
        EXAMPLES,  # Vertex
        {'schemaTitle': 'system.Dataset'},  # open-source Kubeflow: the nearest type of its own
        {'schemaTitle': 'system.Artifact', 'schemaVersion': '0.0.1'},
        {'instanceSchema': ''},  # open-source Kubeflow: resolved from its metadata, without the schema
        {},
        None,
    ],
)
def test_the_class_of_an_artifact_is_the_declared_one(kind: Any, tmp_path: pathlib.Path) -> None:
    examples = {'name': '7', 'uri': '/data/examples', 'metadata': {'span': 3.0, 'split_names': '["train"]'}}
    if kind is not None:
        examples['type'] = kind
    assert run(execution(tmp_path, artifacts={'examples': {'artifacts': [examples]}})) == 0
    assert given(tmp_path)['inputs'] == {'examples': [['Examples', '/data/examples']]}


@pytest.mark.parametrize(
    ('title', 'kind'),
    [('tfx.Examples', standard_artifacts.Examples), ('system.Model', standard_artifacts.Model),
     ('tfx.Metrics', None), ('tfx_cassandra.components.artifacts.AbVerdict', AbVerdict)],
)  # fmt: skip
def test_without_a_declaration_the_title_decides(title: str, kind: Any) -> None:
    found = artifacts.read({'a': {'artifacts': [{'uri': '/x', 'type': {'schemaTitle': title}}]}}, {}, artifacts.Names())
    assert type(found['a'][0]).__name__ == (kind.__name__ if kind else 'Metrics')


def test_an_unknown_type_is_an_error_that_names_the_artifact(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = execution(tmp_path, artifacts={'thing': {'artifacts': [{'uri': '/x', 'type': {}}]}})
    assert run(message) == 1
    assert "Step: error: artifact 'thing': got 'no type', rule: a type of TFX" in capsys.readouterr().err


def test_metadata_come_and_go_as_with_tfx_own_entry_point() -> None:
    kfp = pytest.importorskip('kfp.pipeline_spec.pipeline_spec_pb2', reason="TFX's own entry point needs kfp")
    from google.protobuf import json_format
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as theirs

    message = {
        'name': 'projects/1/artifacts/7', 'uri': '/data', 'type': EXAMPLES,
        'metadata': {'span': 3.0, 'split_names': '["a"]', 'rows': 4.0, 'window': 'x/y', 'flag': True, 'list': [1.0],
                     'custom:span': 5.0},
    }  # fmt: skip
    names, their_names = artifacts.Names(), {}
    (ours,) = artifacts.read({'e': {'artifacts': [message]}}, {}, names)['e']
    proto = json_format.ParseDict({'artifacts': [message]}, kfp.ArtifactList())
    (expected,) = theirs.parse_raw_artifact_dict({'e': proto}, their_names)['e']
    assert ours.mlmd_artifact == expected.mlmd_artifact
    for item in (ours, expected):
        item.set_int_custom_property('made', 2)
        item.set_string_custom_property('name', 'n')
        item.version = 8
    sent = json_format.MessageToDict(theirs.to_runtime_artifact(expected, their_names))
    assert json.loads(json.dumps(artifacts.written(ours, names))) == sent


def test_properties_are_read_in_both_schemas(tmp_path: pathlib.Path) -> None:
    spec = {'parameters': {'count': {'parameterType': 'NUMBER_INTEGER'}, 'rate': {'parameterType': 'NUMBER_DOUBLE'}}}
    values = {'count': 3.0, 'rate': 3.0, 'text': '3'}
    assert (
        run(execution(tmp_path, parameterValues=values), 'Echo', '--json_serialized_inputs_spec_args', json.dumps(spec))
        == 0
    )
    properties = given(tmp_path)['properties']
    assert properties == {'count': 3, 'rate': 3.0, 'text': '3'}
    assert type(properties['count']) is int
    legacy = {'count': {'intValue': '3'}, 'rate': {'doubleValue': 3.0}, 'text': {'stringValue': '3'}}
    other = tmp_path / 'legacy'
    assert run(execution(other, parameters=legacy)) == 0
    assert given(other)['properties'] == properties


def test_a_driver_changes_properties_by_the_output_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'executor_output.json').write_text(json.dumps({'parameterValues': {'span': 7}}))
    assert run(execution(tmp_path, parameterValues={'span': 1, 'other': 'x'})) == 0
    assert given(tmp_path)['properties'] == {'span': 7, 'other': 'x'}


def test_the_input_of_a_condition_is_not_the_executors(tmp_path: pathlib.Path) -> None:
    """TFX makes what a condition reads an input of the task; open-source Kubeflow hands it on without a type."""
    examples, champion = ({'artifacts': [{'name': name, 'uri': f'/data/{name}'}]} for name in ('7', '8'))
    assert run(execution(tmp_path, artifacts={'examples': examples, '_ChampionModel.model': champion})) == 0
    assert given(tmp_path)['inputs'] == {'examples': [['Examples', '/data/7']]}


def test_the_output_names_what_was_made(tmp_path: pathlib.Path) -> None:
    assert run(execution(tmp_path)) == 0
    (made,) = output(tmp_path)['artifacts']['model']['artifacts']
    assert made['name'] == 'projects/1/artifacts/9'
    assert made['uri'] == str(tmp_path / 'model')
    assert made['metadata']['seen'] == 0.0
    assert 'tfx_version' in made['metadata']


def test_a_blessing_names_its_model(tmp_path: pathlib.Path) -> None:
    model = {'name': 'projects/1/artifacts/3', 'uri': '/m', 'type': MODEL}
    message = execution(tmp_path, artifacts={'model': {'artifacts': [model]}})
    message['outputs']['artifacts'] = {
        'blessing': {'artifacts': [{'name': 'b', 'uri': str(tmp_path / 'b'), 'type': {}}]}
    }
    assert run(message, 'Blesses') == 0
    metadata = output(tmp_path)['artifacts']['blessing']['artifacts'][0]['metadata']
    assert metadata['current_model_id'] == 'projects/1/artifacts/3'
    assert metadata['blessed'] == 1.0


@pytest.mark.parametrize('scheme', ['minio', 's3', 'gs'])
def test_under_the_launcher_a_step_works_in_its_folders(
    scheme: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(launcher._FOLDERS, scheme, str(tmp_path / scheme))
    monkeypatch.setenv('KFP_POD_NAME', 'pod')
    monkeypatch.setattr(launcher, '_remove_markers', lambda uri: 0)
    message = execution(
        tmp_path, artifacts={'examples': {'artifacts': [{'uri': f'{scheme}://bucket/examples', 'type': {}}]}}
    )
    message['outputs']['artifacts']['model']['artifacts'][0]['uri'] = f'{scheme}://bucket/run/model'
    assert run(message) == 0
    (folder,) = (tmp_path / scheme).rglob('Format-Serving')
    assert folder.parent == tmp_path / scheme / 'bucket/run/model'
    told = json.loads((folder / 'given.json').read_text())
    assert told['inputs'] == {'examples': [['Examples', str(tmp_path / scheme / 'bucket/examples')]]}
    assert output(tmp_path)['artifacts']['model']['artifacts'][0]['uri'] == f'{scheme}://bucket/run/model'


@pytest.mark.parametrize(
    ('environ', 'beam_args', 'moves'),
    [
        ({'KFP_POD_NAME': 'p'}, [], True),
        ({'KFP_POD_NAME': 'p'}, ['--runner=DirectRunner'], True),
        ({'KFP_POD_NAME': 'p'}, ['--runner', 'apache_beam.runners.direct.DirectRunner'], True),
        ({'KFP_POD_NAME': 'p'}, ['--runner=SparkRunner'], False),
        ({'KFP_POD_NAME': 'p'}, ['--runner', 'FlinkRunner'], False),
        ({}, [], False),  # Vertex
    ],
)
def test_where_artifacts_are_moved(environ: dict[str, str], beam_args: list[str], moves: bool) -> None:
    model, local = standard_artifacts.Model(), standard_artifacts.Model()
    model.uri, local.uri = 'gs://bucket/model', '/data/model'
    uris = launcher.moved([model, local], beam_args, environ)
    assert (model.uri, local.uri) == ('/gcs/bucket/model' if moves else 'gs://bucket/model', '/data/model')
    launcher.restored([model, local], uris)
    assert (model.uri, local.uri) == ('gs://bucket/model', '/data/model')


def test_folder_markers_of_google_storage_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = pytest.importorskip('google.cloud.storage')

    class Blob:
        def __init__(self, name: str, size: int) -> None:
            self.name, self.size = name, size

        def delete(self) -> None:
            del blobs[self.name]

    class Client:
        def list_blobs(self, bucket: str, prefix: str) -> list[Blob]:
            assert bucket == 'bucket'
            return [blob for name, blob in list(blobs.items()) if name.startswith(prefix)]

    kept = {'run/model/a': 0, 'run/model/Format-Serving/saved_model.pb': 9, 'run/models/': 0}
    sizes = {**kept, 'run/model/': 0, 'run/model/Format-Serving/': 0}
    blobs = {name: Blob(name, size) for name, size in sizes.items()}
    monkeypatch.setattr(storage, 'Client', Client)
    assert launcher.remove_markers(['gs://bucket/run/model', '/local', 's3://other/x']) == 2
    assert set(blobs) == set(kept)
    monkeypatch.setattr(storage, 'Client', lambda: 1 / 0)
    assert launcher.remove_markers(['gs://bucket/run/model']) == 0  # the step's work is done


def test_a_failure_is_one_line_with_the_component(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(execution(tmp_path), 'Fails') == 1
    assert capsys.readouterr().err.splitlines()[-1] == 'Step: error: RuntimeError: the disk is full'
    assert not (tmp_path / 'out' / 'executor_output.json').exists()


@pytest.mark.parametrize(
    ('argument', 'text', 'message'),
    [('--json_serialized_invocation_args', '{', 'rule: JSON'),
     ('--json_serialized_invocation_args', '[]', 'a JSON object'),
     ('--json_serialized_invocation_args', '{}', 'outputs.outputFile: got None'),
     ('--executor_class_path', 'nothing.Executor', 'executor_class_path: got'),
     ('--executor_class_path', 'Executor', 'executor_class_path: got')],
)  # fmt: skip
def test_wrong_arguments(
    argument: str, text: str, message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(execution(tmp_path), 'Echo', argument, text) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def process(folder: pathlib.Path, executor: str, *more: str, code: str = '') -> subprocess.CompletedProcess[str]:
    here = os.path.dirname(__file__)
    command = [sys.executable, '-m', 'tfx_cassandra.kubeflow.entrypoint'] if not code else [sys.executable, '-c', code]
    return subprocess.run(
        [*command, '--component', 'Step', '--executor_class_path', f'step_executors.{executor}',
         '--json_serialized_invocation_args', json.dumps(execution(folder)), '--artifact_classes', json.dumps(CLASSES),
         *more],
        env={**os.environ, 'PYTHONPATH': here}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_crash_at_exit_does_not_fail_a_finished_step(tmp_path: pathlib.Path) -> None:
    assert process(tmp_path, 'CrashesAtExit').returncode == 0
    plain = 'import sys; from tfx_cassandra.kubeflow import entrypoint; sys.exit(entrypoint.main(sys.argv[1:]))'
    assert process(tmp_path / 'plain', 'CrashesAtExit', code=plain).returncode < 0  # without the entry point's own end


def test_beam_arguments_reach_the_executor(tmp_path: pathlib.Path) -> None:
    assert run(execution(tmp_path), 'Echo', '--job_name=x', '--direct_num_workers', '2') == 0
    assert given(tmp_path)['flags'] == ['--job_name=x', '--direct_num_workers', '2']
    assert run(execution(tmp_path / 'beam'), 'Beam', '--runner=DirectRunner') == 0


LIGHT = """
import sys
from tfx_cassandra.kubeflow import light_imports
light_imports.install('tfx_cassandra.components.example_gen.executor.Executor')
import tfx_cassandra.components.example_gen.executor
heavy = ('tensorflow.python', 'tensorflow_model_analysis', 'tensorflow_transform')
print([name for name in heavy if name in sys.modules])
import tensorflow as tf
from tfx.components import Trainer
from tfx.components.statistics_gen.executor import Executor
print(tf.constant(1).numpy(), Trainer.__name__, Executor.__name__, tf.io.gfile.exists('/'))
from apache_beam.internal import pickler
print(pickler.loads(pickler.dumps(lambda value: tf.constant(value)))(2).numpy())
"""


@pytest.mark.slow
def test_a_step_imports_tensorflow_only_where_it_is_used() -> None:
    found = subprocess.run([sys.executable, '-c', LIGHT], capture_output=True, text=True, timeout=600, check=False)
    assert found.stdout.splitlines() == ['[]', '1 Trainer Executor True', '2'], found.stderr[-2000:]


EVALUATOR = """
from tfx_cassandra.kubeflow import light_imports
light_imports.install('tfx.components.evaluator.executor.Executor')
from tfx.components.evaluator import executor
print(executor.tfma.EvalConfig.__name__)
"""


def test_a_stock_component_finds_what_tfx_completes() -> None:
    found = subprocess.run([sys.executable, '-c', EVALUATOR], capture_output=True, text=True, timeout=600, check=False)
    assert found.stdout.splitlines() == ['EvalConfig'], found.stderr[-2000:]


def test_artifact_utils_know_what_is_read(tmp_path: pathlib.Path) -> None:
    message = {'uri': '/data', 'type': {}, 'metadata': {'split_names': '["train", "eval"]'}}
    (found,) = artifacts.read({'examples': {'artifacts': [message]}}, CLASSES, artifacts.Names())['examples']
    assert artifact_utils.decode_split_names(found.split_names) == ['train', 'eval']
    assert artifact_utils.get_split_uris([found], 'eval') == ['/data/Split-eval']
