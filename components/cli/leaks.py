"""The command `tfx-cassandra leaks`."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import click

from tfx_cassandra.components.cli.options import Command, described, format_option
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.errors import invalid


@click.command(
    cls=Command,
    **described(
        'Compares the splits of examples and lists what they share. URI is the folder of an Examples artifact, the one '
        'with Split-train in it; SPLITS are their names in the order of time (default: train eval). Exit code 1 if '
        'they share anything, otherwise 0.',
        'leaks /pipeline/CassandraExampleGen/examples/1 --entity user,shop --time at --gap-hours 168',
    ),
)
@click.argument('uri')
@click.argument('splits', nargs=-1)
@click.option('--entity', metavar='FEATURE[,FEATURE]', help='Columns of the entity that only one split may have')
@click.option('--time', metavar='FEATURE', help='Time column; a split must end before a later one starts')
@click.option(
    '--gap-hours', type=float, default=0.0, show_default=True, metavar='HOURS', help='Time that must lie between splits'
)
@format_option
def leaks(
    uri: str, splits: Sequence[str], entity: str | None, time: str | None, gap_hours: float, output_format: str
) -> int:
    # Only here: TensorFlow takes seconds to import, and every command would wait for it.
    from tfx_cassandra.components.dataset.join import leaks as leakage

    keys = [name for name in (entity or '').split(',') if name]
    names = splits or ('train', 'eval')
    if len(set(names)) < max(2, len(names)):
        raise invalid('splits', ' '.join(names), 'two or more, each once')
    if not keys and not time:
        raise invalid('--entity', entity, 'this or --time')
    tables = {}
    for name in names:
        paths = _paths(uri, name)
        if not paths:
            raise invalid('splits', name, f'a folder Split-{name} with files in {uri}')
        tables[name] = leakage.read(paths, [*keys, *filter(None, [time])])
    found = list(map(str, leakage.find(tables, keys, time, _hours(gap_hours))))
    if output_format == 'json':
        print_json({'examples': {name: table.num_rows for name, table in tables.items()}, 'leaks': found})
    else:
        for name, table in tables.items():
            click.echo(f'{name}: {table.num_rows} examples')
        click.echo('\n'.join(found) or 'no leak')
    return 1 if found else 0


def _paths(uri: str, split: str) -> list[str]:
    """Returns the files of a split."""
    import tensorflow as tf
    from tfx.dsl.io import fileio

    try:
        return sorted(map(str, fileio.glob(os.path.join(uri, f'Split-{split}', '*'))))
    except (OSError, UnicodeError, tf.errors.OpError) as error:
        raise invalid('uri', uri, f'a folder that can be read ({" ".join(str(error).split())})') from error


def _hours(hours: float) -> datetime.timedelta:
    try:
        return datetime.timedelta(hours=hours)
    except (OverflowError, ValueError) as error:  # too many, or not a number
        raise invalid('--gap-hours', hours, 'a number of hours, at most a million years') from error
