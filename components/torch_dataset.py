"""The PyTorch datasets under their public names; they need the extra `torch`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import torch as _  # noqa: F401
except ImportError as error:
    raise ImportError("PyTorch is not installed: pip install 'tfx-cassandra[torch]'") from error

from tfx_cassandra.components.torch.dataset import CassandraIterableDataset
from tfx_cassandra.components.torch.epochs import EpochCoverage
from tfx_cassandra.components.torch.keyed import CassandraDataset
from tfx_cassandra.components.torch.tensors import Ragged

if TYPE_CHECKING:
    from tfx_cassandra.components.torch.lightning import CassandraDataModule

__all__ = ['CassandraDataModule', 'CassandraDataset', 'CassandraIterableDataset', 'EpochCoverage', 'Ragged']


def __getattr__(name: str) -> Any:
    if name == 'CassandraDataModule':  # Lightning takes seconds to import
        return importlib.import_module('tfx_cassandra.components.torch.lightning').CassandraDataModule
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
