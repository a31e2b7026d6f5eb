"""The commands `tfx-cassandra ab run|report`."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Mapping

import click

from tfx_cassandra.components import protos
from tfx_cassandra.components.cli.options import Group, connection_options, described, format_option
from tfx_cassandra.components.cli.tables import print_rows
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.experiment.results import Verdict, decisive_interval
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.window import TimeWindow, parse_moment
from tfx_cassandra.proto import cassandra_pb2

# What needs TFX and Beam is imported where it runs: the other commands should not wait for it.

_DESIGN = """design.json:
  {"experiment_id": "flight-delay", "window": "2026-11-01T00:00Z/2026-11-02T00:00Z",
   "control": {"name": "control", "model_id": "m", "version": "1700000000", "weight": 0.5},
   "treatments": [{"name": "treatment", "model_id": "m", "version": "1700000001", "weight": 0.5}],
   "metrics": [{"name": "brier", "value": "squared_error:late", "better": "lower"}],
   "outcome_delay_seconds": 86400}"""


@click.group(
    cls=Group,
    **described(
        'Evaluates an A/B test from its logs, or shows a verdict.',
        'ab run --design design.json --output verdict',
    ),
)
def ab() -> None:
    """Holds the commands."""


@ab.command(
    **described(
        'Reads the requests and outcomes of the arms, writes verdict.json and report.html into a folder, and the '
        'metrics into the rows of the versions. Running it again changes nothing. Exit code 1 for harm and invalid.',
        'ab run --design design.json --output verdict',
        _DESIGN,
    )
)
@click.option(
    '--design', type=click.Path(path_type=pathlib.Path), required=True, metavar='FILE', help='The design, as JSON'
)
@click.option('--output', required=True, metavar='FOLDER', help='Folder for verdict.json and report.html')
@click.option('--requests-table', default='inference_results', show_default=True, help='Table of the requests')
@click.option('--as-of', metavar='TIME', help='Evaluate as at this time, ISO-8601 with an offset  [default: now]')
@format_option
@connection_options
def run(
    connection: CassandraConnection,
    design: pathlib.Path,
    output: str,
    requests_table: str,
    as_of: str | None,
    output_format: str,
) -> int:
    test = read_design(design)
    at = None if as_of is None else parse_moment('as-of', as_of)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # hides TensorFlow's messages about GPUs
    with step('load Beam and TFX'):
        import apache_beam as beam

        from tfx_cassandra.components.ab_evaluator import executor
        from tfx_cassandra.components.experiment.options import EvaluationOptions
    settings = EvaluationOptions(connection, test, requests_table, as_of=at)
    with step(f'evaluate {test.experiment_id}') as progress:
        verdict = executor.evaluate(beam.Pipeline, settings, output)
        progress.update(f'{sum(arm.requests for arm in verdict.arms):,} requests, {verdict.outcomes:,} outcomes')
    return _show(verdict, output_format)


@ab.command(
    **described(
        'Shows the verdict of a folder, or of the artifact at a URI. Exit code 1 for harm and invalid.',
        'ab report verdict --format json',
    )
)
@click.argument('folder')
@format_option
def report(folder: str, output_format: str) -> int:
    return _show(read_verdict(folder), output_format)


def read_design(path: pathlib.Path) -> Design:
    """Reads a design as JSON: the fields of the proto Design, those with a default only where they differ.

    The `design` of a verdict.json is one. The window may also be a text, START/END.

    Raises:
      ValueError: The file cannot be read, or a field breaks its rule.
    """
    try:
        given = json.loads(path.read_text())
        shorthand = given.get('window')
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise invalid('design', str(path), f'a readable file of JSON ({error})') from error
    if isinstance(shorthand, str):
        window = TimeWindow.parse(shorthand)
        given['window'] = {'start': window.start.isoformat(), 'end': window.end.isoformat()}
    return protos.from_json(Design, cassandra_pb2.Design, json.dumps(given), 'design')


def _show(verdict: Verdict, form: str) -> int:
    if form == 'json':
        click.echo(protos.to_json(verdict, cassandra_pb2.Verdict))
    else:
        _print(verdict)
    return 1 if verdict.verdict in ('harm', 'invalid') else 0


def _print(verdict: Verdict) -> None:
    winner = f', winner {verdict.winner}' if verdict.winner else ''
    click.echo(f'{verdict.experiment_id}: {verdict.verdict}{winner}')
    for reason in verdict.reasons:
        click.echo(f'  {reason}')
    click.echo()
    print_rows(list(_rows(verdict)), _COLUMNS, 'table')


_COLUMNS = ('metric', 'arm', 'version', 'n', 'value', 'difference', 'relative', 'low', 'high', 'p', 'conclusion')


def _rows(verdict: Verdict) -> Iterable[Mapping[str, str]]:
    for metric in verdict.design.metrics:
        for arm in verdict.arms:
            estimate = next(estimate for estimate in arm.estimates if estimate.metric == metric.name)
            row = [metric.name, arm.arm, arm.version, f'{estimate.n:,}', _short(estimate.value)]
            for result in (result for result in arm.metrics if result.metric == metric.name):
                decisive = decisive_interval(verdict.design, result) or (None, None, None)
                relative = '' if result.relative is None else f'{result.relative:+.1%}'
                row += [f'{result.difference:+.4g}', relative, *map(_short, decisive), result.conclusion]
            yield dict(itertools.zip_longest(_COLUMNS, row, fillvalue=''))


def _short(number: float | None) -> str:
    return '' if number is None else f'{number:.4g}'
