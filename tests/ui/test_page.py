"""How values are shown, and views from a file."""

from __future__ import annotations

import datetime
import math
import threading
import time
import xml.etree.ElementTree

import pytest
import status_data

from tfx_cassandra.components.ui import charts, models, page
from tfx_cassandra.components.ui.models import Series
from tfx_cassandra.components.ui.source import Kept, Part

SECOND = datetime.timedelta(seconds=1)


@pytest.mark.parametrize(
    ('length', 'text'),
    [(None, '-'), (SECOND * 0.25, '0.25 s'), (SECOND * 59, '59 s'), (SECOND * 90, '1.5 min'), (SECOND * 7200, '2 h'),
     (SECOND * 86400 * 400, '1.1 y'), (-SECOND * 3600, '-1 h'), (12.5, '12.5 s')],
)  # fmt: skip
def test_lengths_of_time(length: datetime.timedelta | float | None, text: str) -> None:
    assert page.span(length) == text


@pytest.mark.parametrize(
    ('value', 'text'),
    [(None, '-'), (1234567, '1,234,567'), (0.123456, '0.1235'), (2.0, '2'), (1e300, '1e+300'), (math.nan, 'nan'),
     (math.inf, 'inf')],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert page.number(value) == text


def test_bytes() -> None:
    assert [page.size(count) for count in (0, 999, 44_392_787, 2 * 10**15)] == ['0 B', '999 B', '44.4 MB', '2e+03 TB']


@pytest.mark.parametrize(
    'values', [(1.0,), (1.0, 1.0), (0.0, -0.0), (5e-324, 0.0), (1.7e308, -1.7e308), (1e-9, 2e-9), (3.0, 1.0, 2.0)]
)
def test_a_chart_has_finite_places(values: tuple[float, ...]) -> None:
    points = tuple((status_data.NOW + i * SECOND, value) for i, value in enumerate(values))
    drawn = str(charts.lines([Series(status_data.HOSTILE, 'n', points)], status_data.HOSTILE))
    xml.etree.ElementTree.fromstring(drawn)
    assert 'nan' not in drawn
    assert 'inf' not in drawn
    assert 'style=' not in drawn
    assert status_data.SCRIPT not in drawn


def test_intervals_are_those_of_the_metrics() -> None:
    values = {'m{ab=difference}': 1.0, 'm{ab=low}': 0.5, 'm{ab=high}': 1.5, 'm{ab=value}': 9.0, 'half{ab=low}': 1.0,
              'nan{ab=difference}': math.nan, 'nan{ab=low}': 0.0, 'nan{ab=high}': 1.0, 'auc': 0.7}  # fmt: skip
    version = status_data.version('e', 'm', 1, metrics=values, ab_test_group='b')
    assert models.intervals([version], 5) == {'m': [('b 1700000001', 1.0, 0.5, 1.5, None, None, '')]}
    assert models.plain_metrics(version) == {'auc': 0.7}
    assert [len(found) for found in models.intervals([version] * 9, 5).values()] == [5]


def test_the_overall_slice_is_drawn_first() -> None:
    versions = [status_data.version('e', m, n, metrics={'a{slice.x=1}': 1.0, 'z': 2.0, 'bad': math.nan})
                for m, n in (('m', 2), ('n', 1), ('m', 0))]  # fmt: skip
    found = models.over_versions(versions, 2)
    assert {name: [one.model_id for one in series] for name, series in found.items()} == {'z': ['m', 'n']}
    assert [at for at, _ in found['z'][0].points] == sorted(at for at, _ in found['z'][0].points)


def test_an_answer_is_made_once_for_all_who_wait() -> None:
    kept, made = Kept(60), []

    def make() -> Part[int]:
        made.append(1)
        time.sleep(0.05)
        return Part(len(made))

    threads = [threading.Thread(target=kept.get, args=('k', make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), kept.get('k', make).content) == (1, 1)
    assert kept.get('other', make).content == 2


def test_answers_do_not_pile_up() -> None:
    kept = Kept(60)
    for number in range(2000):
        kept.get(number, lambda: Part(0))
    assert len(kept._answers) <= 256
