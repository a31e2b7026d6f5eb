"""The PyTorch datasets under their public names; they need the extra `torch`."""

from __future__ import annotations

try:
    import torch as _  # noqa: F401
except ImportError as error:
    raise ImportError("PyTorch is not installed: pip install 'tfx-cassandra[torch]'") from error

from tfx_cassandra.components.torch.dataset import CassandraIterableDataset
from tfx_cassandra.components.torch.epochs import EpochCoverage
from tfx_cassandra.components.torch.keyed import CassandraDataset
from tfx_cassandra.components.torch.tensors import Ragged

__all__ = ['CassandraDataset', 'CassandraIterableDataset', 'EpochCoverage', 'Ragged']
