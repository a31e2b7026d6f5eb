"""What benchmarks/load.py says grows, and what it says does not."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NOISE = np.random.default_rng(1).normal(0, 1, 60)


@pytest.fixture(scope='module')
def load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location('load', ROOT / 'benchmarks' / 'load.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        (np.full(60, 9.0), False),
        (100 + NOISE, False),
        (100 + 30 * NOISE + np.arange(60) / 60, False),  # less than the noise
        (100 + 0.01 * NOISE + np.arange(60) / 60, False),  # 1 %
        (np.where(np.arange(60) < 29, 11.0, 12.0), False),  # one thread more, once
        (np.where(np.arange(60) < 5, 50.0, 100.0) + NOISE, False),  # while it becomes warm
        (100 + NOISE + np.arange(60) / 4, True),  # 15 % in all
        (9.0 + np.arange(60) // 10, True),  # a descriptor every ten samples
        (np.where(np.arange(60) % 7, 100 + NOISE + np.arange(60) / 2, np.nan), True),  # samples without a call
    ],
)
def test_what_grows(load: types.ModuleType, values: np.ndarray, expected: bool) -> None:
    assert load.grows(list(values)) is expected


def test_too_few_samples_are_no_answer(load: types.ModuleType) -> None:
    with pytest.raises(SystemExit, match='0 samples with calls, rule: ten or more'):
        load.grows([float('nan')] * 60)


def test_the_plot_shows_every_series(load: types.ModuleType) -> None:
    text = load.plot({name: list(100 + NOISE) for name in load.UNITS}, 10)
    assert text.count('<text') == 2 * len(load.UNITS)
    assert 'NaN' not in text
