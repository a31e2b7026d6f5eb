"""What several commands share: how they are registered, and how they reach a cluster."""

from __future__ import annotations

import argparse
import dataclasses

from tfx_cassandra.components.driver.connection import CassandraConnection


def add_command(
    subparsers: argparse._SubParsersAction, name: str, description: str, example: str
) -> argparse.ArgumentParser:
    """Registers a command, or a group of them.

    Args:
      subparsers: Where it belongs.
      name: Its name.
      description: What it does; the first sentence stands in the list of commands.
      example: A command line without the program's name, and perhaps more lines.
    """
    return subparsers.add_parser(
        name,
        help=description.partition('.')[0],
        description=description,
        epilog=f'example:\n  tfx-cassandra {example}\n',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how to reach a cluster; what is not given comes from the environment."""
    group = parser.add_argument_group('connection', 'each defaults to its CASSANDRA_* environment variable')
    group.add_argument('--contact-points', metavar='HOST[,HOST]', help='nodes to connect to (default 127.0.0.1)')
    group.add_argument('--port', type=int, help='CQL port (default 9042)')
    group.add_argument('--local-datacenter', metavar='DC', help='data center that coordinates requests (default dc1)')
    group.add_argument('--keyspace', help='keyspace of the tables (default ml_features)')
    group.add_argument('--username', help='user name')
    group.add_argument('--password-env', metavar='VARIABLE', help='environment variable that holds the password')


def connection_from(args: argparse.Namespace) -> CassandraConnection:
    """Builds the connection from parsed options and the environment; raises ValueError for a bad value."""
    given = {
        'contact_points': args.contact_points and tuple(filter(None, args.contact_points.split(','))),
        'port': args.port,
        'local_datacenter': args.local_datacenter,
        'keyspace': args.keyspace,
        'username': args.username,
        'password_env': args.password_env or (args.username and 'CASSANDRA_PASSWORD'),
    }
    return dataclasses.replace(
        CassandraConnection.from_env(), **{field: value for field, value in given.items() if value is not None}
    )
