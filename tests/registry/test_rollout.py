"""Plans of traffic, and the files of serving systems, parsed by the systems' own protos where these are installed."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tfx_cassandra.components.registry.rollout import Rollout, Traffic, kserve, tf_serving, vertex
from tfx_cassandra.components.registry.versions import ModelVersion

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
OLD, NEW = '1700000000', '1700000100'
ENDPOINT = 'projects/p/locations/europe-west4/endpoints/77'
MODEL = 'projects/p/locations/europe-west4/models/dnn@3'


def version(number: str = OLD, model: str = 'dnn', uri: str | None = 'gs://bucket/{}/{}') -> ModelVersion:
    return ModelVersion('e', model, number, NOW, model_uri=uri and uri.format(model, number))


PLAN = Rollout(version(), version(NEW))


def traffic(percent: int, plan: Rollout = PLAN) -> Traffic:
    return plan.at(percent)


@pytest.mark.parametrize(
    ('percent', 'verdict', 'then'),
    [
        (0, 'ship', 10),
        (10, 'ship', 50),
        (25, 'ship', 50),
        (50, 'ship', 100),
        (100, 'ship', 100),
        (0, 'hold', 0),
        (25, 'hold', 25),
        (100, 'hold', 100),
        (0, 'harm', 0),
        (50, 'harm', 0),
        (100, 'harm', 0),
        (100, 'invalid', 0),
    ],
)
def test_a_verdict_moves_the_traffic(percent: int, verdict: str, then: int) -> None:
    assert PLAN.after(percent, verdict) == PLAN.at(then)


def test_steps() -> None:
    assert [PLAN.at_step(step).percent for step in range(4)] == [0, 10, 50, 100]
    assert Rollout(version(), version(NEW), (0, 100)).at_step(1).percent == 100
    assert PLAN.rolled_back().percent == 0


@pytest.mark.parametrize(
    'steps', [(), (0,), (0, 50), (10, 100), (0, 50, 50, 100), (0, 60, 50, 100), (0, 101), 'x', None]
)
def test_steps_that_are_none(steps: object) -> None:
    with pytest.raises(ValueError, match=r'steps: got .*, rule: percentages that rise from 0 to 100'):
        Rollout(version(), version(NEW), steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: PLAN.at_step(4), 'step: got 4, rule: an integer from 0 to 3, for the steps 0, 10, 50, 100 %'),
        (lambda: PLAN.at_step(-1), 'step: got -1, rule'),
        (lambda: PLAN.at(101), 'percent: got 101, rule: an integer from 0 to 100'),
        (lambda: PLAN.at(True), 'percent: got True, rule: an integer from 0 to 100'),
        (lambda: PLAN.after(-1, 'harm'), 'percent: got -1, rule: an integer from 0 to 100'),
        (lambda: PLAN.after(10, 'win'), "verdict: got 'win', rule: one of ship, hold, harm, invalid"),
        (lambda: Rollout(version(), version()).at(0), f"candidate: got 'dnn/{OLD}', rule: another version"),
        (lambda: kserve(traffic(10), 'A'), "name: got 'A', rule: a name of Kubernetes"),
        (lambda: kserve(traffic(10), 'a' * 64), 'name: got .*, rule: a name of Kubernetes'),
        (lambda: kserve(with_uris('/srv/{}/{}').at(10), 'a'), "model_uri: got '/srv/dnn/.*, rule: a URI that KServe"),
        (lambda: kserve(with_uris(None).at(10), 'a'), f'model_uri: got None, rule: recorded with dnn/{NEW}'),
        (lambda: kserve(numbered('v2').at(10), 'a'), "version: got 'v2', rule: a positive integer of 64 bits"),
        (lambda: tf_serving(traffic(10), 'a/b'), "name: got 'a/b', rule: the name of a model"),
        (lambda: tf_serving(traffic(10), ''), "name: got '', rule: the name of a model"),
        (lambda: tf_serving(numbered('0').at(10), 'a'), "version: got '0', rule: a positive integer"),
        (lambda: tf_serving(numbered('017').at(10), 'a'), "version: got '017', rule: a positive integer"),
        (lambda: tf_serving(numbered(str(2**63)).at(10), 'a'), f"version: got '{2**63}', rule: a positive integer"),
        (
            lambda: tf_serving(Rollout(version(), version(NEW, 'linear')).at(10), 'a'),
            "model_uri: got 'gs://bucket/dnn, gs://bucket/linear', rule: one folder of both versions",
        ),
        (lambda: tf_serving(with_uris('gs://b/{}/v{}').at(10), 'a'), f'model_uri: got .*, rule: a folder named {OLD}'),
        (lambda: vertex(traffic(10), 'flights'), "name: got 'flights', rule: projects/"),
        (lambda: vertex(traffic(10), ENDPOINT, 'dnn'), "deploy: got 'dnn', rule: projects/"),
        (lambda: vertex(numbered('17000000000').at(10), ENDPOINT), 'version: got .*, rule: 1 to 10 digits'),
        (lambda: vertex(numbered('0').at(10), ENDPOINT), 'version: got .*, rule: 1 to 10 digits'),
    ],
)
def test_what_breaks_a_rule(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=f'^{message}'):
        call()  # type: ignore[operator]


def with_uris(uri: str | None) -> Rollout:
    return Rollout(version(uri=uri), version(NEW, uri=uri))


def numbered(number: str) -> Rollout:
    return Rollout(version(), version(number))


@pytest.mark.parametrize('percent', [0, 10, 100])
def test_a_patch_for_kserve(percent: int) -> None:
    patch = json.loads(kserve(traffic(percent), 'flights'))
    assert (patch['apiVersion'], patch['kind']) == ('serving.kserve.io/v1beta1', 'InferenceService')
    assert patch['metadata'] == {'name': 'flights'}
    assert patch['spec']['predictor'] == {
        'canaryTrafficPercent': percent,
        'model': {'storageUri': None},
        'storageUris': [{'uri': f'gs://bucket/dnn/{NEW}', 'mountPath': f'/mnt/models/{NEW}'}],
    }


KSERVE = 'github.com/kserve/kserve@v0.17.0'


@pytest.fixture(scope='module')
def inference_service() -> dict[str, Any]:
    """The schema of KServe's own resource definition, from the Go module's cache."""
    if not shutil.which('go'):
        pytest.skip("the schema is in KServe's Go module, and there is no go")
    command, environ = ['go', 'mod', 'download', '-json', KSERVE], {**os.environ, 'GOPROXY': 'off', 'GOFLAGS': ''}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'the schema is in a Go module that is not here: go mod download {KSERVE}')
    folder = pathlib.Path(json.loads(done.stdout)['Dir'], 'config', 'crd', 'full')
    text = (folder / 'serving.kserve.io_inferenceservices.yaml').read_text()
    definition = yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
    (schema,) = [one['schema']['openAPIV3Schema'] for one in definition['spec']['versions'] if one['name'] == 'v1beta1']
    return schema


def unknown(value: Any, schema: dict[str, Any], path: str = '') -> list[str]:
    """Returns the fields that a schema does not have; the API server would drop them."""
    if isinstance(value, dict):
        known = schema.get('properties', {})
        lost = [f'{path}.{key}' for key in value if known and key not in known]
        return lost + [
            name for key in value if key in known for name in unknown(value[key], known[key], f'{path}.{key}')
        ]
    if isinstance(value, list):
        return [name for item in value for name in unknown(item, schema['items'], path)]
    return []


@pytest.mark.parametrize('percent', [0, 10, 100])
def test_the_patch_has_the_schema_of_kserve(percent: int, inference_service: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip('jsonschema', reason='schemas are checked by jsonschema')
    patch = json.loads(kserve(traffic(percent), 'flights'))
    assert unknown(patch, inference_service) == []
    # Applied to a service as it is made first, where null removes a field.
    predictor = patch['spec']['predictor']
    assert predictor.pop('model') == {'storageUri': None}
    predictor['model'] = {'modelFormat': {'name': 'tensorflow'}}
    validator = jsonschema.validators.validator_for(inference_service)(inference_service)  # the schema is not in doubt
    validator.validate(patch)
    predictor['canaryTrafficPercent'] = 'ten'
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(patch)


def test_versions_that_the_servers_see_elsewhere() -> None:
    plan = Rollout(version(uri='/srv/{}/{}'), version(NEW, uri='/srv/{}/{}'), base_directory='pvc://models/dnn/')
    (storage,) = json.loads(kserve(plan.at(10), 'flights'))['spec']['predictor']['storageUris']
    assert storage['uri'] == f'pvc://models/dnn/{NEW}'


@pytest.mark.parametrize(
    ('percent', 'labels'),
    [
        (0, {'stable': int(OLD), 'canary': int(OLD)}),
        (1, {'stable': int(OLD), 'canary': int(NEW)}),
        (99, {'stable': int(OLD), 'canary': int(NEW)}),
        (100, {'stable': int(NEW), 'canary': int(NEW)}),
    ],
)
@pytest.mark.parametrize('name', ['dnn', 'say "hi"\\ \n ü'])
def test_a_configuration_of_tensorflow_serving(percent: int, labels: dict[str, int], name: str) -> None:
    reason = 'the proto of TensorFlow Serving is in tensorflow-serving-api'
    protos = pytest.importorskip('tensorflow_serving.config.model_server_config_pb2', reason=reason)
    from google.protobuf import text_format

    text = tf_serving(traffic(percent), name)
    (config,) = text_format.Parse(text, protos.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (name, 'gs://bucket/dnn', 'tensorflow')
    assert list(config.model_version_policy.specific.versions) == [int(OLD), int(NEW)]
    assert dict(config.version_labels) == labels
    # A label can only be put on a version that is loaded.
    assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)
    assert text.startswith(f'# {percent} % of the requests')


@pytest.mark.parametrize(
    ('percent', 'split'), [(0, {OLD: 100}), (10, {OLD: 90, NEW: 10}), (99, {OLD: 1, NEW: 99}), (100, {NEW: 100})]
)
def test_a_split_of_a_vertex_endpoint(percent: int, split: dict[str, int]) -> None:
    body = json.loads(vertex(traffic(percent), ENDPOINT))
    assert body == {'name': ENDPOINT, 'trafficSplit': split}
    assert sum(split.values()) == 100
    assert dict(parsed('Endpoint', body).traffic_split) == split


@pytest.mark.parametrize(('percent', 'split'), [(0, {OLD: 100}), (10, {OLD: 90, '0': 10}), (100, {'0': 100})])
def test_a_deployment_on_a_vertex_endpoint(percent: int, split: dict[str, int]) -> None:
    body = json.loads(vertex(traffic(percent), ENDPOINT, MODEL, 'n1-standard-4'))
    request = parsed('DeployModelRequest', body)
    assert dict(request.traffic_split) == split
    model = request.deployed_model
    assert (model.id, model.model, model.display_name) == (NEW, MODEL, f'dnn-{NEW}')
    resources = model.dedicated_resources
    assert (resources.machine_spec.machine_type, resources.min_replica_count) == ('n1-standard-4', 1)


def parsed(kind: str, body: dict[str, object]):  # type: ignore[no-untyped-def]
    """Parses JSON as Google's own client does; unknown fields are errors."""
    types = pytest.importorskip('google.cloud.aiplatform_v1.types', reason='the protos are in google-cloud-aiplatform')
    from google.protobuf import json_format

    return json_format.ParseDict(body, getattr(types, kind).pb()())
