"""The simulation of docs/scaling.md counts rightly what can be counted, and the page has its tables."""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def scaling() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location('scaling', ROOT / 'benchmarks' / 'scaling.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ledger_grows_with_the_plan(scaling: types.ModuleType) -> None:
    small, large = scaling.scanned(3, 10**6), scaling.scanned(30, 10**8)
    assert small['coverage'] == small['splits'] >= 3 * 16
    assert 30 * 16 <= large['splits'] < 10_000
    assert 100 < large['ledger bytes'] / large['splits'] < 1000
    assert large['groups'] <= large['splits']


def test_shards_are_bounded_by_buckets_and_bins(scaling: types.ModuleType) -> None:
    few, many = scaling.joined(10**7), scaling.joined(10**12)
    assert few['even largest'] <= 250_000 < many['even largest']
    assert many['even shards'] == 256 * 64


def test_a_large_partition_is_read_in_slices_from_its_replicas(scaling: types.ModuleType) -> None:
    assert scaling.giant(10)['nodes'] == 3
    assert 16 <= scaling.giant(10)['slices'] <= 256


def test_the_runner_shuffles_places_and_the_spool_holds_rows(scaling: types.ModuleType) -> None:
    small, large = ({step: counts for step, *counts in scaling.shuffled(rows)} for rows in (10**7, 10**12))
    assert small['join in time'][0] == 10**7 // 5000, 'a page goes to one shard while buckets are not cut by time'
    assert large['join in time'][0] == 64 * 10**12 // 5000
    for steps, rows in ((small, 10**7), (large, 10**12)):
        assert steps['pivot of a long view'][0] == 64 * rows // 5000
        assert steps['examples to files, two splits'][0] == 2 * rows // 5000
        for elements, shuffled, spooled in steps.values():
            assert 150 < shuffled / elements < 400
            assert spooled > 10 * shuffled


def test_a_table_takes_the_place_of_the_one_before(scaling: types.ModuleType) -> None:
    page = 'a\n<!-- t: made -->\n\nold\n\n<!-- /t -->\nb\n'
    once = scaling.placed(page, 't', 'new')
    assert 'old' not in once
    assert once == scaling.placed(once, 't', 'new') == 'a\n<!-- t: made -->\n\nnew\n\n<!-- /t -->\nb\n'
    with pytest.raises(SystemExit, match='no marks of u'):
        scaling.placed(page, 'u', 'new')


def test_the_page_has_every_table(scaling: types.ModuleType) -> None:
    page = (ROOT / 'docs' / 'scaling.md').read_text()
    for name in scaling.TABLES:
        assert '| ---' in page.partition(f'<!-- {name}: ')[2].partition(f'<!-- /{name} -->')[0]
