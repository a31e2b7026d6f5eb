"""The steps of the PyTorch demo: rows of flights as known at departure -> a trained network -> a version."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from lightning import Callback, Trainer, seed_everything

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry import push as registry_push
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.torch_dataset import CassandraDataModule, CassandraIterableDataset
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay import torch_model
from tfx_cassandra.pipelines.flight_delay.pipeline import FLIGHTS, MIN_AUC, PLANES, WEATHER_VIEW
from tfx_cassandra.pipelines.flight_delay.torch_model import COLUMNS, DelayModel, Encode, Network
from tfx_cassandra.pipelines.flight_delay.trainer import BATCH_ROWS, SEED

__all__ = ['MIN_AUC', 'dataset', 'predictions', 'prepared', 'push', 'train', 'windows']

_SHUFFLE_ROWS = 100_000
_SHOWN = ('flight_id', 'dest', 'arr_delay')


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network: its vocabulary, its AUC on the eval rows, and some of these rows."""

    network: Network
    vocabulary: dict[str, list[str]]
    auc: float
    sample: pa.RecordBatch


def windows(window: TimeWindow) -> tuple[TimeWindow, TimeWindow]:
    """Cuts a window into training rows and, after a day's gap, the eval rows of its last third."""
    days = (window.end - window.start) // datetime.timedelta(days=1)
    cut = (window.end - datetime.timedelta(days=days // 3)).replace(hour=0, minute=0, second=0, microsecond=0)
    return TimeWindow(window.start, cut - datetime.timedelta(days=1)), TimeWindow(cut, window.end)


def dataset(
    connection: CassandraConnection, window: TimeWindow, folder: str, **loading: Any
) -> CassandraIterableDataset:
    """Returns the flights of a window with the weather and the aircraft as known at departure.

    The weather of 2013 was written when the demo ran, so the availability cut-off is off, as in the TFX pipeline.
    """
    return CassandraIterableDataset.training_set(
        connection, [WEATHER_VIEW, PLANES], FLIGHTS, window, folder=folder, availability_cut_off=False,
        **{'batch_rows': BATCH_ROWS, 'shuffle_rows': _SHUFFLE_ROWS, 'seed': SEED, **loading},
    )  # fmt: skip


def prepared(rows: CassandraIterableDataset) -> int:
    """Joins a training set, unless its folder holds it already; returns the number of its rows."""
    rows.prepare()
    count: int = rows.report()['rows']
    return count


def train(
    rows: CassandraIterableDataset, evaluated: CassandraIterableDataset, epochs: int, workers: int,
    progress: Callable[[str], None],
) -> Trained:  # fmt: skip
    """Trains the network.

    Args:
      rows, evaluated: Prepared training sets.
      epochs: Number of epochs.
      workers: Workers that load the rows.
      progress: Called with a line of words after each epoch.
    """
    seed_everything(SEED, verbose=False)
    texts = rows.changed(columns=COLUMNS, transform=Encode({}))
    vocabulary, mean, deviation = torch_model.statistics(texts)
    encode = Encode(vocabulary)
    model = DelayModel(Network(vocabulary, mean, deviation))
    module = CassandraDataModule(
        rows.changed(columns=COLUMNS, transform=encode),
        evaluated.changed(columns=COLUMNS, transform=encode, shuffle=False),
        num_workers=workers,
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator='cpu', max_epochs=epochs, logger=False, enable_checkpointing=False, default_root_dir=folder,
            num_sanity_val_steps=0, callbacks=[_Progress(progress)],
        ).fit(model, module)  # fmt: skip
    sample: list[pa.RecordBatch] = []
    next(
        iter(
            evaluated.changed(columns=tuple(dict.fromkeys((*COLUMNS, *_SHOWN))), batch_rows=3, transform=_Keep(sample))
        )
    )
    return Trained(model.network, vocabulary, model.auc, sample[0])


class _Keep:
    """A transform that also keeps the record batches, to show rows as Cassandra has them."""

    def __init__(self, kept: list[pa.RecordBatch]) -> None:
        self._kept = kept

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self._kept.append(batch)
        return Encode({})(batch)


class _Progress(Callback):
    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress

    def on_validation_end(self, trainer: Trainer, model: Any) -> None:
        self._progress(f'epoch {trainer.current_epoch + 1}, AUC {model.auc:.4f}')


def push(
    connection: CassandraConnection, trained: Trained, experiment_id: str, model_id: str, directory: pathlib.Path,
    window: str,
) -> ModelVersion:  # fmt: skip
    """Pushes the model as CassandraPusher does, and returns its row of `model_versions`.

    It has passed the gate that blesses a model of the TFX pipeline, an AUC of at least MIN_AUC.
    """
    with tempfile.TemporaryDirectory() as folder, ModelRegistry(connection) as registry:
        torch_model.save(trained.network, trained.vocabulary, pathlib.Path(folder))
        _, stored = registry_push.push(
            registry, experiment_id, model_id, folder, str(directory), metrics={'auc': trained.auc},
            gates=('model_blessing',), examples_window=window, ab_test_group='control',
        )  # fmt: skip
    return stored


def _selected(rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([rows.column(rows.schema.get_field_index(n)) for n in COLUMNS], list(COLUMNS))


def predictions(folder: pathlib.Path, rows: pa.RecordBatch) -> list[str]:
    """Returns a line for each of some rows: what a pushed model predicts, and what happened."""
    probabilities = torch_model.predict(folder, _selected(rows))
    shown = [rows.column(rows.schema.get_field_index(name)).to_pylist() for name in _SHOWN]
    return [
        f'{flight} to {dest}: {probability:.0%} likely to be late; arrived {delay:+} minutes'
        for flight, dest, delay, probability in zip(*shown, probabilities.tolist(), strict=True)
    ]
