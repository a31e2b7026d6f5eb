"""The commands `tfx-cassandra models list|show|history|promote|rollback|repair`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfx_cassandra.components.cli.options import add_command, add_connection_arguments, connection_from
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.registry.registry import ANY, AliasMove, ModelRegistry, ModelVersion, unknown_alias
from tfx_cassandra.components.window import TimeWindow

_MOVE_COLUMNS = ('number', 'action', 'model_id', 'version', 'moved_at', 'reason')
_FINDING_COLUMNS = ('kind', 'what', 'since', 'remedy')
_NOTHING = 'nothing'
_LONGEST_AGE = 1_000_000  # hours, more than a century; dates end somewhere


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `models` and its commands; each sets `run` to a function from namespace to exit code."""
    about = 'Shows the versions of models, moves aliases, and mends what dead pushes left.'
    commands = add_command(subparsers, 'models', about, 'models list flight-delay').add_subparsers(
        required=True, metavar='command'
    )

    about = 'Lists the versions of an experiment, newest first, with the aliases that name them.'
    add = _add_command(commands, 'list', _list, about, 'models list flight-delay --model dnn --format json')
    add('experiment')
    add('--model', help='only versions of this model')
    add('--window', metavar='START/END', help='only versions created in [start, end), ISO-8601')

    about = 'Shows everything that is known of one version, named by model and version or by an alias.'
    add = _add_command(commands, 'show', _show, about, 'models show flight-delay champion')
    add('experiment')
    add('name', nargs='+', metavar='ALIAS | MODEL VERSION', help='an alias, or a model and its version')

    about = 'Lists the moves of an alias, newest first; the first is where it stands.'
    add = _add_command(commands, 'history', _history, about, 'models history flight-delay champion')
    add('experiment')
    add('alias')

    about = 'Lets an alias name a version. Where it names that version already nothing is changed.'
    example = 'models promote flight-delay champion dnn 1700000000 --expected 1690000000'
    add = _add_command(commands, 'promote', _promote, about, example)
    for name in ('experiment', 'alias', 'model', 'version'):
        add(name)
    _add_move_options(add, f'what the alias must name now: VERSION (of MODEL), MODEL/VERSION or `{_NOTHING}`')

    about = 'Lets an alias name what it named before the promotion it stands at. Each call goes back one promotion.'
    example = 'models rollback flight-delay champion --expected 1700000000 --reason "late flights"'
    add = _add_command(commands, 'rollback', _rollback, about, example)
    add('experiment')
    add('alias')
    _add_move_options(add, 'what the alias must name now: MODEL/VERSION, or VERSION where that is one model')

    about = (
        'Lists what pushes that died have left of a model: claims, versions without a row, temporary directories. With '
        '--apply it is mended. What is younger than --older-than is left, for a push may be at work on it. Exit code '
        '1 if anything is left unmended, otherwise 0.'
    )
    example = 'models repair flight-delay dnn --base-directory /serving/dnn --apply'
    add = _add_command(commands, 'repair', _repair, about, example)
    add('experiment')
    add('model')
    add('--base-directory', required=True, metavar='DIR', help='directory the model is pushed to')
    add('--apply', action='store_true', help='mend it; without this nothing is changed')
    add('--older-than', type=float, default=24.0, metavar='HOURS', help='longer than any push takes (default 24)')


def _add_move_options(add: Callable[..., argparse.Action], expected: str) -> None:
    add('--expected', metavar='MODEL/VERSION', help=f'{expected}; otherwise it is not moved')
    add('--reason', help='recorded with the move')


def _add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
    example: str,
) -> Callable[..., argparse.Action]:
    """Registers one command and returns the function that adds its arguments."""
    parser = add_command(commands, name, description, example)
    parser.add_argument('--format', choices=('table', 'json'), default='table', help='form of the output')
    add_connection_arguments(parser)
    parser.set_defaults(run=run)
    return parser.add_argument


def _list(options: argparse.Namespace) -> int:
    window = TimeWindow.parse(options.window) if options.window else None
    with ModelRegistry(connection_from(options)) as registry:
        versions = registry.list(options.experiment, window)
        moves = registry.aliases(options.experiment)
    rows = [_summary(each, moves) for each in versions if options.model in (None, each.model_id)]
    _write_rows(options, rows, ('model_id', 'version', 'created_at', 'aliases', 'ab_test_group', 'verdict', 'metrics'))
    return 0


def _summary(version: ModelVersion, moves: Sequence[AliasMove]) -> dict[str, Any]:
    names = [move.alias for move in moves if move.names(version.model_id, version.version)]
    return {**dataclasses.asdict(version), 'aliases': names}


def _show(options: argparse.Namespace) -> int:
    with ModelRegistry(connection_from(options)) as registry:
        model_id, version = _named(registry, options.experiment, options.name)
        found = registry.recorded(options.experiment, model_id, version)
        row = _summary(found, registry.aliases(options.experiment))
    if options.format == 'json':
        _write_json(row)
    else:
        metrics = {f'metrics {key}': value for key, value in row.pop('metrics').items()}
        _write_table([{'field': key, 'value': value} for key, value in {**row, **metrics}.items()], ('field', 'value'))
    return 0


def _named(registry: ModelRegistry, experiment: str, words: Sequence[str]) -> tuple[str, str]:
    """Returns model and version of `ALIAS` or `MODEL VERSION`."""
    if len(words) > 2:
        raise invalid('name', ' '.join(words), 'an alias, or a model and its version')
    if len(words) == 2:
        return words[0], words[1]
    move = _standing(registry, experiment, words[0])
    return move.model_id, move.version


def _standing(registry: ModelRegistry, experiment: str, alias: str) -> AliasMove:
    move = registry.alias(experiment, alias)
    if move is None:
        raise unknown_alias(experiment, alias)
    return move


def _history(options: argparse.Namespace) -> int:
    with ModelRegistry(connection_from(options)) as registry:
        moves = registry.history(options.experiment, options.alias)
    if not moves:
        raise unknown_alias(options.experiment, options.alias)
    _write_rows(options, [dataclasses.asdict(move) for move in moves], _MOVE_COLUMNS)
    return 0


def _promote(options: argparse.Namespace) -> int:
    with ModelRegistry(connection_from(options)) as registry:
        target = (options.experiment, options.alias, options.model, options.version)
        move = registry.promote(*target, expected=_expected(registry, options), reason=options.reason)
    _write_rows(options, [dataclasses.asdict(move)], _MOVE_COLUMNS)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    with ModelRegistry(connection_from(options)) as registry:
        expected = _expected(registry, options)
        if expected is None:
            raise invalid('expected', _NOTHING, 'a version: where there is none nothing can be rolled back')
        move = registry.rollback(options.experiment, options.alias, expected=expected, reason=options.reason)
    _write_rows(options, [dataclasses.asdict(move)], _MOVE_COLUMNS)
    return 0


def _expected(registry: ModelRegistry, options: argparse.Namespace) -> Any:
    """Returns the move that the alias must stand at for the version that the user expects."""
    if options.expected is None:
        return ANY
    if options.expected == _NOTHING:
        return None
    move = _standing(registry, options.experiment, options.alias)
    # What was promoted already is no surprise to who repeats the command.
    repeated = options.run is _promote and move.names(options.model, options.version)
    if not repeated and f'{move.model_id}/{move.version}' not in (options.expected, _whole(registry, options)):
        rule = f'naming version {options.expected!r}, but it names {move.version!r} of {move.model_id!r}'
        raise RegistryError(f'alias: got {options.alias!r}, rule: {rule}')
    return move


def _whole(registry: ModelRegistry, options: argparse.Namespace) -> str:
    """Returns MODEL/VERSION for a version that is expected by its number: of the model promoted, or rolled back."""
    if options.run is _promote:
        return f'{options.model}/{options.expected}'
    moves = registry.history(options.experiment, options.alias)
    names = sorted({f'{move.model_id}/{move.version}' for move in moves if move.version == options.expected})
    if len(names) > 1:
        raise invalid('expected', options.expected, f'one of {", ".join(names)}, all of which the alias has named')
    return ''.join(names)


def _repair(options: argparse.Namespace) -> int:
    # TensorFlow, which takes seconds to import, knows the file systems of other machines.
    from tfx_cassandra.components.registry import repair

    if not 0 <= options.older_than <= _LONGEST_AGE:
        raise invalid('older-than', options.older_than, f'hours from 0 to {_LONGEST_AGE}')
    limit = datetime.timedelta(hours=options.older_than)
    with ModelRegistry(connection_from(options)) as registry:
        where = (options.experiment, options.model, options.base_directory)
        findings = repair.find(registry, *where, age_limit=limit)
        rows, left = [], 0
        for finding in findings:
            row = {column: getattr(finding, column) for column in _FINDING_COLUMNS}
            mended = options.apply and finding.mend is not None
            if mended:
                try:
                    repair.mend(finding)
                    row['remedy'] = f'done: {finding.remedy}'
                except RegistryError as error:
                    mended, row['remedy'] = False, f'failed: {error}'
            left += not mended
            rows.append(row)
    _write_rows(options, rows, _FINDING_COLUMNS)
    return 1 if left else 0


def _write_rows(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if options.format == 'json':
        _write_json(rows)
    else:
        _write_table(rows, columns)


def _write_json(value: Any) -> None:
    # Times as ISO-8601, identifiers as text.
    text = json.dumps(value, indent=2, default=lambda each: getattr(each, 'isoformat', each.__str__)())
    sys.stdout.write(f'{text}\n')


def _write_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    lines = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(f'{"  ".join(padded).rstrip()}\n')


def _cell(value: Any) -> str:
    """Returns one line of text for a value: a mapping's first entries by key, times by the second."""
    if value is None:
        return '-'
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec='seconds')
    if isinstance(value, Mapping):
        shown = [f'{key}={number:.6g}' for key, number in sorted(value.items())[:3]]
        return ' '.join(shown + ['...'] * (len(value) > 3)) or '-'
    if isinstance(value, (list, tuple)):
        return ', '.join(map(str, value)) or '-'
    return ' '.join(str(value).split())
