"""Times that should be milliseconds since 1970 and are probably in another unit."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tfx_cassandra.components.errors import DatasetError

_FIRST, _LAST = 315_532_800, 4_102_444_800  # 1980 to 2100, in seconds: when most data is from
_PER_SECOND = {'seconds': 1, 'milliseconds': 10**3, 'microseconds': 10**6, 'nanoseconds': 10**9}


def probable_unit(times: Iterable[int | None]) -> str | None:
    """Returns the unit in which more than half of the times lie in the years 1980 to 2100; None if there is none.

    No number lies in these years in two units.
    """
    present = [time for time in times if time is not None]
    units = collections.Counter(
        unit for time in present for unit, per in _PER_SECOND.items() if _FIRST * per <= time < _LAST * per
    )
    (unit, count), *_ = [*units.most_common(1), (None, 0)]
    return unit if 2 * count > len(present) else None


def check_milliseconds(field: str, times: Iterable[int | None]) -> None:
    """Raises DatasetError, naming `field` and the unit, if times are probably not in milliseconds since 1970.

    Times in milliseconds from January 4th to February 17th of 1970 are mistaken for seconds.
    """
    times = list(times)
    unit = probable_unit(times)
    if unit not in (None, 'milliseconds'):
        first = next(time for time in times if probable_unit([time]) == unit)
        raise DatasetError(f'{field}: got {first}, rule: milliseconds since 1970, and these are probably {unit}')
