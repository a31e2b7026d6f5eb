"""Compiled pipelines: what of TFX and of the settings stands where; golden files, protos and the loader of KFP."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.kubeflow.settings import Settings, StepSettings

pytest.importorskip('kfp', reason='compiling needs kfp: pip install "tfx-cassandra[kfp]"')

GOLDEN = pathlib.Path(__file__).parent / 'golden'
IMAGE = 'registry.example.com/ml/tfx-cassandra@sha256:' + 64 * '0'
SETTINGS = {
    'image': IMAGE,
    'labels': {'team': 'ml'},
    'defaults': {'cpu': 1, 'memory_gb': 4, 'retries': 2, 'env': {'TF_CPP_MIN_LOG_LEVEL': '2'}},
    'steps': {
        'Trainer': {
            'cpu': 8, 'accelerator': {'type': 'nvidia-tesla-t4'}, 'node_selector': {'pool': 'gpu'},
            'tolerations': [{'key': 'nvidia.com/gpu', 'operator': 'Exists', 'effect': 'NoSchedule'}],
            'labels': {'stage': 'train'}, 'env': {'A': 'b'}, 'retries': 0,
        }
    },
}  # fmt: skip
KUBERNETES = {'password_secret': 'cassandra/password', 'tls_secret': 'cassandra-tls'}
SECRET = 'projects/p/secrets/{}/versions/1'
VERTEX = {
    'password_secret': SECRET.format('password'),
    'tls_secret': {name: SECRET.format(name.replace('.', '-')) for name in ('ca.crt', 'tls.crt', 'tls.key')},
}
ON_VERTEX = {**SETTINGS, **VERTEX, 'steps': {'Trainer': {'accelerator': {'type': 'NVIDIA_TESLA_T4', 'count': 2}}}}


def compiled(
    folder: pathlib.Path, pipeline: str, target: str, settings: dict[str, Any] | None = None, *more: str
) -> tuple[int, str]:
    """Runs the command; returns its exit code and the file."""
    path, output = folder / 'settings.yaml', folder / f'out.{target}'
    path.write_text(yaml.safe_dump(settings or {'image': IMAGE}))
    code = cli.main([
        'compile', pipeline, '--to', target, '--state', 'gs://bucket/state', '--settings', str(path), '--output',
        str(output), '--contact-points', '10.0.0.1,10.0.0.2', *more,
    ])  # fmt: skip
    return code, output.read_text() if output.exists() else ''


@pytest.fixture(scope='module')
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pipelines of the demo with everything that can be set, by target."""
    found = {}
    for name, target, settings in (
        ('flight-delay', 'kfp', {**SETTINGS, **KUBERNETES}), ('flight-delay', 'vertex', ON_VERTEX),
        ('ab', 'kfp', {'image': IMAGE, **KUBERNETES}), ('ab', 'vertex', {'image': IMAGE, **VERTEX}),
    ):  # fmt: skip
        code, text = compiled(tmp_path_factory.mktemp(target), name, target, settings, '--username', 'reader')
        assert code == 0
        found[f'{name}.{target}'] = text
    return found


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def spec_of(text: str) -> dict[str, Any]:
    first = documents(text)[0]
    return first.get('pipelineSpec', first)


def skeleton(text: str) -> dict[str, Any]:
    """What a compiled file says, without versions of TFX and the bodies of JSON."""
    spec = spec_of(text)
    tasks = {}
    for name, task in spec['root']['dag']['tasks'].items():
        inputs = task.get('inputs', {})
        tasks[name] = {
            'after': sorted(task.get('dependentTasks', [])),
            'parameters': {
                key: value['componentInputParameter']
                for key, value in sorted(inputs.get('parameters', {}).items())
                if 'componentInputParameter' in value
            },
            'constants': sorted(key for key, value in inputs.get('parameters', {}).items() if 'runtimeValue' in value),
            'artifacts': {
                key: '.'.join(value['taskOutputArtifact'][part] for part in ('producerTask', 'outputArtifactKey'))
                for key, value in sorted(inputs.get('artifacts', {}).items())
            },
            'retry': task.get('retryPolicy', {}),
        }
    containers = {
        label: {
            **{field: value for field, value in executor['container'].items() if field != 'args'},
            'args': [
                '{...}' if word.startswith('{') and word != '{{$}}' else word for word in executor['container']['args']
            ],
        }
        for label, executor in spec['deploymentSpec']['executors'].items()
    }
    return {
        'schema': spec['schemaVersion'], 'name': spec['pipelineInfo']['name'], 'root': spec.get('defaultPipelineRoot'),
        'parameters': spec['root']['inputDefinitions']['parameters'], 'tasks': tasks, 'containers': containers,
        'platform': documents(text)[1:],
    }  # fmt: skip


@pytest.mark.parametrize('name', ['flight-delay.kfp', 'flight-delay.vertex', 'ab.kfp', 'ab.vertex'])
def test_compiled_files_are_as_before(name: str, texts: dict[str, str]) -> None:
    path = GOLDEN / f'{name}.yaml'
    found = skeleton(texts[name])
    if os.environ.get('UPDATE_GOLDEN'):
        path.write_text(yaml.safe_dump(found, sort_keys=True))
    assert found == yaml.safe_load(path.read_text())


def test_no_secret_and_no_path_of_this_machine_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CASSANDRA_PASSWORD', 'canary-of-the-mine')
    monkeypatch.setenv('CASSANDRA_USERNAME', 'reader')
    for target, secrets in (('kfp', KUBERNETES), ('vertex', VERTEX)):
        code, text = compiled(tmp_path, 'flight-delay', target, {'image': IMAGE, **secrets})
        assert code == 0
        assert 'canary' not in text
        for path in (os.getcwd(), str(tmp_path), sys.prefix, sys.base_prefix, str(pathlib.Path.home()) + '/'):
            assert path not in text
        assert 'CASSANDRA_PASSWORD' in text


@pytest.mark.parametrize('name', ['flight-delay.kfp', 'ab.kfp'])
def test_secrets_go_to_the_steps_that_connect(name: str, texts: dict[str, str]) -> None:
    executors = documents(texts[name])[1]['platforms']['kubernetes']['deploymentSpec']['executors']
    with_secret = {label for label, pod in executors.items() if 'secretAsEnv' in pod}
    assert with_secret == {label for label, pod in executors.items() if 'secretAsVolume' in pod}
    expected = {'CassandraExampleGen_executor', 'CassandraPusher_executor'}
    assert with_secret == (
        expected if name.startswith('flight') else {'ABEvaluator_executor', 'ModelPromoter_executor'}
    )


def test_files_are_of_the_protos(texts: dict[str, str]) -> None:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    for name, text in texts.items():
        spec = spec_of(text)
        message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(spec['deploymentSpec'], pipeline_spec_pb2.PipelineDeploymentConfig())
        assert message.pipeline_info.name
        if name.endswith('vertex'):
            job = json.loads(text)
            assert set(job) <= {'displayName', 'labels', 'pipelineSpec', 'runtimeConfig'}
            assert job['runtimeConfig']['gcsOutputDirectory'].startswith('gs://bucket/state/')


LOADER = """
import sys, yaml
from google.protobuf import json_format
from kfp import components, local
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2 as specs
for path in sys.argv[1:]:
    loaded = components.load_component_from_file(path)
    spec, platform = yaml.safe_load_all(open(path))
    json_format.ParseDict(spec, specs.PipelineSpec())
    json_format.ParseDict(platform, specs.PlatformSpec())
    executors = platform['platforms']['kubernetes']['deploymentSpec']['executors']
    for executor in executors.values():
        json_format.ParseDict(executor, kubernetes.KubernetesExecutorConfig())
    print(loaded.name, sorted(loaded.component_spec.inputs), len(executors))
"""


@pytest.mark.slow
def test_the_newest_kfp_loads_the_files(texts: dict[str, str], tmp_path: pathlib.Path) -> None:
    paths = []
    for name in ('flight-delay.kfp', 'ab.kfp'):
        paths.append(tmp_path / f'{name}.yaml')
        paths[-1].write_text(texts[name])
    found = subprocess.run(
        [sys.executable, '-m', 'uv', 'run', '--quiet', '--no-project', '--isolated', '--with', 'kfp>=2.14', '--with',
         'kfp-kubernetes>=2.14', 'python', '-c', LOADER, *map(str, paths)],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    inputs = {'alias', 'contact_points', 'experiment_id', 'keyspace', 'local_datacenter', 'window'}
    assert found.stdout.splitlines() == [
        f'flight-delay {sorted(inputs | {"model_id"})} 8',
        f'flight-delay-ab {sorted(inputs | {"control_version", "treatment_version"})} 2',
    ]


FIXED = """
from tfx import v1 as tfx
from tfx_cassandra.components import CassandraExampleGen, FeatureView

def span(connection, state, span, *, rate: float = 1.5, name='x'):
    view = FeatureView('v', 't', ('id',), 'at', ('f',))
    generated = CassandraExampleGen(connection, view, span=span)
    return tfx.dsl.Pipeline(f'p-{name}-{rate}'.replace('.', '-'), state, components=[generated])
"""


def test_a_function_of_ones_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'own_pipelines.py').write_text(FIXED)
    monkeypatch.syspath_prepend(tmp_path)
    code, text = compiled(tmp_path, 'own_pipelines:span', 'kfp', None, '--set', 'rate=2', '--set', 'name=day')
    assert code == 0
    spec = spec_of(text)
    assert spec['pipelineInfo']['name'] == 'p-day-2-0'
    parameters = spec['root']['inputDefinitions']['parameters']
    assert parameters['span'] == {'parameterType': 'STRING'}
    assert parameters['contact_points'] == {
        'parameterType': 'STRING', 'defaultValue': '10.0.0.1,10.0.0.2', 'isOptional': True
    }  # fmt: skip
    code, text = compiled(tmp_path, 'own_pipelines:span', 'kfp', None, '--set', 'span=latest')
    assert 'span' not in spec_of(text)['root']['inputDefinitions']['parameters']


def wrong() -> Iterator[tuple[dict[str, Any], list[str], str]]:
    yield {}, [], 'image: got None, rule: given for CassandraExampleGen'
    yield {'image': IMAGE, 'steps': {'Nobody': {}}}, [], "steps: got 'Nobody', rule: a component of the pipeline"
    yield {'image': IMAGE, 'colour': 1}, [], "settings: got ['colour'], rule: a mapping of image"
    yield {'image': IMAGE, 'defaults': {'cpu': 'many'}}, [], "defaults.cpu: got 'many', rule: a number above 0"
    yield {'image': IMAGE, 'defaults': {'retries': -1}}, [], 'defaults.retries: got -1, rule: an integer from 0 to 100'
    yield {'image': IMAGE, 'steps': {'Trainer': {'tolerations': [{'effect': 'x'}]}}}, [], "effect: got 'x', rule: "
    yield {'image': IMAGE, 'password_secret': 'a/b'}, [], "password_secret: got 'a/b', rule: given together with"
    yield {'image': IMAGE}, ['--username', 'u'], 'password_secret: got None, rule: given together with'
    yield {'image': IMAGE, 'password_secret': 'a'}, ['--username', 'u'], "got 'a', rule: SECRET/KEY"
    yield (
        {'image': IMAGE, 'password_secret': 'a/b', 'defaults': {'env': {'CASSANDRA_PASSWORD': 'x'}}},
        ['--username', 'u'], "got 'CASSANDRA_PASSWORD', rule: no secret",
    )  # fmt: skip
    yield {'image': IMAGE}, ['--set', 'nobody=1'], "set: got 'nobody', rule: an argument of flight-delay"
    yield {'image': IMAGE}, ['--set', 'train_steps=many'], "train_steps: got 'many', rule: like its default, 1500"
    yield {'image': IMAGE}, ['--set', 'train_steps'], "set: got 'train_steps', rule: NAME=VALUE"
    yield {'image': IMAGE}, ['--state', 'here'], "state: got 'here', rule: a URI"


@pytest.mark.parametrize(('settings', 'more', 'message'), wrong())
def test_wrong_settings_are_one_line(
    settings: dict[str, Any], more: list[str], message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'settings.yaml'
    path.write_text(yaml.safe_dump(settings))
    code = cli.main([
        'compile', 'flight-delay', '--to', 'kfp', '--state', 'gs://b/s', '--settings', str(path), '--output',
        str(tmp_path / 'out'), *more,
    ])  # fmt: skip
    assert code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('pipeline', ['nobody', 'os:nobody', 'no_module:f', 'os:sep'])
def test_wrong_pipelines_are_one_line(
    pipeline: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(tmp_path, pipeline, 'kfp')[0] == 2
    assert 'error: pipeline: got' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [({'defaults': {'node_selector': {'a': 'b'}}}, 'for Kubernetes only'), ({'password_secret': 'a/b'}, 'projects/'),
     ({'password_secret': SECRET.format('p'), 'tls_secret': 'name'}, 'a mapping of ca.crt')],
)  # fmt: skip
def test_what_vertex_has_not_is_refused(
    settings: dict[str, Any], message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = ('--username', 'u') if 'password_secret' in settings else ()
    assert compiled(tmp_path, 'flight-delay', 'vertex', {'image': IMAGE, **settings}, *user)[0] == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_settings_of_a_step_stand_over_the_defaults() -> None:
    defaults = StepSettings(cpu=1.0, memory_gb=4.0, env={'A': '1', 'B': '1'}, retries=2, retry_seconds=5.0)
    own = StepSettings(cpu=8.0, env={'B': '2'}, retries=0, retry_seconds=30.0)
    settings = Settings('image', defaults=defaults, steps={'Trainer': own})
    trainer = settings.of('Trainer')
    assert (trainer.image, trainer.cpu, trainer.memory_gb, trainer.retries) == ('image', 8.0, 4.0, 0)
    assert trainer.retry_seconds == 30.0
    assert trainer.env == {'A': '1', 'B': '2'}
    assert settings.of('Other') == StepSettings('image', 1.0, 4.0, env=defaults.env, retries=2, retry_seconds=5.0)


def test_connection_for_compiling_holds_no_open_value_outside_the_parameters() -> None:
    from tfx_cassandra.kubeflow.parametrize import built

    pipeline, opened = built('flight-delay', CassandraConnection(port=9999), 'gs://b/s', {})
    assert opened.port == 9999
    assert opened.keyspace.default == 'ml_features'
    assert '{model_id}' in pipeline.components[-1].exec_properties['push_destination']
