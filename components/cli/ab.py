"""The commands `tfx-cassandra ab run|report`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from tfx_cassandra.components import protos
from tfx_cassandra.components.cli.options import add_command, add_connection_arguments, connection_from
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.experiment.results import Verdict, deciding
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.window import TimeWindow, aware
from tfx_cassandra.proto import cassandra_pb2

# What needs TFX and Beam is imported where it runs: the other commands should not wait for it.

_EXAMPLE = """design.json:
  {"experiment_id": "flight-delay", "window": "2026-11-01T00:00Z/2026-11-02T00:00Z",
   "control": {"name": "control", "model_id": "m", "version": "1700000000", "weight": 0.5},
   "treatments": [{"name": "treatment", "model_id": "m", "version": "1700000001", "weight": 0.5}],
   "metrics": [{"name": "brier", "value": "squared_error:late", "better": "lower"}],
   "outcome_delay_seconds": 86400}
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `ab` and its commands; each sets `run` to a function from namespace to exit code."""
    about = 'Evaluates an A/B test out of what was logged, or shows what an evaluation found.'
    commands = add_command(subparsers, 'ab', about, 'ab run --design design.json --output verdict').add_subparsers(
        required=True, metavar='command'
    )
    about = (
        'Reads the requests and outcomes of the arms, writes verdict.json and report.html into a folder, and the '
        'metrics into the rows of the versions. Running it again changes nothing. Exit code 1 for harm and invalid.'
    )
    run = _add_command(commands, 'run', _run, about, 'ab run --design design.json --output verdict', _EXAMPLE)
    run.add_argument('--design', type=pathlib.Path, required=True, metavar='FILE', help='what is compared, as JSON')
    run.add_argument('--output', required=True, metavar='FOLDER', help='where verdict.json and report.html go')
    run.add_argument(
        '--requests-table', default='inference_results', help='table of the requests (default: %(default)s)'
    )
    run.add_argument('--as-of', metavar='TIME', help='evaluate as at this time, ISO-8601 with an offset (default: now)')
    add_connection_arguments(run)
    about = 'Shows the verdict of a folder, or of the artifact at a URI. Exit code 1 for harm and invalid.'
    report = _add_command(commands, 'report', _report, about, 'ab report verdict --format json')
    report.add_argument('folder', help='folder that holds verdict.json')


def _add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
    example: str,
    more: str = '',
) -> argparse.ArgumentParser:
    parser = add_command(commands, name, description, f'{example}\n\n{more}' if more else example)
    parser.add_argument('--format', choices=('table', 'json'), default='table', help='form of the output')
    parser.set_defaults(run=run)
    return parser


def _run(options: argparse.Namespace) -> int:
    design = read_design(options.design)
    connection = connection_from(options)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # what TensorFlow has to say of this machine's GPUs
    with step('load Beam and TFX'):
        import apache_beam as beam

        from tfx_cassandra.components.ab_evaluator import executor
        from tfx_cassandra.components.experiment.options import EvaluationOptions
    as_of = parse_time('as-of', options.as_of) if options.as_of else None
    settings = EvaluationOptions(connection, design, options.requests_table, as_of=as_of)
    with step(f'evaluate {design.experiment_id}') as progress:
        verdict = executor.evaluate(beam.Pipeline, settings, options.output)
        progress.update(f'{sum(arm.requests for arm in verdict.arms):,} requests, {verdict.outcomes:,} outcomes')
    return _show(verdict, options.format)


def _report(options: argparse.Namespace) -> int:
    path = pathlib.Path(options.folder) / 'verdict.json'
    if path.is_file():
        # Without TFX's file systems, which take seconds to import.
        try:
            text = path.read_text(encoding='utf-8')
        except (OSError, ValueError) as error:
            raise invalid('folder', str(path), f'a readable file of text ({error})') from error
        return _show(protos.from_json(Verdict, cassandra_pb2.Verdict, text), options.format)
    from tfx_cassandra.components.experiment.record import read_verdict

    return _show(read_verdict(options.folder), options.format)


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


def parse_time(field: str, text: str) -> datetime.datetime:
    """Returns the moment of an ISO-8601 text with an offset; raises ValueError for any other."""
    try:
        return aware(field, datetime.datetime.fromisoformat(text.replace('Z', '+00:00')))
    except ValueError as error:
        raise invalid(field, text, 'a moment in ISO 8601 with an offset from UTC') from error


def _show(verdict: Verdict, form: str) -> int:
    if form == 'json':
        sys.stdout.write(protos.to_json(verdict, cassandra_pb2.Verdict) + '\n')
    else:
        sys.stdout.write('\n'.join(_lines(verdict)) + '\n')
    return 1 if verdict.verdict in ('harm', 'invalid') else 0


def _lines(verdict: Verdict) -> Iterable[str]:
    winner = f', winner {verdict.winner}' if verdict.winner else ''
    yield f'{verdict.experiment_id}: {verdict.verdict}{winner}'
    yield from (f'  {reason}' for reason in verdict.reasons)
    yield ''
    head = ('metric', 'arm', 'version', 'n', 'value', 'difference', 'relative', 'low', 'high', 'p', 'conclusion')
    yield from _table([head, *_rows(verdict)])


def _rows(verdict: Verdict) -> Iterable[Sequence[str]]:
    for metric in verdict.design.metrics:
        for arm in verdict.arms:
            estimate = next(each for each in arm.estimates if each.metric == metric.name)
            row = [metric.name, arm.arm, arm.version, f'{estimate.n:,}', _short(estimate.value)]
            for result in (each for each in arm.metrics if each.metric == metric.name):
                decided = deciding(verdict.design, result) or (None, None, None)
                relative = '' if result.relative is None else f'{result.relative:+.1%}'
                row += [f'{result.difference:+.4g}', relative, *map(_short, decided), result.conclusion]
            yield row


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    for row in rows:
        yield '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()


def _short(number: float | None) -> str:
    return '' if number is None else f'{number:.4g}'
