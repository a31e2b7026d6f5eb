"""The command `tfx-cassandra leaks`."""

from __future__ import annotations

import argparse
import datetime
import os
import sys

from tfx_cassandra.components.cli.options import add_command
from tfx_cassandra.components.errors import invalid


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `leaks`; it sets `run` to a function from namespace to exit code."""
    about = (
        'Compares the splits of examples and lists what they share. Exit code 1 if they share anything, otherwise 0.'
    )
    example = 'leaks /pipeline/CassandraExampleGen/examples/1 --entity user,shop --time at --gap-hours 168'
    parser = add_command(subparsers, 'leaks', about, example)
    parser.add_argument('uri', help='folder of an Examples artifact: the one with Split-train in it')
    parser.add_argument(
        'splits', nargs='*', default=['train', 'eval'], help='in the order of time (default train eval)'
    )
    parser.add_argument('--entity', metavar='FEATURE[,FEATURE]', help='an entity, told by these, must not be in two')
    parser.add_argument('--time', metavar='FEATURE', help='no time of a split may reach into that of a later one')
    parser.add_argument(
        '--gap-hours', type=float, default=0.0, metavar='HOURS', help='that must lie between (default 0)'
    )
    parser.set_defaults(run=_leaks)


def _paths(uri: str, split: str) -> list[str]:
    """Returns the files of a split."""
    import tensorflow as tf
    from tfx.dsl.io import fileio

    try:
        return sorted(map(str, fileio.glob(os.path.join(uri, f'Split-{split}', '*'))))
    except (OSError, UnicodeError, tf.errors.OpError) as error:
        raise invalid('uri', uri, f'a folder that can be read ({" ".join(str(error).split())})') from error


def _leaks(options: argparse.Namespace) -> int:
    # Only here: TensorFlow takes seconds to import, and every command would wait for it.
    from tfx_cassandra.components.dataset.join import leaks

    entity = [name for name in (options.entity or '').split(',') if name]
    if len(set(options.splits)) < max(2, len(options.splits)):
        raise invalid('splits', ' '.join(options.splits), 'two or more, each once')
    if not entity and not options.time:
        raise invalid('--entity', options.entity, 'this or --time')
    columns, splits = [*entity, *filter(None, [options.time])], {}
    for name in options.splits:
        paths = _paths(options.uri, name)
        if not paths:
            raise invalid('splits', name, f'a folder Split-{name} with files in {options.uri}')
        splits[name] = leaks.read(paths, columns)
        sys.stdout.write(f'{name}: {splits[name].num_rows} examples\n')
    found = leaks.find(splits, entity, options.time, _hours(options.gap_hours))
    sys.stdout.write(('\n'.join(map(str, found)) or 'no leak') + '\n')
    return 1 if found else 0


def _hours(hours: float) -> datetime.timedelta:
    try:
        return datetime.timedelta(hours=hours)
    except (OverflowError, ValueError) as error:  # too many, or not a number
        raise invalid('--gap-hours', hours, 'a number of hours, at most a million years') from error
