"""Estimates of a metric in one arm, computed from moments.

An arm's moments are over its units, of four variables: the sum y of a unit's values, the sum d of its denominators
(for a mean the number of its values), the covariate x, and whether x is known, 1 or 0. Every estimate is a smooth
function of their means, so the delta method gives its variance w'Sw / n, with the gradient w and the covariance matrix
S of the variables. If each unit has one value, d is 1 and these are the textbook formulas.

docs/ab-testing.md gives the formulas and their sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.moments import Moments

Y, D = 0, 1  # indices of value and denominator
COVARIATES = slice(2, 4)
MIN_ADJUSTED_UNITS = 20
ROUNDING = 1e-12  # relative error of sums of floats
MAX_SIZE = 1e100  # squares of more may overflow


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimate of a metric in one arm.

    Attributes:
      n: Number of units.
      value: Mean, proportion or ratio; adjusted if there is a covariate.
      variance: The arm's term in the variance of a difference between arms.
      alone: Variance of the value itself; other than `variance` if the value is adjusted, because adjusted arms share
        the covariate's mean.
      binomial: Whether the value is a share of n independent trials.
      effective: Effective sample size (sum d)^2 / sum d^2 (Kish 1965): the number of equally weighted units with the
        same information, near one if one unit makes most of the requests. None for n.
    """

    n: int
    value: float
    variance: float
    alone: float
    binomial: bool = False
    effective: float | None = None

    @property
    def weight(self) -> float:
        """The effective number of units; n if it is not given."""
        return self.n if self.effective is None else self.effective


def ratio(arm: Moments) -> Estimate:
    """Returns mean(y) / mean(d), with its variance by the delta method; the mean of all values if d counts them.

    Raises:
      ValueError: There are fewer than two units, or the denominators' mean is not positive.
    """
    _check_units(arm)
    return _linear(arm, _ratio(arm), _gradient(arm))


def proportion(arm: Moments) -> Estimate:
    """Returns the proportion p of ones among zeros and ones; its variance is p (1 - p) / n with one value per unit.

    Raises:
      ValueError: There are fewer than two units.
    """
    _check_units(arm)
    n, p = int(arm.n), _ratio(arm)
    if arm.mean[D] != 1 or arm.products[D, D] != 0:
        return ratio(arm)
    variance = max(p * (1 - p), 0.0) / n
    return Estimate(n, p, variance, variance, binomial=True)


def adjusted(arms: Sequence[Moments]) -> list[Estimate]:
    """Returns each arm's ratio, adjusted by the covariate (CUPED).

    With the linearized ratio z = (y - R d) / mean(d) and the covariates x = (covariate, whether it is known), the
    adjusted value is R - theta (mean of x - mean of x over all arms), where theta = var(x)^-1 cov(x, z), both pooled
    within arms. So an unknown covariate is not taken for zero. With fewer than MIN_ADJUSTED_UNITS units in an arm theta
    is too uncertain, and nothing is adjusted.

    Args:
      arms: Every arm of the experiment; x must be pre-exposure.

    Raises:
      ValueError: An arm has fewer than two units, or the denominators' mean is not positive.
    """
    for arm in arms:
        _check_units(arm)
    if min(arm.n for arm in arms) < MIN_ADJUSTED_UNITS:
        return [ratio(arm) for arm in arms]
    gradients, theta = [_gradient(arm) for arm in arms], _theta(arms)
    shares = [arm.n / sum(other.n for other in arms) for arm in arms]
    center = sum(share * arm.mean[COVARIATES] for share, arm in zip(shares, arms, strict=True))
    center_variances = [(share * theta) @ arm.covariance[COVARIATES, COVARIATES] @ (share * theta) / arm.n
                 for share, arm in zip(shares, arms, strict=True)]  # fmt: skip
    estimates = []
    for i, (w, arm) in enumerate(zip(gradients, arms, strict=True)):
        value = _ratio(arm) - theta @ (arm.mean[COVARIATES] - center)
        # All arms share the center: it cancels in a difference, and adds to the variance of a single value.
        own = _variance(arm, value, w - (0, 0, *((1 - shares[i]) * theta)))
        alone = own + sum(center_variances) - center_variances[i]
        variance = _variance(arm, value, w - (0, 0, *theta))
        estimates.append(Estimate(int(arm.n), float(value), variance, float(alone), effective=_effective(arm)))
    return estimates


def _theta(arms: Sequence[Moments]) -> NDArray[Any]:
    variances = sum(arm.products[COVARIATES, COVARIATES] for arm in arms)  # of x, shape (2, 2)
    covariances = sum(arm.products[COVARIATES] @ _gradient(arm) for arm in arms)  # of x and z, shape (2,)
    # Centered where it is known: a covariate far from zero is nearly collinear with the indicator that it is known.
    x, known = sum(arm.n * arm.mean[COVARIATES] for arm in arms)
    centering = np.array([[1.0, -x / known if known else 0.0], [0.0, 1.0]])
    variances, covariances = centering @ variances @ centering.T, centering @ covariances
    # Standardized: pinv would otherwise take a covariate of small numbers for a constant.
    scale = np.sqrt(np.maximum(np.diag(variances), 0))
    scale[scale == 0] = 1.0
    theta = np.linalg.pinv(variances / np.outer(scale, scale), rcond=1e-9) @ (covariances / scale) / scale
    return centering.T @ theta


def _check_units(arm: Moments) -> None:
    if arm.n < 2:
        raise invalid('units with a value', int(arm.n), 'at least two in each arm')


def _linear(arm: Moments, value: float, w: NDArray[Any]) -> Estimate:
    variance = _variance(arm, value, w)
    return Estimate(int(arm.n), float(value), variance, variance, effective=_effective(arm))


def _variance(arm: Moments, value: float, w: NDArray[Any]) -> float:
    with np.errstate(over='ignore', invalid='ignore'):
        parts = np.outer(w, w) * arm.covariance
        variance = float(parts.sum()) / int(arm.n)
    if not math.isfinite(variance):
        raise invalid('variance', variance, 'finite: values and denominators of a size that can be squared')
    # Rounding errors of constant values, or of terms that cancel.
    noise = max((ROUNDING * value) ** 2, ROUNDING * float(np.abs(parts).sum()) / int(arm.n))
    return variance if variance > noise else 0.0


def _ratio(arm: Moments) -> float:
    if not arm.mean[D] > 0:
        raise invalid('denominator', float(arm.mean[D]), 'a mean above zero')
    value = float(arm.mean[Y]) / float(arm.mean[D])
    if not abs(value) <= MAX_SIZE:
        raise invalid('value', value, 'a size of at most 1e100')
    return value


def _effective(arm: Moments) -> float:
    squares = float(arm.products[D, D]) + int(arm.n) * float(arm.mean[D]) ** 2  # sum d^2
    return (int(arm.n) * float(arm.mean[D])) ** 2 / squares if squares > 0 else float(arm.n)


def _gradient(arm: Moments) -> NDArray[Any]:
    return np.array([1.0, -_ratio(arm), 0.0, 0.0]) / arm.mean[D]
