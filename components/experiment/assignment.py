"""Assignment of units to arms and of rows to buckets: pure functions that any language can reproduce."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import math
import uuid
import zlib
from collections.abc import Mapping

from tfx_cassandra.components.errors import invalid

SALTS = 8


def assign(experiment_id: str, unit: str, weights: Mapping[str, float]) -> str:
    """Returns a unit's arm: always the same one in an experiment, and independent between experiments.

    The first 8 bytes of SHA-256(experiment_id, a zero byte, unit), as a big-endian integer over 2^64, are a point in
    [0, 1). The arm is the first, in the order of `weights`, whose cumulative weight is greater than the point.

    Args:
      experiment_id: The experiment, without a zero byte.
      unit: Id of what is assigned: a request, a session, a user. Not empty: all requests without an id would be one
        unit.
      weights: Share of each arm; they sum to one.

    Raises:
      ValueError: An argument breaks its rule.
    """
    if not experiment_id or '\0' in experiment_id:
        raise invalid('experiment_id', experiment_id, 'a non-empty text without a zero byte')
    if not isinstance(unit, str) or not unit:
        raise invalid('unit', unit, 'a non-empty text')
    shares = list(weights.values())
    if not all(math.isfinite(share) and share > 0 for share in shares) or not math.isclose(
        sum(shares), 1, abs_tol=1e-9
    ):
        raise invalid('weights', dict(weights), 'positive numbers that sum to one')
    digest = hashlib.sha256(f'{experiment_id}\0{unit}'.encode()).digest()
    point = int.from_bytes(digest[:8], 'big') / 2**64
    ends = itertools.accumulate(shares)
    # Rounding may leave the last end slightly below one.
    return next((arm for arm, end in zip(weights, ends, strict=True) if point < end), list(weights)[-1])


def bucket_of(moment: datetime.datetime, request_id: uuid.UUID, salts: int = SALTS) -> str:
    """Returns the bucket of `inference_results_bucketed` and `inference_outcomes`, such as '2026-11-23T10/3'."""
    hour = moment.astimezone(datetime.timezone.utc)
    return f'{hour:%Y-%m-%dT%H}/{zlib.crc32(request_id.bytes) % salts}'
