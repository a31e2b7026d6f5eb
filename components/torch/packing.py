"""A batch in one piece of memory, for a worker of a DataLoader that hands it to another process.

torch shares each piece of memory by a file and a connection of its own: with 18 tensors in a batch, that took ten times
as long as to make them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tfx_cassandra.components.torch.tensors import Ragged

_ALIGNMENT = 16  # bytes, a multiple of the size of every element


def packed(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch whose tensors, also those of `Ragged`, stand in one piece of memory; other values stay."""
    sizes = [tensor.numel() * tensor.element_size() for tensor in _tensors(batch)]
    memory = torch.empty(sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), dtype=torch.uint8)
    used = 0

    def moved(value: Any) -> Any:
        nonlocal used
        if isinstance(value, Ragged):
            return Ragged(moved(value.values), moved(value.offsets))
        if not isinstance(value, torch.Tensor):
            return value
        size = value.numel() * value.element_size()
        place = memory[used : used + size].view(value.dtype).view(value.shape)
        used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return place.copy_(value)

    return {name: moved(value) for name, value in batch.items()}


def _tensors(batch: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    for value in batch.values():
        parts = value if isinstance(value, Ragged) else (value,)
        yield from (part for part in parts if isinstance(part, torch.Tensor))
