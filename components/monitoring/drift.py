"""How the values of a feature changed between two windows. Pure functions of arrays.

Population stability index: N. Siddiqi, Credit Risk Scorecards (Wiley 2006), chapter 10: the sum over bins of
(c - r) ln(c / r), where r and c are the shares of the reference and of the current values in a bin. The bins are the
tenths of the reference; of a reference with at most ten different values, each value is a bin, and all others another
one. A share of nothing counts as 1e-4, because the logarithm has none. As Siddiqi has it, below 0.1 is no change, and
above 0.25 a major one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

QUANTILES = (0.05, 0.5, 0.95)
BINS = 10
LEAST_SHARE = 1e-4


class Drift(NamedTuple):
    """The change between two windows.

    Attributes:
      psi: Population stability index.
      ks: Kolmogorov-Smirnov statistic of two samples, 0 to 1.
      ks_p_value: Its asymptotic p-value.
      mean: Difference of the means, current less reference, in standard deviations of the reference; None if that
        deviation is 0 and the means differ.
      quantiles: The same of each of QUANTILES.
    """

    psi: float
    ks: float
    ks_p_value: float
    mean: float | None
    quantiles: tuple[float | None, ...]


def drift(reference: NDArray[Any], current: NDArray[Any]) -> Drift:
    """Compares two samples, each of shape (values,), finite and not empty."""
    tested = stats.ks_2samp(reference, current, method='asymp')
    # SciPy has no asymptotic p-value where both samples have one value, which says nothing.
    p_value = 1.0 if np.isnan(tested.pvalue) else float(tested.pvalue)
    deviation = float(np.std(reference))
    differences = np.quantile(current, QUANTILES) - np.quantile(reference, QUANTILES)
    return Drift(
        psi(reference, current),
        float(tested.statistic),
        p_value,
        _scaled(float(np.mean(current) - np.mean(reference)), deviation),
        tuple(_scaled(float(difference), deviation) for difference in differences),
    )


def psi(reference: NDArray[Any], current: NDArray[Any]) -> float:
    """Returns the population stability index of two samples, each of shape (values,), finite and not empty."""
    r, c = (np.maximum(shares, LEAST_SHARE) for shares in _shares(reference, current))
    return float(np.sum((c - r) * np.log(c / r)))


def _shares(reference: NDArray[Any], current: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the share of each sample in each bin, of shape (bins,)."""
    different = np.unique(reference)
    if len(different) <= BINS:
        place = [np.searchsorted(different, values) for values in (reference, current)]
        known = [np.isin(values, different) for values in (reference, current)]
        bins = [np.where(k, p, len(different)) for p, k in zip(place, known, strict=True)]
        count = len(different) + 1
    else:
        edges = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
        # The bins are (-inf, edge 1], (edge 1, edge 2], ..., (edge n, inf).
        bins = [np.searchsorted(edges, values, side='left') for values in (reference, current)]
        count = len(edges) + 1
    first, second = (np.bincount(places, minlength=count) / len(places) for places in bins)
    return first, second


def _scaled(difference: float, deviation: float) -> float | None:
    if not deviation:
        return None if difference else 0.0
    return difference / deviation
