"""Sufficient statistics of observations, mergeable.

Sums of squares lose all digits if a mean is far greater than the standard deviation. So the second moments are central,
and merged as in Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances",
1979); they are equivalent to n, sums, sums of squares and cross terms.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.errors import invalid


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Moments of k variables, for one or many groups of observations.

    Attributes:
      n: Observations of each group, shape (...).
      mean: Their means, shape (..., k); zero where there is no observation.
      products: Sums of products of deviations from the mean, shape (..., k, k).
    """

    n: NDArray[Any]
    mean: NDArray[Any]
    products: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[Any], groups: NDArray[Any] | None = None, count: int = 1) -> Moments:
        """Returns the moments of observations.

        Args:
          values: Shape (rows, k), or (rows,) for one variable.
          groups: Each row's group, from 0 to count - 1; None if there is one group only.
          count: Number of groups.

        Returns:
          Moments of shape () without groups, else (count,).

        Raises:
          ValueError: A value is NaN or infinite.
        """
        values = np.asarray(values, dtype=float)
        values = values[:, None] if values.ndim == 1 else values
        if not np.isfinite(values).all():
            raise invalid('values', values[~np.isfinite(values)][0], 'finite numbers')
        index = np.zeros(len(values), dtype=np.int64) if groups is None else groups
        columns = np.ascontiguousarray(values.T)  # (k, rows): a column at a time is several times faster
        variables = range(len(columns))
        n = np.bincount(index, minlength=count)
        sums = np.stack([np.bincount(index, column, count) for column in columns], axis=-1)
        mean = sums / np.maximum(n, 1)[:, None]
        deviations = [column - mean[:, i].take(index) for i, column in enumerate(columns)]
        varying = [i for i in variables if deviations[i].any()]  # a covariate that no unit has is 0 throughout
        products = np.zeros((count, len(variables), len(variables)))
        for i, j in itertools.combinations_with_replacement(varying, 2):
            products[:, i, j] = products[:, j, i] = np.bincount(index, deviations[i] * deviations[j], count)
        moments = cls(n, mean, products)
        return moments[0] if groups is None else moments

    def __getitem__(self, index: int | tuple[int, ...]) -> Moments:
        return Moments(self.n[index], self.mean[index], self.products[index])

    def __add__(self, other: Moments) -> Moments:
        """Returns the moments of both sets of observations together, group by group."""
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        difference = other.mean - self.mean
        mean = self.mean + difference * share[..., None]
        between = difference[..., :, None] * difference[..., None, :] * (self.n * share)[..., None, None]
        return Moments(n, mean, self.products + other.products + between)

    def reshape(self, *shape: int) -> Moments:
        """Returns the same groups in another arrangement."""
        variables = self.mean.shape[-1]
        return Moments(
            self.n.reshape(shape),
            self.mean.reshape(*shape, variables),
            self.products.reshape(*shape, variables, variables),
        )

    def along(self, axis: int) -> list[Moments]:
        """Returns the moments at each index of an axis of the groups."""
        return [self[(slice(None),) * axis + (i,)] for i in range(self.n.shape[axis])]  # type: ignore[index]

    @property
    def covariance(self) -> NDArray[Any]:
        """Unbiased covariances of the variables, shape (k, k); needs two observations."""
        return self.products / (self.n - 1)


def total(parts: Sequence[Moments]) -> Moments:
    """Merges one or more moments, in the order given, so that the same parts give the same bits."""
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    return merged
