"""The delay model in PyTorch: the network of trainer.py, trained by Lightning from batches of Cassandra's rows."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning import LightningModule
from numpy.typing import NDArray
from torchmetrics.classification import BinaryAUROC

from tfx_cassandra.pipelines.flight_delay.preprocessing import CALENDAR, LABEL, NUMBERS, TEXTS

COLUMNS = (*TEXTS, *NUMBERS, *CALENDAR, LABEL)
MODEL_FILE, VOCABULARY_FILE = 'model.pt2', 'vocabulary.json'
_EMBEDDING = 8
Vocabulary = Mapping[str, Sequence[str]]


class Encode:
    """Record batch -> its inputs as numbers: texts as vocabulary ids, with 0 for others and null; numbers as floats."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = {name: pa.array(texts, pa.string()) for name, texts in vocabulary.items()}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {}
        for name in batch.schema.names:
            array = batch.column(batch.schema.get_field_index(name))
            if name in self._vocabulary:
                array = pc.add(pc.index_in(array, self._vocabulary[name]).fill_null(-1).cast(pa.int64()), 1)
            elif name in NUMBERS:
                array = array.cast(pa.float32())
            elif name in CALENDAR or name == LABEL:
                array = array.fill_null(0).cast(pa.int64())
            columns[name] = array
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def statistics(
    batches: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, list[str]], NDArray[np.float64], NDArray[np.float64]]:
    """Returns (vocabulary of each text, means, standard deviations of the numbers) of the training rows.

    Args:
      batches: Batches of `Encode({})`, which leaves texts as they are.
    """
    texts: dict[str, set[str]] = {name: set() for name in TEXTS}
    sums = np.zeros((3, len(NUMBERS)))  # count, sum, sum of squares
    for batch in batches:
        for name in TEXTS:
            texts[name] |= set(batch[name]) - {None}
        numbers = np.stack([batch[name].numpy().astype(np.float64) for name in NUMBERS], axis=1)  # (rows, numbers)
        sums += np.nansum([~np.isnan(numbers), numbers, numbers**2], axis=1)
    count = np.maximum(sums[0], 1)
    mean = sums[1] / count
    deviation = np.sqrt(np.maximum(sums[2] / count - mean**2, 1e-12))
    return {name: sorted(found) for name, found in texts.items()}, mean, deviation


class Network(torch.nn.Module):
    """Embeddings of the categories and the scaled numbers, then two dense layers; gives logits."""

    def __init__(self, vocabulary: Vocabulary, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        super().__init__()
        sizes = [len(vocabulary[name]) + 1 for name in TEXTS] + list(CALENDAR.values())
        self.embeddings = torch.nn.ModuleList(torch.nn.Embedding(size, _EMBEDDING) for size in sizes)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32))
        self.register_buffer('deviation', torch.tensor(deviation, dtype=torch.float32))
        width = _EMBEDDING * len(sizes) + len(NUMBERS)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 1),
        )

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Returns logits of shape (rows).

        Args:
          categories: int64 of shape (rows, texts + calendar): vocabulary ids, then the calendar as it is.
          numbers: float32 of shape (rows, numbers); NaN where a number is missing, which stands for the mean.
        """
        scaled = torch.nan_to_num((numbers - self.mean) / self.deviation)
        columns = [embedding(categories[:, i]) for i, embedding in enumerate(self.embeddings)]
        logits: torch.Tensor = self.layers(torch.cat([*columns, scaled], dim=1))[:, 0]
        return logits


def inputs(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the network's arguments for a batch of `Encode`."""
    categories = torch.stack([batch[name] for name in (*TEXTS, *CALENDAR)], dim=1)
    return categories, torch.stack([batch[name] for name in NUMBERS], dim=1)


class DelayModel(LightningModule):
    """Trains the network.

    Attributes:
      auc: On the eval rows, after validation.
    """

    def __init__(self, network: Network, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.network, self.learning_rate, self.auc = network, learning_rate, 0.5
        self._auroc = BinaryAUROC()

    def training_step(self, batch: Mapping[str, torch.Tensor], _: int) -> torch.Tensor:
        logits = self.network(*inputs(batch))
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, batch[LABEL].float())

    def validation_step(self, batch: Mapping[str, torch.Tensor], _: int) -> None:
        self._auroc.update(torch.sigmoid(self.network(*inputs(batch))), batch[LABEL])

    def on_validation_epoch_end(self) -> None:
        self.auc = float(self._auroc.compute())
        self._auroc.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.learning_rate)


def save(network: Network, vocabulary: Vocabulary, folder: pathlib.Path) -> None:
    """Saves the network by torch.export, for any number of rows, and the vocabulary that its ids come from."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = torch.export.Dim('rows')
    example = torch.zeros(2, len(network.embeddings), dtype=torch.int64), torch.zeros(2, len(NUMBERS))
    program = torch.export.export(network.eval(), example, dynamic_shapes=({0: rows}, {0: rows}))
    torch.export.save(program, folder / MODEL_FILE)
    (folder / VOCABULARY_FILE).write_text(json.dumps(vocabulary))


def load(folder: pathlib.Path) -> tuple[torch.nn.Module, Encode]:
    """Returns a saved network and what encodes rows for it."""
    vocabulary = json.loads((folder / VOCABULARY_FILE).read_text())
    return torch.export.load(folder / MODEL_FILE).module(), Encode(vocabulary)


def predict(folder: pathlib.Path, rows: pa.RecordBatch) -> torch.Tensor:
    """Returns the probability that each flight is late, for rows of the training set's columns."""
    from tfx_cassandra.components.torch.tensors import TensorOptions, tensors

    network, encode = load(folder)
    with torch.no_grad():
        return torch.sigmoid(network(*inputs(tensors(encode(rows), TensorOptions()))))
