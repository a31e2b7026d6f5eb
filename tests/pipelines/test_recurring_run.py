"""Recurring runs of compiled pipelines: what stands in the body, checked against KFP's own client and protos."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
import yaml

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.pipelines.recurring_run import SCHEDULED, Schedule, payload

CRON = '0 30 2 * * *'
SPEC: dict[str, Any] = {
    'schemaVersion': '2.1.0',
    'sdkVersion': 'tfx-1.16.0',
    'pipelineInfo': {'name': 'clicks'},
    'components': {
        'comp-gen': {
            'executorLabel': 'exec-gen',
            'inputDefinitions': {'parameters': {'span': {'parameterType': 'STRING'}}},
        }
    },
    'deploymentSpec': {'executors': {'exec-gen': {'container': {'image': 'i', 'command': ['true']}}}},
    'root': {
        'inputDefinitions': {
            'parameters': {
                'span': {'parameterType': 'STRING'},
                'as_of': {'parameterType': 'STRING', 'defaultValue': ''},
                'keyspace': {'parameterType': 'STRING', 'defaultValue': 'ml_features'},
                'steps': {'parameterType': 'NUMBER_INTEGER', 'defaultValue': 10},
            }
        },
        'dag': {
            'tasks': {
                'gen': {
                    'taskInfo': {'name': 'gen'},
                    'componentRef': {'name': 'comp-gen'},
                    'cachingOptions': {'enableCache': True},
                    'inputs': {'parameters': {'span': {'componentInputParameter': 'span'}}},
                }
            }
        },
    },
}
SECRET = {'secretAsEnv': [{'secretName': 'cassandra', 'keyToEnv': [{'secretKey': 'password', 'envVar': 'P'}]}]}
PLATFORM = {'platforms': {'kubernetes': {'deploymentSpec': {'executors': {'exec-gen': SECRET}}}}}


def saved(folder: pathlib.Path, *documents: dict[str, Any]) -> str:
    path = folder / 'clicks.yaml'
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


@pytest.fixture
def compiled(tmp_path: pathlib.Path) -> str:
    return saved(tmp_path, SPEC, PLATFORM)


def test_the_body_has_the_pipeline_its_secrets_by_name_and_all_parameters(compiled: str) -> None:
    body = payload(compiled, Schedule('daily', CRON), {'span': 'latest', 'as_of': SCHEDULED, 'steps': '20'})
    assert body == {
        'display_name': 'daily',
        'pipeline_spec': {'pipeline_spec': SPEC, 'platform_spec': PLATFORM},
        'runtime_config': {
            'parameters': {'span': 'latest', 'as_of': SCHEDULED, 'keyspace': 'ml_features', 'steps': 20}
        },
        'trigger': {'cron_schedule': {'cron': CRON}},
        'max_concurrency': '1',
        'mode': 'ENABLE',
        'no_catchup': True,
    }
    schedule = Schedule('daily', CRON, 'id', 'team', 'runner', 3, True)
    body = payload(compiled, schedule, {'span': '15706'}, 's3://bucket/root')
    assert body['runtime_config']['pipeline_root'] == 's3://bucket/root'
    assert (body['max_concurrency'], body['no_catchup']) == ('3', False)
    assert (body['experiment_id'], body['namespace'], body['service_account']) == ('id', 'team', 'runner')


def test_without_a_platform_the_specification_stands_alone(tmp_path: pathlib.Path) -> None:
    assert payload(saved(tmp_path, SPEC), Schedule('daily', CRON), {'span': '15706'})['pipeline_spec'] == SPEC


def test_the_body_has_the_fields_of_kfps_client(compiled: str) -> None:
    models = pytest.importorskip('kfp_server_api', reason='the models of the API are in kfp-server-api')
    schedule = Schedule('daily', CRON, 'id', 'team', 'runner')
    body = payload(compiled, schedule, {'span': 'latest', 'as_of': SCHEDULED}, 's3://bucket/root')
    check(body, models.V2beta1RecurringRun, models)
    spec = body['pipeline_spec']
    protos = pytest.importorskip('kfp.pipeline_spec.pipeline_spec_pb2', reason='the protos are in kfp-pipeline-spec')
    from google.protobuf import json_format

    parsed = json_format.ParseDict(spec['pipeline_spec'], protos.PipelineSpec())
    assert parsed.pipeline_info.name == 'clicks'
    json_format.ParseDict(spec['platform_spec'], protos.PlatformSpec())


def check(body: dict[str, Any], model: Any, models: Any) -> None:
    """Asserts that each field of a body is one of the model's, down through its parts."""
    names = {key: name for name, key in model.attribute_map.items()}
    for key, value in body.items():
        assert key in names, f'{model.__name__} has no {key}'
        kind = model.openapi_types[names[key]]
        part = getattr(models, kind, None)
        if hasattr(part, 'attribute_map') and isinstance(value, dict):
            check(value, part, models)
        elif kind in ('str', 'bool'):
            assert isinstance(value, {'str': str, 'bool': bool}[kind]), key


@pytest.mark.parametrize(
    'values',
    [
        {'span': 'latest', 'as_of': SCHEDULED},
        {'span': 'latest', 'as_of': '[[CurrentTime.2006-01-02T15:04:05Z]]'},
        {'span': '15706'},
        {'span': ''},
        {'span': '{"first": 15706, "last": 15712}'},
    ],
)
def test_spans_that_differ_from_run_to_run_or_never(values: dict[str, str], compiled: str) -> None:
    payload(compiled, Schedule('daily', CRON), values)


@pytest.mark.parametrize('span', ['latest', '{"count": 7}', '{"first": 15706, "count": 7}'])
def test_a_rolling_span_that_the_cache_would_hold(span: str, compiled: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=f'^span: got {re.escape(repr(span))}, rule: .* KFP would reuse the examples'):
        payload(compiled, Schedule('daily', CRON), {'span': span})
    fresh = json.loads(json.dumps(SPEC).replace('true', 'false'))
    payload(saved(tmp_path, fresh), Schedule('daily', CRON), {'span': span})


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--cron', '30 2 * * *'], "cron: got '30 2 * * *', rule: 6 fields, the first of them seconds"),
        (['--cron', CRON, '--parameter', 'window=x'], "parameter: got 'window', rule: one of the pipeline: as_of, "),
        (
            ['--cron', CRON, '--parameter', 'span=1', '--parameter', 'steps=many'],
            "parameter steps: got 'many', rule: of type NUMBER_INTEGER",
        ),
        (['--cron', CRON], 'parameter span: got None, rule: given, for it has no default'),
        (['--cron', CRON, '--concurrency', '0'], 'concurrency: got 0, rule: an integer of at least 1'),
        (['--cron', CRON, '--parameter', 'span'], "parameter: got 'span', rule: NAME=VALUE"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, compiled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['recurring-run', compiled, '--name', 'daily', *words]) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert (shown.out, line.startswith(f'tfx-cassandra: error: {message}')) == ('', True), line


def test_the_command_writes_the_body(compiled: str, tmp_path: pathlib.Path) -> None:
    output = tmp_path / 'new' / 'daily.json'
    words = ['--name', 'daily', '--cron', CRON, '--parameter', 'span=15706', '--output', str(output)]
    assert cli.main(['recurring-run', compiled, *words]) == 0
    assert json.loads(output.read_text()) == payload(compiled, Schedule('daily', CRON), {'span': '15706'})
