"""Moments: merged in any way they are those of all observations, also where sums of squares would lose every digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.experiment.moments import Moments, total


def observations(rows: int, offset: float = 0.0) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(rows, 3)) @ np.array([[1, 0.5, 0], [0, 1, 2], [0, 0, 1]]) + offset


@pytest.mark.parametrize('offset', [0.0, 1e9])
def test_moments_are_numpys(offset: float) -> None:
    values = observations(1000, offset)
    moments = Moments.of(values)
    assert moments.n == 1000
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(values.T), rtol=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_parts_merge_to_the_whole(groups: list[int]) -> None:
    values = observations(len(groups), 1e6)
    parts = Moments.of(values, np.array(groups), 4)
    whole = Moments.of(values)
    merged = total(parts.along(0))
    assert merged.n == whole.n
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.products, whole.products, rtol=1e-6, atol=1e-6)


def test_groups_can_be_arranged_and_taken_apart() -> None:
    groups = np.arange(600) % 6
    moments = Moments.of(observations(600), groups, 6).reshape(3, 2)
    assert [part.n.tolist() for part in moments.along(1)] == [[100, 100, 100]] * 2
    assert moments[2, 1].n == 100
    np.testing.assert_allclose(moments[2, 1].mean, observations(600)[groups == 5].mean(axis=0))


def test_an_empty_group_has_no_observation_and_merges_as_nothing() -> None:
    empty, full = Moments.of(np.empty((0, 3))), Moments.of(observations(10))
    for merged in (empty + full, full + empty):
        assert merged.n == 10
        np.testing.assert_array_equal(merged.products, full.products)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_a_finite_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r'values: got .*, rule: finite numbers'):
        Moments.of(np.array([1.0, bad]))
