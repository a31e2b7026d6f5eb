"""CassandraDataModule: the datasets of a Lightning Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

try:
    from lightning import LightningDataModule
    from torchdata.stateful_dataloader import StatefulDataLoader
except ImportError as error:
    raise ImportError("Lightning is not installed: pip install 'tfx-cassandra[torch]'") from error

from torch.utils.data import Dataset, IterableDataset

from tfx_cassandra.components.checks import Count, checked
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.torch.dataset import CassandraIterableDataset
from tfx_cassandra.components.torch.keyed import CassandraDataset
from tfx_cassandra.components.torch.loading import Number


class CassandraDataModule(LightningDataModule):
    """Loads datasets for a Trainer: joins training sets once, shuffles each epoch anew, resumes within epochs.

        module = CassandraDataModule(train=train, val=val, num_workers=2)
        Trainer(max_epochs=3).fit(model, module)

    The folders of training sets must be reached by all nodes: rank 0 alone joins them. A checkpoint within an epoch
    holds where each worker was, and fit(..., ckpt_path=...) continues behind the last batch.
    """

    @checked
    def __init__(
        self,
        train: Dataset | None = None,
        val: Dataset | None = None,
        test: Dataset | None = None,
        predict: Dataset | None = None,
        num_workers: Number = 0,
        batch_size: Count | None = None,
        **loader: Any,
    ) -> None:
        """Takes the datasets of each stage.

        Args:
          train, val, test, predict: A CassandraIterableDataset, which makes batches itself, or a map-style dataset.
          num_workers: Workers of each loader.
          batch_size: Rows of a batch of map-style datasets; given with these only.
          loader: Further arguments of the loaders, such as pin_memory, prefetch_factor or persistent_workers.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        self.prepare_data_per_node = False
        self._datasets = {'train': train, 'val': val, 'test': test, 'predict': predict}
        mapped = [name for name, data in self._datasets.items() if data and not isinstance(data, IterableDataset)]
        if bool(mapped) != (batch_size is not None):
            raise invalid('batch_size', batch_size, 'given with map-style datasets, and only with them')
        self._options = {'num_workers': num_workers, **loader}
        self._batch_size = batch_size

    def prepare_data(self) -> None:
        """Joins the training sets; Lightning calls it on one rank."""
        for dataset in self._datasets.values():
            if isinstance(dataset, CassandraIterableDataset):
                dataset.prepare()

    def train_dataloader(self) -> Any:
        return self._loader('train', shuffle=True)

    def val_dataloader(self) -> Any:
        return self._loader('val')

    def test_dataloader(self) -> Any:
        return self._loader('test')

    def predict_dataloader(self) -> Any:
        return self._loader('predict')

    def _loader(self, stage: str, shuffle: bool = False) -> Any:
        dataset = self._datasets[stage]
        if dataset is None:
            return []
        if isinstance(dataset, CassandraIterableDataset):
            return _EpochLoader(dataset, self, batch_size=None, **self._options)
        options = {'batch_size': self._batch_size, 'collate_fn': CassandraDataset.collate, **self._options}
        return StatefulDataLoader(dataset, shuffle=shuffle, **options)


class _EpochLoader(StatefulDataLoader):
    """Sets the trainer's epoch before each epoch, and has the state that belongs into a trainer's checkpoint.

    A trainer takes each batch while it still works on the one before, to know which is the last. So the state is that
    behind the last but one batch that was taken: the last one is still to come after a resume.
    """

    def __init__(self, dataset: CassandraIterableDataset, module: LightningDataModule, **options: Any) -> None:
        super().__init__(dataset, **options)
        self._module = module
        self._continues = False
        self._behind: dict[str, Any] | None = None  # None between epochs
        self._upcoming = 0  # a trainer that resumes between epochs still names the one before

    def __iter__(self) -> Iterator[Any]:
        trainer = self._module.trainer
        if not self._continues and trainer is not None:
            self.dataset.set_epoch(max(trainer.current_epoch, self._upcoming))
        self._continues = False
        batches = super().__iter__()
        self._behind = super().state_dict()
        for batch in batches:
            yield batch
            self._behind = super().state_dict()
        self._behind, self._upcoming = None, self.dataset.epoch + 1

    def state_dict(self) -> dict[str, Any]:
        return {'epoch': self._behind, 'upcoming': self._upcoming}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._continues, self._upcoming = state_dict['epoch'] is not None, state_dict['upcoming']
        if self._continues:
            super().load_state_dict(state_dict['epoch'])
