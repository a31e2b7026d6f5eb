"""Times in another unit than milliseconds are told by when they would be."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tfx_cassandra.components.dataset.join.unit import check_milliseconds, probable_unit
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.lookup.latest import moments

NOW = 1_357_000_000  # a second of 2013


@pytest.mark.parametrize(
    ('times', 'unit'),
    [
        ([NOW], 'seconds'),
        ([NOW * 1000], 'milliseconds'),
        ([NOW * 10**6], 'microseconds'),
        ([NOW * 10**9], 'nanoseconds'),
        ([315_532_800, 4_102_444_799], 'seconds'),  # 1980 to 2100
        ([315_532_799], None),
        ([4_102_444_800], None),
        ([NOW, NOW * 1000], None),
        ([NOW, NOW, NOW * 1000], 'seconds'),
        ([NOW * 1000, NOW * 1000, NOW], 'milliseconds'),  # one odd row does not make the unit
        ([None, None, NOW], 'seconds'),
        ([0, 10, -(10**12), 2**63 - 1, -(2**63)], None),
        ([None], None),
        ([], None),
    ],
)
def test_units(times: list, unit: str | None) -> None:
    assert probable_unit(times) == unit


@pytest.mark.parametrize(
    ('unit', 'per'), [('seconds', 1), ('milliseconds', 10**3), ('microseconds', 10**6), ('nanoseconds', 10**9)]
)
def test_the_years_1980_to_2100_to_the_last_tick(unit: str, per: int) -> None:
    first, last = 315_532_800 * per, 4_102_444_800 * per
    assert [probable_unit([time]) for time in (first - 1, first, last - 1, last)] == [None, unit, unit, None]


def test_a_feature_in_another_unit_is_an_error_that_names_it() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([[5], [NOW * 10**6], [NOW * 10**6]])], ['asked'])
    with pytest.raises(DatasetError) as caught:
        moments(batch, 'asked')
    assert str(caught.value) == (
        f'as_of feature asked: got {NOW}000000, rule: milliseconds since 1970, and these are probably microseconds'
    )
    check_milliseconds('as_of', [NOW * 1000, None, 5])
    check_milliseconds('as_of', [])
