"""The command `tfx-cassandra recurring-run`: a compiled pipeline on a schedule of Kubeflow Pipelines."""

from __future__ import annotations

import json
import pathlib

import click

from tfx_cassandra.components.cli.options import Command, described, pairs

_ABOUT = (
    'Writes the recurring run of a compiled pipeline, as Kubeflow Pipelines takes it at POST '
    '/apis/v2beta1/recurringruns. It sends nothing. The parameters are checked against those of the compiled file; '
    'their values may hold macros of Kubeflow Pipelines, such as [[ScheduledTime.2006-01-02T15:04:05Z]].'
)
_EXAMPLE = """recurring-run clicks.yaml --name clicks-daily --cron '0 30 2 * * *' --parameter span=latest \\
    --parameter 'as_of=[[ScheduledTime.2006-01-02T15:04:05Z]]' --output clicks.json
  curl -H 'Content-Type: application/json' -d @clicks.json http://ml-pipeline.kubeflow:8888/apis/v2beta1/recurringruns"""


@click.command('recurring-run', cls=Command, **described(_ABOUT, _EXAMPLE))
@click.argument('job', metavar='FILE')
@click.option('--name', required=True, help='Shown in the list of recurring runs')
@click.option('--cron', required=True, metavar='CRON', help='6 fields in UTC, the first of them seconds')
@click.option('--parameter', 'parameters', multiple=True, metavar='NAME=VALUE', help='Value of a parameter')
@click.option('--pipeline-root', metavar='URI', help="Folder of the artifacts  [default: KFP's]")
@click.option('--experiment-id', metavar='ID', help="Experiment  [default: KFP's]")
@click.option('--namespace', help='Profile, where Kubeflow has several users')
@click.option('--service-account', help="Of the steps' pods  [default: KFP's]")
@click.option('--concurrency', type=int, default=1, show_default=True, help='Runs at once at most')
@click.option('--catch-up', is_flag=True, help='Make up for runs that were missed')
@click.option('--output', type=click.Path(path_type=pathlib.Path), metavar='FILE', help='File  [default: prints it]')
def recurring_run(
    job: str,
    name: str,
    cron: str,
    parameters: tuple[str, ...],
    pipeline_root: str | None,
    experiment_id: str | None,
    namespace: str | None,
    service_account: str | None,
    concurrency: int,
    catch_up: bool,
    output: pathlib.Path | None,
) -> int:
    from tfx_cassandra.pipelines.recurring_run import Schedule, payload

    schedule = Schedule(name, cron, experiment_id, namespace, service_account, concurrency, catch_up)
    text = json.dumps(payload(job, schedule, pairs('parameter', parameters), pipeline_root), indent=2) + '\n'
    if output is None:
        print(text, end='')
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding='utf-8')
    return 0
