"""PyTorch's datasets on a backup: the batches that they give of the cluster it was taken of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backed_up import CLICKS, LEVELS, PEOPLE, WINDOW

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components import CassandraBackup, CassandraConnection
from tfx_cassandra.components.torch_dataset import CassandraIterableDataset

pytestmark = pytest.mark.integration


def batches(dataset: CassandraIterableDataset) -> list[dict[str, list[Any]]]:
    return [{name: column.tolist() for name, column in batch.items()} for batch in dataset]


@pytest.mark.parametrize('fields', [{}, {'window': WINDOW, 'where': {'late': True}}])
def test_a_table(connection: CassandraConnection, backup: CassandraBackup, fields: dict[str, Any]) -> None:
    loading = {'columns': ('user', 'item', 'price'), 'ranges': 4, 'batch_rows': 64, 'shuffle_rows': 200, **fields}
    live = CassandraIterableDataset(connection, 'clicks', **loading)
    stored = CassandraIterableDataset(table='clicks', source=backup, **loading)
    assert batches(stored) == batches(live)
    first, second = live.coverage(), stored.coverage()
    assert (second.rows, second.checksum) == (first.rows, first.checksum)


def test_a_training_set(connection: CassandraConnection, backup: CassandraBackup, tmp_path: Path) -> None:
    sets = [
        CassandraIterableDataset.training_set(
            views=[LEVELS, PEOPLE], labels=CLICKS, window=WINDOW, nulls='mask', columns=('user', 'price', 'weight'),
            join_plan='scan', batch_rows=10_000, folder=tmp_path / name, **of,
        )
        for name, of in {'live': {'connection': connection}, 'stored': {'source': backup}}.items()
    ]  # fmt: skip
    found = []
    for dataset in sets:
        dataset.prepare()
        (batch,) = dataset
        found.append(sorted(repr(row) for row in zip(*(batch[name].tolist() for name in sorted(batch)), strict=True)))
    assert found[0] == found[1]
    assert sets[0].report()['tables'] == sets[1].report()['tables']


def test_it_is_either_a_connection_or_a_backup(connection: CassandraConnection, backup: CassandraBackup) -> None:
    with pytest.raises(ValueError, match=r'^source: got .*, rule: not together with connection'):
        CassandraIterableDataset(connection, 'clicks', source=backup)
    with pytest.raises(ValueError, match=r'^connection: got None, rule: given, unless source is'):
        CassandraIterableDataset(table='clicks')
    with pytest.raises(ValueError, match=r'^table: got None, rule: given'):
        CassandraIterableDataset(source=backup)
