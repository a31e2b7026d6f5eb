"""A Lightning Trainer over Cassandra: every row an epoch, a new order each, and checkpoints within an epoch."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')
lightning = pytest.importorskip('lightning', reason='needs the extra torch (tools/torch)')

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.components.torch_dataset import CassandraDataModule, CassandraDataset, CassandraIterableDataset

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings('ignore:::lightning')]

ROWS = 700


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    session.execute(f'CREATE TABLE {connection.keyspace}.samples (id int PRIMARY KEY, x double, y double)')
    insert = session.prepare(f'INSERT INTO {connection.keyspace}.samples (id, x, y) VALUES (?, ?, ?)')
    execute_concurrent_with_args(session, insert, [(n, n / ROWS, 2 * n / ROWS - 1) for n in range(ROWS)])
    return connection


class Line(LightningModule):
    """A straight line, and the ids of all rows that it has seen by epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int]]] = []
        self.validated: list[int] = []
        self.stop_after = stop_after

    def training_step(self, batch: dict[str, Any], number: int) -> Any:
        if self.stop_after is not None and len(self.seen) == self.stop_after:
            raise InterruptedError
        self.seen.append((self.current_epoch, batch['id'].tolist()))
        x, y = batch['x'].float()[:, None], batch['y'].float()[:, None]
        return torch.nn.functional.mse_loss(self.line(x), y)

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        self.validated += batch['id'].tolist()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.1)


def samples(connection: CassandraConnection) -> CassandraIterableDataset:
    return CassandraIterableDataset(connection, 'samples', batch_rows=50, shuffle_rows=200)


def trainer(folder: pathlib.Path, **options: Any) -> Trainer:
    quiet = {'logger': False, 'enable_progress_bar': False, 'enable_model_summary': False, 'accelerator': 'cpu'}
    return Trainer(default_root_dir=folder, **{'enable_checkpointing': False, 'max_epochs': 2, **quiet, **options})


@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_row_an_epoch_in_a_new_order(filled, tmp_path, workers):
    model = Line()
    module = CassandraDataModule(samples(filled), samples(filled), num_workers=workers)
    trainer(tmp_path, num_sanity_val_steps=0).fit(model, module)
    epochs = [[n for at, ids in model.seen if at == epoch for n in ids] for epoch in range(2)]
    assert [sorted(ids) for ids in epochs] == [list(range(ROWS))] * 2
    assert epochs[0] != epochs[1]
    assert sorted(model.validated) == sorted([*range(ROWS)] * 2)


@pytest.mark.parametrize('steps', [5, 14])  # within an epoch, and at its end
@pytest.mark.parametrize('workers', [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_checkpoint_within_an_epoch_continues(filled, tmp_path, workers, steps):
    def module() -> CassandraDataModule:
        return CassandraDataModule(samples(filled), num_workers=workers)

    whole = Line()
    trainer(tmp_path).fit(whole, module())
    if workers == 0:
        assert len(whole.seen) == 28
    steps = len(whole.seen) // 2 if steps == 14 else steps
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=steps, save_top_k=-1)
    begun = Line(stop_after=steps)
    with pytest.raises(InterruptedError):
        trainer(tmp_path, callbacks=[saving], enable_checkpointing=True).fit(begun, module())
    (checkpoint,) = tmp_path.glob('*.ckpt')
    resumed = Line()
    trainer(tmp_path).fit(resumed, module(), ckpt_path=checkpoint, weights_only=False)
    assert begun.seen + resumed.seen == whole.seen


def test_rows_by_key(filled, tmp_path):
    model = Line()
    dataset = CassandraDataset(filled, 'samples', list(range(ROWS)))
    trainer(tmp_path, max_epochs=1).fit(model, CassandraDataModule(dataset, batch_size=64))
    ids = [n for _, ids in model.seen for n in ids]
    assert sorted(ids) == list(range(ROWS)) != ids
    with pytest.raises(ValueError, match=r'^batch_size: got None, rule: given with map-style datasets'):
        CassandraDataModule(dataset)


@pytest.mark.parametrize(
    ('missing', 'name', 'message'),
    [
        ('torch', 'CassandraDataset', 'PyTorch is not installed'),
        ('lightning', 'CassandraDataModule', 'Lightning is not'),
    ],
)
def test_without_the_extra_the_error_says_what_to_install(missing: str, name: str, message: str) -> None:
    code = f'import sys; sys.modules[{missing!r}] = None; from tfx_cassandra.components.torch_dataset import {name}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'ImportError: {message}' in done.stderr
    assert "pip install 'tfx-cassandra[torch]'" in done.stderr
