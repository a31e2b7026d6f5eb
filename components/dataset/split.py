"""Which split an example belongs to: the hash buckets of TFX's ExampleGen."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable

from tensorflow.core.example import example_pb2

from tfx_cassandra.components.errors import DatasetError, invalid


@dataclasses.dataclass(frozen=True)
class HashSplits:
    """Named splits that share the examples by a hash.

    The rule is that of TFX's `base_example_gen_executor._PartitionFn`: SHA-256 of the serialized example (or of one
    serialized feature), modulo the number of buckets; a split owns `buckets` consecutive ones.

    Attributes:
      buckets: (split name, number of buckets), in order.
      feature: Name of the feature that is hashed; None for the whole example.

    Raises:
      ValueError: There is no split, a name comes twice, or a split has no bucket.
    """

    buckets: tuple[tuple[str, int], ...]
    feature: str | None = None

    def __post_init__(self) -> None:
        if not self.buckets or len(set(self.names)) < len(self.buckets):
            raise invalid('output_config', self.names, 'one or more splits, each name once')
        if empty := [name for name, count in self.buckets if count < 1]:
            raise invalid('output_config', empty, 'hash_buckets of at least 1 in every split')

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.buckets]

    @property
    def ends(self) -> list[int]:
        """The bucket each split ends before, in order; the last is the number of buckets."""
        return list(itertools.accumulate(count for _, count in self.buckets))

    def assign(self, examples: Iterable[bytes]) -> list[int]:
        """Returns the index into `names` of each serialized tf.Example; the plain form of what encode.pyx does.

        Raises:
          DatasetError: An example lacks the feature, or the feature holds floats.
        """
        ends = self.ends
        keys = examples if self.feature is None else map(self._key, examples)
        buckets = (int.from_bytes(hashlib.sha256(key).digest(), 'big') % ends[-1] for key in keys)
        return [bisect.bisect(ends, bucket) for bucket in buckets]

    def _key(self, example: bytes) -> bytes:
        feature = example_pb2.Example.FromString(example).features.feature.get(self.feature)
        if feature is None or feature.WhichOneof('kind') not in ('bytes_list', 'int64_list'):
            rule = 'in every example, with text or integers'
            raise DatasetError(f'output_config.partition_feature_name: got {self.feature!r}, rule: {rule}')
        return feature.SerializeToString(deterministic=True)
