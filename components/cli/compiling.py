"""The command `tfx-cassandra compile`: a pipeline for Kubeflow Pipelines or Vertex AI Pipelines."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import click

from tfx_cassandra.components.cli.options import Command, connection_options, described, pairs
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.progress import step

_ABOUT = (
    'Compiles a pipeline for Kubeflow Pipelines (YAML) or Vertex AI Pipelines (JSON). The window or span, the '
    'experiment, model and alias, and the contact points, data center and keyspace become parameters of the compiled '
    'pipeline, with the values given here as defaults. Secrets are named, never written.'
)
_EXAMPLE = """compile flight-delay --to kfp --state gs://bucket/flights --settings steps.yaml --output flights.yaml
  tfx-cassandra compile ab --to vertex --state gs://bucket/flights --image REGISTRY/NAME@sha256:... --output ab.json
  tfx-cassandra compile my_package.pipelines:daily --to kfp --state gs://bucket/daily --set train_steps=200"""
_MORE = """MODULE:FUNCTION names a function of (connection, state, ...) that returns a TFX pipeline. Each further
positional argument becomes a parameter of the compiled pipeline, each keyword-only one is fixed by --set.
docs/kubeflow.md has the settings."""


@click.command('compile', cls=Command, **described(_ABOUT, _EXAMPLE, _MORE))
@click.argument('pipeline', metavar='flight-delay|ab|continuous|predictions|backfill|MODULE:FUNCTION')
@click.option('--to', 'target', type=click.Choice(['kfp', 'vertex']), required=True, help='Platform')
@click.option('--output', type=click.Path(path_type=pathlib.Path), required=True, metavar='FILE', help='File to write')
@click.option(
    '--state', required=True, metavar='URI', help='Folder of artifacts and pushed models, where every step reaches it'
)
@click.option('--settings', 'settings_file', metavar='FILE', help='YAML: resources, retries, secrets; docs/kubeflow.md')
@click.option('--image', metavar='IMAGE', help='Image of every step, best by digest  [default: of --settings]')
@click.option('--set', 'fixed', multiple=True, metavar='NAME=VALUE', help='Fixes an argument of the pipeline')
@click.option('--beam-arg', 'beam_args', multiple=True, metavar='ARG', help='Option of every Beam pipeline')
@connection_options
def compile_(
    connection: CassandraConnection,
    pipeline: str,
    target: Any,
    output: pathlib.Path,
    state: str,
    settings_file: str | None,
    image: str | None,
    fixed: tuple[str, ...],
    beam_args: tuple[str, ...],
) -> int:
    if '://' not in state and not os.path.isabs(state):
        raise invalid('state', state, 'a URI such as gs://bucket/folder, or an absolute path that every step reaches')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # what TensorFlow has to say of this machine's GPUs
    with step('load TFX'):
        from tfx_cassandra.kubeflow import compiler, parametrize
        from tfx_cassandra.kubeflow import settings as step_settings
    settings = step_settings.load(settings_file) if settings_file else step_settings.Settings()
    if image is not None:
        settings = dataclasses.replace(settings, image=image)
    if settings.tls_secret is not None:
        ca, certificate, key = (f'{step_settings.TLS_FOLDER}/{name}' for name in step_settings.TLS_FILES)
        connection = dataclasses.replace(connection, tls=Tls(ca, certificate, key))
    with step(f'compile {pipeline}') as progress:
        built, open_connection = parametrize.built(pipeline, connection, state, pairs('set', fixed))
        text = compiler.compiled(built, open_connection, target, settings, beam_args)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding='utf-8')
        progress.update(f'{len(built.components)} components into {output}')
    return 0
