"""Drift between two samples, each figure beside a slow computation that is written differently."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.monitoring.drift import BINS, LEAST_SHARE, QUANTILES, drift, psi

SAMPLES = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=80)


def slow_psi(reference: list[float], current: list[float]) -> float:
    """The formula, bin by bin: each bin is told by a test of the values in it."""
    distinct = sorted(set(reference))
    if len(distinct) <= BINS:
        tests = [lambda x, v=value: x == v for value in distinct] + [lambda x: x not in distinct]
    else:
        edges = [-math.inf, *sorted({float(np.percentile(reference, 10 * i)) for i in range(1, 10)}), math.inf]
        tests = [lambda x, a=a, b=b: a < x <= b for a, b in itertools.pairwise(edges)]
    total = 0.0
    for inside in tests:
        r = max(LEAST_SHARE, sum(map(inside, reference)) / len(reference))
        c = max(LEAST_SHARE, sum(map(inside, current)) / len(current))
        total += (c - r) * math.log(c / r)
    return total


def slow_ks(reference: list[float], current: list[float]) -> float:
    """The largest difference of the two empirical distribution functions."""
    return max(
        abs(sum(x <= at for x in reference) / len(reference) - sum(x <= at for x in current) / len(current))
        for at in {*reference, *current}
    )


@given(SAMPLES, SAMPLES)
def test_the_figures_are_those_of_the_slow_computation(reference: list[float], current: list[float]) -> None:
    found = drift(np.array(reference), np.array(current))
    assert found.psi == pytest.approx(slow_psi(reference, current), rel=1e-9, abs=1e-12)
    assert found.ks == pytest.approx(slow_ks(reference, current))
    assert 0 <= found.ks_p_value <= 1


@given(SAMPLES)
def test_a_sample_has_not_drifted_from_itself(sample: list[float]) -> None:
    found = drift(np.array(sample), np.array(sample[::-1]))
    assert (found.psi, found.ks) == (0.0, 0.0)
    assert found.mean == pytest.approx(0.0, abs=1e-6)
    assert found.quantiles == (0.0,) * len(QUANTILES)


def test_a_published_example() -> None:
    """Two bins of halves that become 0.6 and 0.4: 0.1 ln 1.2 - 0.1 ln 0.8."""
    reference, current = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [60, 40])
    assert psi(reference, current) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))


def test_differences_are_in_deviations_of_the_reference() -> None:
    reference = np.random.default_rng(0).normal(10, 2, 10_000)
    found = drift(reference, reference + 3)
    assert found.mean == pytest.approx(3 / np.std(reference))
    assert found.quantiles == pytest.approx([3 / np.std(reference)] * len(QUANTILES))
    assert found.psi > 0.25
    assert found.ks_p_value < 1e-9


def test_a_constant_that_changes_has_no_scale() -> None:
    found = drift(np.array([5.0, 5.0]), np.array([6.0]))
    assert (found.mean, found.quantiles) == (None, (None,) * len(QUANTILES))
    assert found.ks == 1.0
    assert found.psi > 1
