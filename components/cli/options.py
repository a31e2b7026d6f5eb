"""How commands are declared: help with an example, and the options that several of them share."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import click

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid


class _Example:
    """Ends the help of a command with its example, line by line as written; click would fill the lines."""

    epilog: str | None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f'\n{self.epilog}\n')


class Command(_Example, click.Command):
    """A command whose help ends with an example."""


class Group(_Example, click.Group):
    """Commands of one subject; its help ends with an example."""

    command_class = Command


def described(about: str, example: str, more: str = '') -> dict[str, Any]:
    """Returns the help texts of a command, as keyword arguments of `click.command` and `click.group`.

    Args:
      about: What the command does; the first sentence stands in the list of commands.
      example: A command line without the program's name, and perhaps more lines.
      more: What follows the example.
    """
    epilog = f'example:\n  tfx-cassandra {example}' + (f'\n\n{more}' if more else '')
    return {'help': about, 'short_help': about.partition('.')[0], 'epilog': epilog}


_CONNECTION = (
    click.option('--contact-points', metavar='HOST[,HOST]', help='Nodes to connect to  [default: 127.0.0.1]'),
    click.option('--port', type=int, help='CQL port  [default: 9042]'),
    click.option('--local-datacenter', metavar='DC', help='Data center that coordinates requests  [default: dc1]'),
    click.option('--keyspace', help='Keyspace of the tables  [default: ml_features]'),
    click.option('--username', help='User name'),
    click.option(
        '--password-env',
        metavar='VARIABLE',
        help='Environment variable that holds the password  [default: CASSANDRA_PASSWORD]',
    ),
)


def connection_options(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the options that say how to reach a cluster; the function gets them as one argument, `connection`.

    Each option that is not given comes from its CASSANDRA_* environment variable.
    """

    @functools.wraps(command)
    def run(**options: Any) -> int:
        given = {field: options.pop(field) for field in _FIELDS}
        return command(connection=_connection(given), **options)

    for option in reversed(_CONNECTION):
        run = option(run)
    return run


_FIELDS = ('contact_points', 'port', 'local_datacenter', 'keyspace', 'username', 'password_env')

format_option = click.option(
    '--format',
    'output_format',
    type=click.Choice(('table', 'json')),
    default='table',
    show_default=True,
    help='Form of the output',
)


def _connection(given: dict[str, Any]) -> CassandraConnection:
    """Builds the connection from options and the environment; raises ValueError for a bad value."""
    if given['contact_points'] is not None:
        given['contact_points'] = tuple(filter(None, given['contact_points'].split(',')))
    if given['username'] and not given['password_env']:
        given['password_env'] = 'CASSANDRA_PASSWORD'
    set_options = {field: value for field, value in given.items() if value is not None}
    return dataclasses.replace(CassandraConnection.from_env(), **set_options)


_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}


def duration(option: str, text: str) -> datetime.timedelta:
    """Returns the text of an option, such as 3600s, 12h or 30d, as a length of time; raises ValueError for another."""
    match = re.fullmatch(r'(\d{1,10})([smhd]?)', text, re.ASCII)
    if match is None:
        raise invalid(option, text, 'a time such as 3600s, 12h or 30d')
    return datetime.timedelta(seconds=int(match[1]) * _UNITS[match[2] or 's'])


def rate(option: str, text: str) -> float:
    """Returns the text of an option, such as 5/s, 0.5/m or 24/d, as a number a second; raises ValueError for others."""
    match = re.fullmatch(r'(\d{1,10}(?:\.\d{1,9})?)/([smhd])', text, re.ASCII)
    if match is None:
        raise invalid(option, text, 'a number of rows a time, such as 5/s, 0.5/m or 24/d')
    return float(match[1]) / _UNITS[match[2]]


def pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """Returns the texts `NAME=VALUE` of an option as a mapping; raises ValueError for any other text."""
    values = {}
    for text in texts:
        name, separator, value = text.partition('=')
        if not (name and separator):
            raise invalid(option, text, 'NAME=VALUE')
        values[name] = value
    return values
