"""Reads a snapshot with cqlite-py: to a Parquet file.

It finds SSTables only in a folder named as a table's, so one with links to the snapshot's files is made.
"""

from __future__ import annotations

import os
from pathlib import Path

import clock
import cqlite

options = clock.parser()
options.add_argument('--folder', type=Path, required=True)
chosen = options.parse_args()
data = Path(chosen.out, 'data')
table = data / chosen.keyspace / chosen.folder.parents[1].name
table.mkdir(parents=True)
for path in chosen.folder.iterdir():
    os.link(path, table / path.name)


def read(_part, _parts, connected):
    with cqlite.open(str(data), schema=str(chosen.folder / 'schema.cql')) as database:
        connected()
        return database.export_parquet(f'SELECT * FROM {chosen.keyspace}.{chosen.table}', f'{chosen.out}/rows.parquet')


clock.measure(read)
