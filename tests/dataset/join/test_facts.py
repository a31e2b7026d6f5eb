"""Facts of rows with unusual names and times: names of users do not clash, and times do not overflow."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql.table import writetime_name
from tfx_cassandra.components.dataset.join import join, leaks, pivot, shards
from tfx_cassandra.components.dataset.join.facts import described, facts, microseconds
from tfx_cassandra.components.dataset.spec.label import LabelSource, spine
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import EPOCH, TimeWindow

STAMP = pa.timestamp('ms', 'UTC')
FIRST, LAST = -(2**63), 2**63 - 1
FURTHEST = 2**62 // 1000
YEAR_20000 = 568_971_820_800_000
WINDOW = TimeWindow.parse('1970-01-01T00:00Z/1970-01-01T00:00:00.010Z')


def batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def times(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int64()).cast(STAMP)


@pytest.mark.parametrize('value', [FIRST, FIRST + 1, -FURTHEST - 1, FURTHEST + 1, 2**62, LAST])
def test_a_time_beyond_64_bits_of_microseconds_names_its_row(value: int) -> None:
    view = FeatureView('v', 't', ('e',), 'ts', ('a',), created_column='made')
    for column in ('ts', 'made'):
        read = {'e': pa.array(['x', 'y']), 'ts': times(3, 4), 'made': times(5, None), 'a': pa.array([1, 2])}
        read[column] = times(3, value)
        with pytest.raises(DatasetError, match=r'rule: a time within \d+ ms of 1970') as caught:
            facts(batch(read), view)
        shown = value if column == 'ts' else 4
        assert str(caught.value).startswith(
            f"{column} of view v: got {value} ms since 1970 in the row {{'e': 'y', 'ts': {shown}}}"
        )


@pytest.mark.parametrize('value', [-FURTHEST, -1, 0, YEAR_20000, FURTHEST])
def test_times_far_from_now_are_exact(value: int) -> None:
    assert microseconds(times(value, None)).to_pylist() == [1000 * value, None]


def joined_value(event: int, created: int | None, now: int, ttl: datetime.timedelta | None) -> tuple[object, str, list]:
    view = FeatureView('v', 't', ('e',), 'ts', ('a',), ttl=ttl, created_column='made')
    read = {'e': pa.array(['x']), 'ts': times(event), 'made': times(created), 'a': pa.array([7])}
    held = pa.Table.from_batches([facts(batch(read), view)])
    joined, (outcome,) = join.join(pa.table({'e': ['x'], 'at': times(now)}), 'at', held, view)
    (listed,) = join.join(pa.table({'e': ['x'], 'at': times(now)}), 'at', held, view, history=2)[0]['a'].to_pylist()
    value = joined['a'][0].as_py()
    assert listed == ([] if value is None else [value])
    return value, join.STATUSES[outcome.status[0]], outcome.age.tolist()


YEARS = datetime.timedelta(days=365)


@pytest.mark.parametrize(
    ('event', 'created', 'now', 'ttl', 'expected'),
    [
        (0, YEAR_20000, 1000, None, (None, 'cut_off', [])),
        (0, FURTHEST, 1000, None, (None, 'cut_off', [])),  # thousandfold it was -808 us, which is always known
        (-FURTHEST, -FURTHEST, FURTHEST, None, (7, 'found', [2000 * FURTHEST])),
        (-FURTHEST, None, 1000, datetime.timedelta.max, (7, 'found', [1000 * (1000 + FURTHEST)])),
        (-FURTHEST, None, FURTHEST, 200_000 * YEARS, (None, 'expired', [])),
        (-FURTHEST, None, FURTHEST, 400_000 * YEARS, (7, 'found', [2000 * FURTHEST])),
        (YEAR_20000 - 1, None, YEAR_20000, datetime.timedelta(milliseconds=1), (None, 'expired', [])),
        (YEAR_20000 - 1, None, YEAR_20000, datetime.timedelta(microseconds=1001), (7, 'found', [1000])),
    ],
)
def test_far_times_and_long_ttls(
    event: int, created: int | None, now: int, ttl: datetime.timedelta | None, expected: tuple
) -> None:
    assert joined_value(event, created, now, ttl) == expected


@pytest.mark.parametrize('delay', [datetime.timedelta(days=999_999), datetime.timedelta.max])
def test_a_label_with_a_delay_beyond_the_calendar_is_not_known(delay: datetime.timedelta) -> None:
    source = LabelSource('t', ('e',), 'at', ('late',), delay=delay)
    rows = batch({'e': pa.array(['x']), 'at': times(5), 'late': pa.array([True])})
    assert spine(rows, source, EPOCH).column(2).to_pylist() == [None]
    # Long before what Python's datetimes know, a label may be known all the same.
    rows = batch({'e': pa.array(['x']), 'at': times(-(10**17)), 'late': pa.array([True])})
    assert spine(rows, source, EPOCH).column(2).to_pylist() == [True]


def test_a_window_of_all_years_is_cut_in_order() -> None:
    everything = TimeWindow(EPOCH.replace(year=1), EPOCH.replace(year=9999))
    edges = shards._edges(everything)
    assert (edges[1:] > edges[:-1]).all()
    assert edges[0] == 1000 * everything.bounds[0]


def test_large_values_are_not_shown_whole() -> None:
    text = described(batch({'e': pa.array(['x' * 10**6]), 'ts': times(LAST)}), 0)
    assert len(text) < 200
    assert text.endswith(f"'ts': {LAST}}}")


# Names that are, or were, those of columns in the join, the pivot, the scan or polars.
HOSTILE = [
    'at', 'entity', 'time', 'place', 'row', 'row number', 'event', 'name', 'value', 'created', 'known', 'status',
    'group', 'number', 'from', 'reason', 'text', 'example', 'first', 'index', 'value:x', 'created:x', 'writetime(x)',
    'entity 0', 'entity 1', '0', '1', 'drop', 'literal', '*', '^.*$', '^a', '$', ' ', '.', '"', "'", 'a b', 'é',
    'labels', 'writetime(writetime(x))', '__index__', 'right', 'at_right', 'row_right',
]  # fmt: skip


@st.composite
def named(draw: st.DrawFn) -> list[str]:
    odd = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=3).filter(lambda text: '\0' not in text))
    return draw(st.lists(odd, min_size=7, max_size=7, unique=True))


ROWS = [('x', 1, 0), ('x', 2, 3), ('y', 1, 2), ('y', 1, 5), ('x', 1, 4)]  # entity, event


def made(view: FeatureView, plain: FeatureView, rename: dict[str, str]) -> list:
    """Returns what comes of the same rows, by place, with names of a user's or with plain ones."""
    used = view if rename else plain

    def of(name: str) -> str:
        return rename.get(name, name)

    read: dict[str, pa.Array] = {
        of('k'): pa.array([row[0] for row in ROWS]), of('m'): pa.array([row[1] for row in ROWS]),
        of('ts'): times(*(row[2] for row in ROWS)),
    }  # fmt: skip
    if used.layout == 'long':
        read[of('n')] = pa.array(['f', 'g', 'f', 'g', 'g'])
    values = ['v'] if used.layout == 'long' else ['f', 'g']
    read |= {of(name): pa.array([1.0, None, 3.0, 4.0, 5.0]) for name in values}
    arrays, names = list(read.values()), list(read)
    for name in values:  # behind the table's own columns, as a scan has them
        arrays.append(pa.array([0, 1, 9000, None, 4000]))
        names.append(writetime_name(of(name)))
    rows = pa.RecordBatch.from_arrays(arrays, names)
    spine = pa.table({of('k'): ['x', 'y', 'x'], of('m'): [1, 1, 2], of('late'): [1, 2, 3], of('ts'): times(4, 5, 3)})
    held = facts(rows, used)
    spines = spine.to_batches()
    counts = shards.count_spine(spines[0], used, of('ts'), WINDOW) + shards.count_facts(held, used, WINDOW)
    plan = shards.plan(counts, WINDOW, 2)
    parts = [part.to_pydict() for _, part in shards.route_facts(held, used, plan, True)]
    parts += [part.to_pydict() for _, part in shards.route_spine(spines[0], used, of('ts'), plan)]
    joined, outcomes = join.join(spine, of('ts'), pa.Table.from_batches([held]), used)
    found = leaks.find({'a': spine[:2], 'b': spine[1:]}, [of('k'), of('m')], of('ts'))
    out = [joined, *([pivot.pivot([rows.slice(0, 2), rows.slice(2)], used)] if used.layout == 'long' else [])]
    by_place = [[column.to_pylist() for column in table.columns] for table in out]
    return [by_place, [list(part.values()) for part in parts], [outcome.status.tolist() for outcome in outcomes], found]


@settings(deadline=None, max_examples=150)
@given(named(), st.booleans())
def test_a_column_may_have_any_name(names: list[str], long: bool) -> None:
    layout = {'layout': 'long', 'feature_name_column': 'n', 'value_column': 'v'} if long else {}
    plain = FeatureView('v', 't', ('k', 'm'), 'ts', ('f', 'g'), **layout)  # type: ignore[arg-type]
    own = dict(zip(['k', 'm', 'ts', 'late', *(['n', 'v'] if long else ['f', 'g'])], names, strict=False))
    layout = {'layout': 'long', 'feature_name_column': own['n'], 'value_column': own['v']} if long else {}
    features = ('f', 'g') if long else (own['f'], own['g'])
    used = (own['k'], own['m'], own['ts'], own['late'])
    if long and {'f', 'g'} & set(used):
        return
    view = FeatureView('v', 't', used[:2], used[2], features, **layout)  # type: ignore[arg-type]
    assert made(view, plain, own) == made(view, plain, {})


def test_a_column_named_like_a_write_time_keeps_its_values() -> None:
    view = FeatureView('v', 't', ('e',), 'ts', ('x', 'writetime(x)'))
    names = ['e', 'ts', 'x', 'writetime(x)', 'writetime(x)', 'writetime(writetime(x))']
    arrays = [pa.array(['a']), times(1), pa.array([5]), pa.array([6]), pa.array([7]), pa.array([8])]
    held = facts(pa.RecordBatch.from_arrays(arrays, names), view).to_pydict()
    assert [held[name] for name in ('value:x', 'created:x', 'value:writetime(x)', 'created:writetime(x)')] == [
        [5], [7], [6], [8],
    ]  # fmt: skip
    # Without write times, as where the cut-off is off.
    held = facts(pa.RecordBatch.from_arrays(arrays[:4], names[:4]), view).to_pydict()
    assert held['created:x'] == held['created:writetime(x)'] == [None]
    assert held['value:writetime(x)'] == [6]
