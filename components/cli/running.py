"""The command `tfx-cassandra run-job`: runs a compiled pipeline on this machine."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from tfx_cassandra.components.cli.options import Command, described, format_option, pairs
from tfx_cassandra.components.cli.tables import print_rows
from tfx_cassandra.components.errors import invalid

_ABOUT = (
    'Runs a compiled pipeline on this machine as Vertex AI Pipelines would: each step as a process of its own, in an '
    "environment without this one's variables. It takes the compiled file, JSON or YAML, needs no container engine, "
    'reuses what earlier runs have made from equal inputs, and continues a run that has failed.'
)
_EXAMPLE = """run-job flights.yaml --parameter window=2013-01-01T00:00Z/2013-03-01T00:00Z
  tfx-cassandra run-job flights.yaml --resume flight-delay-20260101T120000
  tfx-cassandra run-job flights.yaml --python other/bin/python --env CASSANDRA_PASSWORD --parameter window=..."""
_MORE = 'exit codes: 0 no step failed, 1 a step failed, 2 wrong file or option, 130 interrupted'


@click.command('run-job', cls=Command, **described(_ABOUT, _EXAMPLE, _MORE))
@click.argument('job', metavar='FILE')
@click.option('--parameter', 'parameters', multiple=True, metavar='NAME=VALUE', help='Value of a parameter')
@click.option('--runs', default='runs', show_default=True, metavar='FOLDER', help='Folder of the runs')
@click.option('--artifacts', metavar='URI', help="Folder or URI of the artifacts  [default: in the run's folder]")
@click.option('--python', metavar='FILE', help='Interpreter of the steps  [default: this one]')
@click.option('--root', metavar='FOLDER', help="Root folder of the steps, such as an image's; needs the user root")
@click.option(
    '--image',
    'images',
    multiple=True,
    metavar='IMAGE=FOLDER',
    help="Root folder of the steps of an image; each step's image is then asked for",
)
@click.option(
    '--share', 'shared', multiple=True, metavar='FOLDER', help='With --root or --image: folder that steps see, too'
)
@click.option(
    '--env',
    'environment',
    multiple=True,
    metavar='NAME[=VALUE]',
    help="Variable of every step; without a value, this process's",
)
@click.option('--parallel', type=int, default=2, show_default=True, help='Steps at once at most')
@click.option('--no-cache', 'cache', is_flag=True, flag_value=False, default=True, help='Run every step anew')
@click.option('--resume', metavar='RUN', help='Continue a run that has failed')
@format_option
def run_job(
    job: str,
    parameters: tuple[str, ...],
    runs: str,
    artifacts: str | None,
    python: str | None,
    root: str | None,
    images: tuple[str, ...],
    shared: tuple[str, ...],
    environment: tuple[str, ...],
    parallel: int,
    cache: bool,
    resume: str | None,
    output_format: str,
) -> int:
    from tfx_cassandra.pipelines import vertex_local

    place = vertex_local.Place(
        os.path.abspath(python) if python else sys.executable,
        root and os.path.abspath(root),
        _variables(environment),
        tuple(map(os.path.abspath, shared)),
        {image: os.path.abspath(folder) for image, folder in _roots(images).items()},
    )
    summary = vertex_local.run_job(
        job,
        pairs('parameter', parameters),
        runs=runs,
        root=artifacts,
        place=place,
        parallel=parallel,
        cache=cache,
        resume=resume,
    )
    print_rows(_rows(summary) if output_format == 'table' else [summary], _COLUMNS, output_format)
    if summary['state'] != 'SUCCEEDED':
        failed = [name for name, task in summary['tasks'].items() if task['state'] == 'FAILED']
        print(
            f'tfx-cassandra: error: {", ".join(failed)} failed; continue by --resume {summary["run"]}', file=sys.stderr
        )
        return 1
    return 0


_COLUMNS = ('task', 'state', 'seconds', 'attempts')


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {'task': name, 'state': task['state'], 'seconds': f'{task["seconds"]:.1f}', 'attempts': task.get('attempts', 0)}
        for name, task in summary['tasks'].items()
    ]


def _roots(texts: tuple[str, ...]) -> dict[str, str]:
    roots = {}
    for text in texts:
        image, separator, folder = text.rpartition('=')
        if not (separator and image and folder):
            raise invalid('image', text, 'IMAGE=FOLDER')
        roots[image] = folder
    return roots


def _variables(texts: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for text in texts:
        name, separator, value = text.partition('=')
        if not separator and name not in os.environ:
            raise invalid('env', name, 'NAME=VALUE, or a variable that is set')
        values[name] = value if separator else os.environ[name]
    return values
