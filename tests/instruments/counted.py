"""What the metrics of this process count during a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import prometheus_client

Counts = dict[tuple[str, tuple[str, ...]], float]


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Yields an empty mapping; after the block it holds (name, values of the labels) -> by how much a sample grew."""
    grown: Counts = {}
    before = _samples()
    yield grown
    grown.update({key: value - before.get(key, 0.0) for key, value in _samples().items()})
    for key in [key for key, value in grown.items() if not value]:
        del grown[key]


def _samples() -> Counts:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in prometheus_client.REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith('tfx_cassandra') and not sample.name.endswith('_created')
    }
