"""The manifests: built by kustomize, checked by Kubernetes' own schemas, and their command run on a pipeline."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tfx_cassandra.components.cli import main as cli

MANIFESTS = pathlib.Path(__file__).parents[2] / 'kubeflow' / 'manifests'
VALIDATOR = 'kubernetes-validate>=1.30,<2'
NAMES = ('contact_points', 'local_datacenter', 'keyspace', 'span')
PIPELINE: dict[str, Any] = {
    'schemaVersion': '2.1.0',
    'pipelineInfo': {'name': 'clicks'},
    'components': {
        'show': {
            'executorLabel': 'show',
            'inputDefinitions': {'parameters': {name: {'parameterType': 'STRING'} for name in NAMES}},
        }
    },
    'deploymentSpec': {
        'executors': {
            'show': {
                'container': {
                    'image': 'any',
                    'command': ['sh', '-ec', 'echo "$USER" "$@"', 'sh'],
                    'args': [f"{{{{$.inputs.parameters['{name}']}}}}" for name in NAMES],
                }
            }
        }
    },
    'root': {
        'inputDefinitions': {'parameters': {name: {'parameterType': 'STRING'} for name in NAMES}},
        'dag': {
            'tasks': {
                'show': {
                    'taskInfo': {'name': 'show'},
                    'componentRef': {'name': 'show'},
                    'cachingOptions': {'enableCache': True},
                    'inputs': {'parameters': {name: {'componentInputParameter': name} for name in NAMES}},
                }
            }
        },
    },
}
Objects = dict[str, dict[str, Any]]


@pytest.fixture(scope='module')
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What kustomize makes of the overlay with a compiled pipeline."""
    command = next(
        (found for found in (['kustomize', 'build'], ['kubectl', 'kustomize']) if shutil.which(found[0])), None
    )
    if command is None:
        pytest.skip('neither kustomize nor kubectl, which has it, is on PATH')
    folder = tmp_path_factory.mktemp('manifests')
    shutil.copytree(MANIFESTS, folder / 'manifests')
    overlay = folder / 'manifests' / 'overlays' / 'k8ssandra'
    (overlay / 'pipeline.yaml').write_text(yaml.safe_dump(PIPELINE))
    done = subprocess.run([*command, str(overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def built(text: str) -> Objects:
    """The objects by kind; of config maps by kind and what they are."""
    found = {}
    for one in yaml.safe_load_all(text):
        kind = one['kind']
        found[f'{kind} job' if 'pipeline.yaml' in one.get('data', {}) else kind] = one
    return found


def pod(built: Objects) -> dict[str, Any]:
    return built['CronJob']['spec']['jobTemplate']['spec']['template']


def container(built: Objects) -> dict[str, Any]:
    (found,) = pod(built)['spec']['containers']
    return found


def validated(folder: pathlib.Path, text: str, version: str) -> subprocess.CompletedProcess[str]:
    """Checks manifests by the schemas in a package of PyPI, which is put beside this environment, not into it."""
    uv = shutil.which('uv', path=str(pathlib.Path(sys.executable).parent)) or shutil.which('uv')
    if uv is None:
        pytest.skip(f'no uv, which fetches {VALIDATOR}')
    run = [uv, 'run', '--quiet', '--no-project', '--isolated', '--python', sys.executable, '--with', VALIDATOR]
    probe = subprocess.run([*run, 'kubernetes-validate', '--version'], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f'{VALIDATOR} cannot be fetched: {probe.stderr.strip()[-200:]}')
    path = folder / 'built.yaml'
    path.write_text(text)
    check = ['kubernetes-validate', '--strict', '-k', version, str(path)]
    return subprocess.run([*run, *check], capture_output=True, text=True, check=False)


@pytest.mark.parametrize('version', ['1.30', '1.34', '1.37'])
def test_the_schemas_of_kubernetes(version: str, text: str, built: Objects, tmp_path: pathlib.Path) -> None:
    done = validated(tmp_path, text, version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(' passed for resource ') == len(built)


@pytest.mark.parametrize(
    ('good', 'bad'),
    [
        ('backoffLimit:', 'backoffLimits:'),
        ('runAsNonRoot: true', 'runAsNonRoot: "yes"'),
        ('mountPath: /tmp', 'mountpath: /tmp'),
        ('podSelector:', 'podselector:'),
    ],
)
def test_the_schemas_find_what_is_wrong(good: str, bad: str, text: str, tmp_path: pathlib.Path) -> None:
    assert good in text
    done = validated(tmp_path, text.replace(good, bad), '1.37')
    assert done.returncode == 1
    assert 'did not validate' in done.stdout + done.stderr


def test_what_an_object_names_exists(built: Objects) -> None:
    assert set(built) == {
        'ServiceAccount', 'ConfigMap', 'ConfigMap job', 'PersistentVolumeClaim', 'CronJob', 'NetworkPolicy',
    }  # fmt: skip
    assert {one['metadata']['namespace'] for one in built.values()} == {'ml'}
    spec = pod(built)['spec']
    volumes = {volume['name']: volume for volume in spec['volumes']}
    assert spec['serviceAccountName'] == built['ServiceAccount']['metadata']['name']
    assert volumes['job']['configMap']['name'] == built['ConfigMap job']['metadata']['name']
    assert volumes['state']['persistentVolumeClaim']['claimName'] == built['PersistentVolumeClaim']['metadata']['name']
    (source,) = container(built)['envFrom']
    assert source['configMapRef']['name'] == built['ConfigMap']['metadata']['name']
    assert {mount['name'] for mount in container(built)['volumeMounts']} == set(volumes)


def test_the_pod_meets_the_restricted_standard(built: Objects) -> None:
    spec, security = pod(built)['spec'], container(built)['securityContext']
    assert (spec['securityContext']['runAsNonRoot'], spec['securityContext']['runAsUser'] > 0) == (True, True)
    assert spec['securityContext']['seccompProfile'] == {'type': 'RuntimeDefault'}
    assert security == {
        'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True, 'capabilities': {'drop': ['ALL']},
    }  # fmt: skip
    assert not {'hostNetwork', 'hostPID', 'hostIPC'} & set(spec)
    kinds = {kind for volume in spec['volumes'] for kind in volume if kind != 'name'}
    assert kinds == {'configMap', 'secret', 'persistentVolumeClaim', 'emptyDir'}
    assert spec['automountServiceAccountToken'] is False
    resources = container(built)['resources']
    assert {'cpu', 'memory'} <= set(resources['requests'])
    assert resources['limits']['memory'] == resources['requests']['memory']
    assert '@sha256:' in container(built)['image']


def test_the_password_is_named_and_the_tls_files_are_mounted_where_compiled_steps_look(built: Objects) -> None:
    from tfx_cassandra.kubeflow.settings import TLS_FOLDER

    assert 'Secret' not in built
    password = next(one for one in container(built)['env'] if one['name'] == 'CASSANDRA_PASSWORD')
    assert password == {
        'name': 'CASSANDRA_PASSWORD', 'valueFrom': {'secretKeyRef': {'name': 'cassandra', 'key': 'password'}},
    }  # fmt: skip
    mount = next(mount for mount in container(built)['volumeMounts'] if mount['name'] == 'tls')
    assert (mount['mountPath'], mount['readOnly']) == (TLS_FOLDER, True)


def test_nothing_comes_in_and_only_names_cassandra_and_the_object_store_go_out(built: Objects) -> None:
    policy = built['NetworkPolicy']['spec']
    labels = pod(built)['metadata']['labels']
    assert policy['podSelector']['matchLabels'].items() <= labels.items()
    assert (policy['policyTypes'], policy['ingress']) == (['Ingress', 'Egress'], [])
    dns, cassandra, store = policy['egress']
    assert [(port['protocol'], port['port']) for port in dns['ports']] == [('UDP', 53), ('TCP', 53)]
    assert [(port['protocol'], port['port']) for port in cassandra['ports']] == [('TCP', 9042)]
    assert [(port['protocol'], port['port']) for port in store['ports']] == [('TCP', 443)]
    # The peers have their own labels and no others.
    assert [peer['podSelector']['matchLabels'] for peer in dns['to']] == [{'k8s-app': 'kube-dns'}]
    (peer,) = cassandra['to']
    cluster, center = (
        peer['podSelector']['matchLabels'][f'cassandra.datastax.com/{name}'] for name in ('cluster', 'datacenter')
    )
    assert len(peer['podSelector']['matchLabels']) == 2
    connection = built['ConfigMap']['data']
    namespace = peer['namespaceSelector']['matchLabels']['kubernetes.io/metadata.name']
    assert connection['CASSANDRA_CONTACT_POINTS'] == f'{cluster}-{center}-service.{namespace}.svc'
    assert connection['CASSANDRA_LOCAL_DATACENTER'] == center
    assert '169.254.0.0/16' in store['to'][0]['ipBlock']['except']


def test_the_command_runs_the_pipeline_each_time_anew(
    built: Objects, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = built['ConfigMap']['data']
    job = tmp_path / 'pipeline.yaml'
    job.write_text(built['ConfigMap job']['data']['pipeline.yaml'])
    program, *command = container(built)['command']
    assert program == cli.PROGRAM
    mounts = {'/etc/tfx-cassandra/job': str(tmp_path), '/var/lib/tfx-cassandra': str(tmp_path)}
    assert set(mounts) <= {mount['mountPath'] for mount in container(built)['volumeMounts']}
    words = []
    for word in [*command, *container(built)['args']]:
        expanded = re.sub(r'\$\((\w+)\)', lambda found: data[found[1]], word)  # as Kubernetes does
        for path, here in mounts.items():
            expanded = expanded.replace(path, here)
        words.append(expanded)
    for _ in range(2):
        assert cli.main(words) == 0, capsys.readouterr().err
    logs = [path.read_text() for path in sorted((tmp_path / 'runs').rglob('log.txt'))]
    said = f'tfx-cassandra {data["CASSANDRA_CONTACT_POINTS"]} dc1 ml_features latest\n'
    assert logs == [said, said]
