"""The command `tfx-cassandra sstable describe`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.cli.options import Group, described, format_option
from tfx_cassandra.components.cli.tables import print_rows
from tfx_cassandra.components.sstable.describe import Description, describe
from tfx_cassandra.components.sstable.files import data_files, local_files

_COLUMNS = (
    'name', 'compression', 'bytes', 'partitions', 'rows', 'cells', 'tombstones', 'written', 'deleted', 'ttls', 'tokens',
    'widest',
)  # fmt: skip


@click.group(
    cls=Group, **described('Reads the files of tables, without a server.', 'sstable describe snapshots/nightly')
)
def sstable() -> None:
    """Holds the commands."""


@sstable.command(
    'describe',
    **described(
        'Says what SSTables hold, from their small files: version, compression, partitions, rows, cells, tombstones, '
        'the ranges of write times, deletions and expiries, times to live and tokens, and the widest partitions. Give '
        'Data.db files, or folders of them.',
        'sstable describe snapshots/nightly/nb-1-big-Data.db --format json',
    ),
)
@click.argument('files', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('--widest', type=click.IntRange(min=0), default=3, show_default=True, help='Partitions to name')
@format_option
def describe_(files: tuple[Path, ...], widest: int, output_format: str) -> int:
    found = [describe(local_files(path), widest) for path in data_files(list(files))]
    rows = [dataclasses.asdict(one) if output_format == 'json' else _row(one) for one in found]
    print_rows(rows, _COLUMNS, output_format)
    return 0


def _row(found: Description) -> dict[str, Any]:
    """Returns a row of the table for people, with ranges and partitions as texts."""
    row: dict[str, Any] = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    for name in ('written', 'deleted', 'ttls', 'tokens'):
        if row[name] is not None:
            row[name] = ' to '.join(str(getattr(end, 'isoformat', end.__str__)()) for end in row[name])
    widest = [f'{partition.key}={partition.bytes}' for partition in found.widest]
    return {**row, 'widest': ', '.join(widest) or f'at most {found.largest_partition}'}
