"""Compiles a TFX pipeline for Kubeflow Pipelines (YAML) or Vertex AI Pipelines (JSON), with what TFX leaves out.

TFX's KubeflowV2DagRunner compiles tasks, inputs and commands. It ignores environments, secrets, retries and defaults of
parameters (tfx#7765, #6146), so they are put into what it made: into the pipeline's own specification what both
platforms understand, and into a Kubernetes platform specification, the second document of the YAML, what Kubeflow alone
does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import yaml
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline
from tfx.utils import name_utils

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.kubeflow import kubernetes, secret_manager
from tfx_cassandra.kubeflow.entrypoint import ARTIFACT_CLASSES
from tfx_cassandra.kubeflow.settings import TLS_FOLDER, Settings

_RETRY_SECONDS = 30.0
COMMAND = ('python', '-m', 'tfx_cassandra.kubeflow.entrypoint')

Target = Literal['kfp', 'vertex']


def compiled(
    pipeline: Pipeline,
    connection: CassandraConnection,
    target: Target,
    settings: Settings,
    beam_args: Sequence[str] = (),
) -> str:
    """Returns the text of a compiled pipeline.

    Args:
      pipeline: What to compile; its RuntimeParameters become parameters of the pipeline.
      connection: Names the variable of the password and the files of TLS that the components use.
      target: 'kfp' for YAML of schema 2.1 with the platform specification of Kubernetes, 'vertex' for a PipelineJob.
      settings: What the steps run in.
      beam_args: Options of the Beam pipelines of the steps that have one.

    Returns:
      The YAML or JSON. It holds names of secrets, no values, and no path of this machine.

    Raises:
      ValueError: The settings do not fit the pipeline or the target.
    """
    components = [component for component in pipeline.components if isinstance(component, BaseComponent)]
    _check(components, connection, settings)
    images: dict[str, str] = {component.id: settings.of(component.id).image or '' for component in components}
    # TFX wants a default, which no component here takes.
    config = KubeflowV2DagRunnerConfig(
        default_image={**images, 'default_image_path': settings.image or 'none'},
        default_commands=list(COMMAND),
        use_pipeline_spec_2_1=True,
    )
    job = KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    spec = job['pipelineSpec']
    for component in components:
        _complete(spec, component, settings, beam_args)
    for name, default in _defaults(components):
        spec['root']['inputDefinitions']['parameters'][name] |= {'defaultValue': default, 'isOptional': True}
    if target == 'kfp':
        return _kfp(spec, pipeline, components, connection, settings)
    return _vertex(job, components, connection, settings)


def uses_cassandra(component: BaseComponent) -> bool:
    """Whether a component connects to a cluster, and so needs its secrets."""
    return 'contact_points' in component.spec.PARAMETERS


def _check(components: list[BaseComponent], connection: CassandraConnection, settings: Settings) -> None:
    ids = [component.id for component in components]
    for step in settings.steps:
        if step not in ids:
            raise invalid('steps', step, f'a component of the pipeline: {", ".join(ids)}')
    for step in ids:
        if not settings.of(step).image:
            raise invalid('image', None, f'given for {step}, best by digest: registry/name@sha256:...')
    if (connection.password_env is None) != (settings.password_secret is None):
        rule = "given together with the connection's username and password_env"
        raise invalid('password_secret', settings.password_secret, rule)
    if settings.tls_secret is not None and connection.tls is None:
        raise invalid('tls_secret', settings.tls_secret, f'with a connection whose tls files lie in {TLS_FOLDER}')
    for step in ids:
        if connection.password_env in settings.of(step).env:
            raise invalid(f'steps.{step}.env', connection.password_env, 'no secret; see password_secret')


def _complete(spec: dict[str, Any], component: BaseComponent, settings: Settings, beam_args: Sequence[str]) -> None:
    """Puts into a step what both platforms read: arguments of the entry point, environment, resources, retries."""
    of_step = settings.of(component.id)
    container = spec['deploymentSpec']['executors'][f'{component.id}_executor']['container']
    channels = {**component.spec.INPUTS, **component.spec.OUTPUTS}
    classes = {key: name_utils.get_full_name(channel.type) for key, channel in channels.items()}
    container['args'] = [
        '--component', component.id, ARTIFACT_CLASSES, json.dumps(classes, sort_keys=True), *container['args']
    ]  # fmt: skip
    if isinstance(component.executor_spec, BeamExecutorSpec):
        container['args'] += beam_args
    if of_step.env:
        container['env'] = [{'name': name, 'value': value} for name, value in sorted(of_step.env.items())]
    resources = dict(container.get('resources') or {})
    if of_step.cpu is not None:
        resources |= {'cpuLimit': of_step.cpu, 'cpuRequest': of_step.cpu}
    if of_step.memory_gb is not None:
        resources |= {'memoryLimit': of_step.memory_gb, 'memoryRequest': of_step.memory_gb}
    if of_step.accelerator is not None:
        resources['accelerator'] = {'type': of_step.accelerator.type, 'count': str(of_step.accelerator.count)}
    if resources:
        container['resources'] = resources
    if of_step.retries:
        spec['root']['dag']['tasks'][component.id]['retryPolicy'] = {
            'maxRetryCount': of_step.retries,
            'backoffDuration': f'{of_step.retry_seconds or _RETRY_SECONDS:g}s',
            'backoffFactor': 2.0,
            'backoffMaxDuration': '3600s',
        }


def _defaults(components: list[BaseComponent]) -> Iterator[tuple[str, Any]]:
    """Yields the pipeline's parameters that have a default, and the default; TFX leaves it out."""
    for component in components:
        for value in component.exec_properties.values():
            if isinstance(value, RuntimeParameter) and value.default is not None:
                yield value.name, value.default


def _kfp(
    spec: dict[str, Any],
    pipeline: Pipeline,
    components: list[BaseComponent],
    connection: CassandraConnection,
    settings: Settings,
) -> str:
    spec['defaultPipelineRoot'] = pipeline.pipeline_info.pipeline_root
    documents = [spec]
    executors = {
        f'{component.id}_executor': kubernetes.pod(
            settings.of(component.id), settings, connection.password_env if uses_cassandra(component) else None,
            uses_cassandra(component),
        )
        for component in components
    }  # fmt: skip
    executors = {label: pod for label, pod in executors.items() if pod}
    if executors:
        documents.append({'platforms': {'kubernetes': {'deploymentSpec': {'executors': executors}}}})
    name = pipeline.pipeline_info.pipeline_name
    return f'# PIPELINE DEFINITION\n# Name: {name}\n' + yaml.safe_dump_all(documents, sort_keys=True)


def _vertex(
    job: dict[str, Any], components: list[BaseComponent], connection: CassandraConnection, settings: Settings
) -> str:
    for component in components:
        of_step = settings.of(component.id)
        for field, value in (
            ('node_selector', of_step.node_selector), ('tolerations', of_step.tolerations), ('labels', of_step.labels)
        ):  # fmt: skip
            if value:
                raise invalid(f'steps.{component.id}.{field}', value, 'for Kubernetes only (--to kfp)')
    variables, files = settings.vertex_secrets(connection.password_env)
    executors = job['pipelineSpec']['deploymentSpec']['executors']
    for component in filter(uses_cassandra, components):
        environment = executors[f'{component.id}_executor']['container'].setdefault('env', [])
        for name, secrets in ((secret_manager.ENV, variables), (secret_manager.FILES, files)):
            if secrets:
                environment.append({'name': name, 'value': json.dumps(secrets, sort_keys=True)})
    job['labels'] = {**job.get('labels', {}), **settings.labels}
    return json.dumps(job, indent=1, sort_keys=True) + '\n'
