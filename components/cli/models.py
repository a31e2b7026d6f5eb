"""The commands `tfx-cassandra models list|show|history|promote|rollback|rollout|repair`."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

import click

from tfx_cassandra.components.cli.options import Group, connection_options, described, format_option
from tfx_cassandra.components.cli.rollout import rollout
from tfx_cassandra.components.cli.tables import print_json, print_rows
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.registry.registry import ANY, AliasMove, ModelRegistry, ModelVersion, unknown_alias
from tfx_cassandra.components.window import TimeWindow

_VERSION_COLUMNS = ('model_id', 'version', 'created_at', 'aliases', 'ab_test_group', 'verdict', 'metrics')
_MOVE_COLUMNS = ('number', 'action', 'model_id', 'version', 'moved_at', 'reason')
_FINDING_COLUMNS = ('kind', 'what', 'since', 'remedy')
_NOTHING = 'nothing'
_MAX_AGE = 1_000_000  # hours, more than a century; dates end somewhere


@click.group(
    cls=Group,
    **described(
        'Shows the versions of models, points aliases at them, and repairs interrupted pushes.',
        'models list flight-delay',
    ),
)
def models() -> None:
    """Holds the commands."""


models.add_command(rollout)


def _shared(command: Callable[..., int]) -> Callable[..., int]:
    """Adds what every command takes: the experiment, the form of the output, the connection."""
    return click.argument('experiment')(format_option(connection_options(command)))


def _move_options(expected: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    def add(command: Callable[..., int]) -> Callable[..., int]:
        command = click.option('--reason', help='Recorded with the move')(command)
        about = f'{expected}; otherwise it is not moved'
        return click.option('--expected', metavar='MODEL/VERSION', help=about)(command)

    return add


@models.command(
    'list',
    **described(
        'Lists the versions of an experiment, newest first, with the aliases that point at them.',
        'models list flight-delay --model dnn --format json',
    ),
)
@_shared
@click.option('--model', help='Only versions of this model')
@click.option('--window', metavar='START/END', help='Only versions created in [start, end), ISO-8601')
def list_(
    connection: CassandraConnection, experiment: str, output_format: str, model: str | None, window: str | None
) -> int:
    created = TimeWindow.parse(window) if window else None
    with ModelRegistry(connection) as registry:
        versions = registry.list(experiment, created)
        moves = registry.aliases(experiment)
    rows = [_summary(version, moves) for version in versions if model in (None, version.model_id)]
    print_rows(rows, _VERSION_COLUMNS, output_format)
    return 0


def _summary(version: ModelVersion, moves: Sequence[AliasMove]) -> dict[str, Any]:
    names = [move.alias for move in moves if move.names(version.model_id, version.version)]
    return {**dataclasses.asdict(version), 'aliases': names}


@models.command(
    **described(
        'Shows all recorded details of one version, named by model and version or by an alias.',
        'models show flight-delay champion',
    )
)
@_shared
@click.argument('name', nargs=-1, required=True, metavar='ALIAS | MODEL VERSION')
def show(connection: CassandraConnection, experiment: str, output_format: str, name: tuple[str, ...]) -> int:
    with ModelRegistry(connection) as registry:
        model_id, version = _named(registry, experiment, name)
        found = registry.recorded(experiment, model_id, version)
        row = _summary(found, registry.aliases(experiment))
    if output_format == 'json':
        print_json(row)
        return 0
    metrics = {f'metrics {key}': value for key, value in row.pop('metrics').items()}
    fields = [{'field': key, 'value': value} for key, value in {**row, **metrics}.items()]
    print_rows(fields, ('field', 'value'), output_format)
    return 0


def _named(registry: ModelRegistry, experiment: str, words: Sequence[str]) -> tuple[str, str]:
    """Returns model and version of `ALIAS` or `MODEL VERSION`."""
    if len(words) > 2:
        raise invalid('name', ' '.join(words), 'an alias, or a model and its version')
    if len(words) == 2:
        return words[0], words[1]
    move = _current(registry, experiment, words[0])
    return move.model_id, move.version


def _current(registry: ModelRegistry, experiment: str, alias: str) -> AliasMove:
    move = registry.alias(experiment, alias)
    if move is None:
        raise unknown_alias(experiment, alias)
    return move


@models.command(
    **described(
        'Lists the moves of an alias, newest first; the first is where it points now.',
        'models history flight-delay champion',
    )
)
@_shared
@click.argument('alias')
def history(connection: CassandraConnection, experiment: str, output_format: str, alias: str) -> int:
    with ModelRegistry(connection) as registry:
        moves = registry.history(experiment, alias)
    if not moves:
        raise unknown_alias(experiment, alias)
    print_rows([dataclasses.asdict(move) for move in moves], _MOVE_COLUMNS, output_format)
    return 0


@models.command(
    **described(
        'Points an alias at a version. Where it points at that version already nothing is changed.',
        'models promote flight-delay champion dnn 1700000000 --expected 1690000000',
    )
)
@_shared
@click.argument('alias')
@click.argument('model')
@click.argument('version')
@_move_options(f'What the alias must point at now: VERSION (of MODEL), MODEL/VERSION or `{_NOTHING}`')
def promote(
    connection: CassandraConnection, experiment: str, output_format: str, alias: str, model: str, version: str,
    expected: str | None, reason: str | None,
) -> int:  # fmt: skip
    with ModelRegistry(connection) as registry:
        wanted: Any = ANY
        if expected == _NOTHING:
            wanted = None
        elif expected is not None:
            wanted = _current(registry, experiment, alias)
            # What was promoted already is no surprise to who repeats the command.
            if not wanted.names(model, version):
                _check_expected(wanted, expected, f'{model}/{expected}')
        move = registry.promote(experiment, alias, model, version, expected=wanted, reason=reason)
    print_rows([dataclasses.asdict(move)], _MOVE_COLUMNS, output_format)
    return 0


@models.command(
    **described(
        'Points an alias at what it pointed at before its latest promotion. Each call goes back one promotion.',
        'models rollback flight-delay champion --expected 1700000000 --reason "late flights"',
    )
)
@_shared
@click.argument('alias')
@_move_options('What the alias must point at now: MODEL/VERSION, or VERSION where that is one model')
def rollback(
    connection: CassandraConnection, experiment: str, output_format: str, alias: str, expected: str | None,
    reason: str | None,
) -> int:  # fmt: skip
    if expected == _NOTHING:
        raise invalid('expected', _NOTHING, 'a version: where there is none nothing can be rolled back')
    with ModelRegistry(connection) as registry:
        wanted: Any = ANY
        if expected is not None:
            wanted = _current(registry, experiment, alias)
            _check_expected(wanted, expected, _version_of_history(registry, experiment, alias, expected))
        move = registry.rollback(experiment, alias, expected=wanted, reason=reason)
    print_rows([dataclasses.asdict(move)], _MOVE_COLUMNS, output_format)
    return 0


def _check_expected(move: AliasMove, expected: str, whole: str) -> None:
    """Raises RegistryError unless a move is at the version expected, given as MODEL/VERSION or as a `whole` one."""
    if f'{move.model_id}/{move.version}' not in (expected, whole):
        rule = f'naming version {expected!r}, but it names {move.version!r} of {move.model_id!r}'
        raise RegistryError(f'alias: got {move.alias!r}, rule: {rule}')


def _version_of_history(registry: ModelRegistry, experiment: str, alias: str, expected: str) -> str:
    """Returns MODEL/VERSION for a version that an alias has pointed at, given by its number; '' for none."""
    moves = registry.history(experiment, alias)
    names = sorted({f'{move.model_id}/{move.version}' for move in moves if move.version == expected})
    if len(names) > 1:
        raise invalid('expected', expected, f'one of {", ".join(names)}, all of which the alias has named')
    return ''.join(names)


@models.command(
    **described(
        'Lists what interrupted pushes have left of a model: claims, versions without a row, temporary directories. '
        '--apply repairs them. Anything younger than --older-than is skipped: its push may still be running. Exit '
        'code 1 if anything is left unrepaired, otherwise 0.',
        'models repair flight-delay dnn --base-directory /serving/dnn --apply',
    )
)
@_shared
@click.argument('model')
@click.option('--base-directory', required=True, metavar='DIR', help='Directory the model is pushed to')
@click.option('--apply', is_flag=True, help='Repair the findings; without it nothing is changed')
@click.option(
    '--older-than', type=float, default=24.0, show_default=True, metavar='HOURS', help='Longer than any push takes'
)
def repair(
    connection: CassandraConnection, experiment: str, output_format: str, model: str, base_directory: str,
    apply: bool, older_than: float,
) -> int:  # fmt: skip
    # TensorFlow, which takes seconds to import, knows the file systems of other machines.
    from tfx_cassandra.components.registry import repair as repairs

    if not 0 <= older_than <= _MAX_AGE:
        raise invalid('older-than', older_than, f'hours from 0 to {_MAX_AGE}')
    limit = datetime.timedelta(hours=older_than)
    with ModelRegistry(connection) as registry:
        rows, unrepaired = [], 0
        for finding in repairs.find(registry, experiment, model, base_directory, age_limit=limit):
            row = {column: getattr(finding, column) for column in _FINDING_COLUMNS}
            repaired = apply and finding.mend is not None
            if repaired:
                try:
                    repairs.mend(finding)
                    row['remedy'] = f'done: {finding.remedy}'
                except RegistryError as error:
                    repaired, row['remedy'] = False, f'failed: {error}'
            unrepaired += not repaired
            rows.append(row)
    print_rows(rows, _FINDING_COLUMNS, output_format)
    return 1 if unrepaired else 0
