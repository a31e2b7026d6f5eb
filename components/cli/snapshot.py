"""The commands `tfx-cassandra snapshot take|list|clear`."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.backup import copying
from tfx_cassandra.components.backup.listing import listed
from tfx_cassandra.components.backup.ring_file import RING_FILE, ring_text, write_ring
from tfx_cassandra.components.backup.snapshot import created_at
from tfx_cassandra.components.cli.nodetool import Nodetool, data_folders, dev_cluster, nodetool_of
from tfx_cassandra.components.cli.options import Group, connection_options, described, format_option
from tfx_cassandra.components.cli.tables import print_rows
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.ring import RingFacts, ring_facts
from tfx_cassandra.components.errors import ReadError, UnavailableError, invalid
from tfx_cassandra.components.progress import step

_TAKEN = ('node', 'data_center', 'rack', 'tables', 'files', 'bytes', 'created_at')
_LISTED = ('name', 'layout', 'created_at', 'complete', 'nodes', 'tables', 'files', 'bytes')

_nodetool = click.option(
    '--nodetool',
    metavar='COMMAND',
    help="How to run nodetool for a node, as 'ssh {host} nodetool'  [default: the dev cluster's]",
)
_data = click.option(
    '--data', multiple=True, metavar='FOLDER',
    help='Data folder of a node as it is seen here, with {host} for its address; may be repeated',
)  # fmt: skip


@click.group(
    cls=Group,
    **described('Makes, lists and removes snapshots, which can be read without a server.', 'snapshot take nightly'),
)
def snapshot() -> None:
    """Holds the commands."""


@snapshot.command(
    **described(
        'Makes a snapshot of a keyspace on all nodes. Beside the files of each table it writes the ring, so that a '
        'reader knows what each node owned. With --to it copies all of it, in the layout of Medusa. Where nothing here '
        'can run nodetool, it prints what to run on each node, and exits with 1.',
        'snapshot take nightly --table feature_store --to s3://bucket/backups',
    )
)
@click.argument('name')
@connection_options
@click.option('--table', 'tables', multiple=True, help='Table, may be repeated  [default: all of the keyspace]')
@_nodetool
@_data
@click.option('--to', metavar='URI', help='Copy the files there, when all nodes have made the snapshot')
@click.option('--ring', metavar='URI', help='Write the ring there, too: tokenmap.json and schema.cql')
@format_option
def take(
    name: str, connection: CassandraConnection, tables: tuple[str, ...], nodetool: str | None, data: tuple[str, ...],
    to: str | None, ring: str | None, output_format: str,
) -> int:  # fmt: skip
    _check_name(name)
    facts = ring_facts(connection, tables)
    runner, words = nodetool_of(nodetool, list(facts.nodes)), ['snapshot', '-t', name, *_scope(connection, tables)]
    if ring is not None:
        write_ring(ring, facts.tokenmap, facts.keyspace_cql)
    if to is not None:
        _check_target(to, name, runner, [node for node in facts.nodes if not data_folders(data, node)])
    if not runner.command:
        return _print_lines(facts, words)
    with step(f'snapshot {name} on {len(facts.nodes)} nodes'):
        runner.run(list(facts.nodes), words)
    if ring_facts(connection, tables).tokenmap != facts.tokenmap:
        raise UnavailableError(
            'ring: got a change during the snapshot, rule: none; clear the snapshot and take it again'
        )
    found = {node: _folders(data_folders(data, node), name, connection.keyspace, tables) for node in facts.nodes}
    for node, folders in found.items():
        for folder in folders:
            _replace(folder / RING_FILE, ring_text(node, {connection.keyspace: facts.replication}, facts.tokenmap))
    if to is not None:
        _copy(facts, found, to, name)
    print_rows([_row(facts, node, folders) for node, folders in found.items()], _TAKEN, output_format)
    if not all(found.values()) and ring is None:
        sys.stderr.write('the files of some nodes are not seen here (--data); keep the ring with them: --ring\n')
    return 0


def _check_name(name: str) -> None:
    if not re.fullmatch(r'[A-Za-z0-9_.+=:-]+', name):
        raise invalid('name', name, 'letters, digits and _.+=:-, as the name of a folder')


def _scope(connection: CassandraConnection, tables: Sequence[str]) -> list[str]:
    """Returns the words of nodetool for a keyspace, or for some of its tables."""
    if not tables:
        return [connection.keyspace]
    return ['-kt', ','.join(f'{connection.keyspace}.{table}' for table in tables)]


def _print_lines(facts: RingFacts, words: Sequence[str]) -> int:
    """Prints what to run on each node."""
    for node in facts.nodes:
        click.echo(f'nodetool -h {node} {shlex.join(words)}')
    sys.stderr.write('nothing here can run nodetool (--nodetool): run these lines, each on its node\n')
    return 1


def _folders(data: Sequence[Path], name: str, keyspace: str, tables: Sequence[str]) -> list[Path]:
    """Returns the folders that a snapshot has in a node's data folders."""
    found = [path for folder in data for path in sorted(folder.glob(f'{keyspace}/*/snapshots/{name}'))]
    wanted = [path for path in found if not tables or path.parts[-3].rpartition('-')[0] in tables]
    if data and not wanted:
        raise ReadError(f'{data[0]}: got no snapshot {name!r} of {keyspace}, rule: the data folder of the node')
    for path in wanted:
        if not (path / 'manifest.json').is_file():
            raise ReadError(f'{path}: got no manifest.json, rule: one data folder a node, all of a table in it')
    return wanted


def _replace(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(text, 'utf-8')
    partial.replace(path)


def _check_target(to: str, name: str, runner: Nodetool, unseen: Sequence[str]) -> None:
    """Checks, before anything is done, that snapshots can be copied."""
    if not runner.command:
        raise invalid('to', to, 'given with --nodetool: nothing here can run nodetool')
    if unseen:
        raise invalid('to', to, f'given with --data, so that the files of {", ".join(unseen)} are seen here')
    copying.check_new(to, name)


def _copy(facts: RingFacts, found: dict[str, list[Path]], to: str, name: str) -> None:
    snapshots = [
        copying.NodeSnapshot(
            node, folders, facts.tokenmap, [facts.keyspace_cql],
            int(max(created_at(folder) for folder in folders).timestamp()), facts.release,
        )
        for node, folders in found.items()
    ]  # fmt: skip
    with step(f'copy to {to}') as running:
        copying.copy(snapshots, to, name, running.update)


def _row(facts: RingFacts, node: str, folders: Sequence[Path]) -> dict[str, Any]:
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir() if path.is_file()]
    place = facts.nodes[node]
    row: dict[str, Any] = {'node': node, 'data_center': place.data_center, 'rack': place.rack}
    if not folders:
        return {**row, 'tables': None, 'files': None, 'bytes': None, 'created_at': None, 'folders': []}
    moment = max(created_at(folder) for folder in folders)
    return {
        **row, 'tables': len(folders), 'files': len(sizes), 'bytes': sum(sizes), 'created_at': moment,
        'folders': list(map(str, folders)),
    }  # fmt: skip


@snapshot.command(
    'list',
    **described(
        'Lists the backups in places: data folders of nodes, folders of them, or what --to or Medusa has written. '
        'Without a place, those of the dev cluster.',
        'snapshot list s3://bucket/backups',
    ),
)
@click.argument('places', nargs=-1)
@format_option
def list_(places: tuple[str, ...], output_format: str) -> int:
    cluster = None if places else dev_cluster([])
    if not places and cluster is None:
        raise invalid('places', list(places), 'one or more: no dev cluster is here')
    where = places or (str(cluster.ring[0].folder.parent) if cluster else '',)
    rows = [dataclasses.asdict(one) | {'place': place} for place in where for one in listed(place)]
    print_rows(rows, _LISTED if len(where) == 1 else ('place', *_LISTED), output_format)
    return 0


@snapshot.command(
    **described(
        'Removes a snapshot of a keyspace from all nodes, or with --from a copy that take --to has made. Where nothing '
        'here can run nodetool, it prints what to run on each node, and exits with 1.',
        'snapshot clear nightly',
    )
)
@click.argument('name')
@connection_options
@_nodetool
@click.option('--from', 'source', metavar='URI', help='Remove the copy there, and nothing on nodes')
def clear(name: str, connection: CassandraConnection, nodetool: str | None, source: str | None) -> int:
    _check_name(name)
    if source is not None:
        with step(f'remove {name} from {source}'):
            copying.remove(source, name)
        return 0
    facts = ring_facts(connection, ())
    runner: Nodetool = nodetool_of(nodetool, list(facts.nodes))
    words = ['clearsnapshot', '-t', name, connection.keyspace]
    if not runner.command:
        return _print_lines(facts, words)
    with step(f'clear snapshot {name} on {len(facts.nodes)} nodes'):
        runner.run(list(facts.nodes), words)
    return 0
