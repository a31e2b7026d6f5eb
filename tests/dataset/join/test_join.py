"""The point-in-time join against two oracles written otherwise: loops over plain tuples, and pandas.merge_asof.

Histories, the last n values instead of the newest, are held against loops alone.

Each generated case is a spine and the facts of a view, of wide or long layout, in times so few that ties, expiry, late
writes and doubled rows come up all the time. CI runs a few hundred cases, `make test-slow` thousands.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import math
import unittest.mock
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql.table import writetime_name
from tfx_cassandra.components.dataset.join import join, keys, parts, shards
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import TimeWindow

STAMP = pa.timestamp('ms', 'UTC')
FEATURES = (Feature('a'), Feature('b', rename='bee', default=-1.0), Feature('l'))
TYPES = {'a': pa.int32(), 'b': pa.float64(), 'l': pa.list_(pa.int32())}
MS = 1000  # microseconds
CHECKED = {'cases': 0, 'cells': 0, 'pandas cells': 0, 'shards': 0, 'histories': 0}


@dataclasses.dataclass(frozen=True)
class Case:
    """A view with its rows and a spine: `rows` are (entity, event ms, name or None, {column: (value, created us)})."""

    view: FeatureView
    cut_off: bool
    spine: list[tuple]
    rows: list[tuple]
    pieces: int
    history: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    parts = draw(st.sampled_from([('text',), ('int',), ('text', 'int'), ('time',)]))
    long, timeless = draw(st.booleans()), draw(st.integers(0, 5)) == 0
    view = FeatureView(
        'v', 't', tuple(f'e{i}' for i in range(len(parts))), None if timeless else 'ts',
        FEATURES[:2] if long else FEATURES,
        ttl=None if timeless else draw(st.one_of(st.none(), st.integers(1, 4).map(lambda n: n * MILLISECOND))),
        layout='long' if long else 'wide', feature_name_column='name' if long else None,
        value_column='value' if long else None, created_column=draw(st.sampled_from([None, 'made'])),
        join_columns=tuple(f'k{i}' for i in range(len(parts))),
    )  # fmt: skip
    parts_of = {
        'text': st.sampled_from(['x', 'y', 'z']),
        'int': st.integers(0, 1),
        'time': st.integers(0, 2),
    }
    entity = st.tuples(*(parts_of[part] for part in parts))
    time = st.integers(0, 8)
    created = st.one_of(st.none(), st.integers(0, 40).map(lambda n: n * MS // 4))
    if view.created_column:
        created = created.map(lambda us: us and us // MS * MS)
    values = {
        'a': st.one_of(st.none(), st.integers(0, 3)),
        'b': st.one_of(st.none(), st.sampled_from([0.0, 0.5, -math.inf])),
        'l': st.one_of(st.none(), st.lists(st.integers(0, 2), max_size=2)),
    }
    names = [feature.name for feature in FEATURES]
    if long:
        row = st.tuples(
            entity, time, st.sampled_from(['a', 'b', 'else']),
            st.fixed_dictionaries({'value': st.tuples(values['b'], created)}),
        )  # fmt: skip
    else:
        row = st.tuples(
            entity, time, st.none(),
            st.fixed_dictionaries({name: st.tuples(values[name], created) for name in names}),
        )  # fmt: skip
    # As many as are drawn: lists of a free length are mostly short, and hold few ties.
    count = draw(st.integers(0, 24))
    rows = draw(st.lists(row, min_size=count, max_size=count))
    together = draw(st.booleans()) and not long
    if view.created_column or together:  # one for the whole row
        rows = [
            (e, t, n, {c: (v, next(iter(cells.values()))[1]) for c, (v, _) in cells.items()}) for e, t, n, cells in rows
        ]
    if together:  # a value of every column or of none, as rows are that were written whole
        rows = [
            (e, t, n, {c: (None if cells['a'][0] is None else PRESENT[c] if v is None else v, made) for c, (v, made) in
                       cells.items()}) for e, t, n, cells in rows
        ]  # fmt: skip
    spine = draw(st.lists(st.tuples(entity, st.integers(0, 9)), min_size=1, max_size=12))
    return Case(view, draw(st.booleans()), spine, rows, draw(st.integers(1, 3)), draw(st.integers(1, 5)))


MILLISECOND = datetime.timedelta(milliseconds=1)
PRESENT = {'a': 4, 'b': 1.5, 'l': [9]}


def tables(case: Case) -> tuple[pa.Table, pa.Table]:
    """Returns (spine, facts) as the join takes them, the facts in several chunks."""
    view = case.view
    texts = {i for i in range(len(view.entity_columns)) if isinstance(case.spine[0][0][i], str)}
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(view.spine_columns):
        kind = pa.string() if i in texts else pa.int64()
        columns[name] = pa.array([entity[i] for entity, _ in case.spine], kind)
    columns['at'] = pa.array([time for _, time in case.spine], STAMP)
    columns['row'] = pa.array(range(len(case.spine)))
    spine = pa.table(columns)
    batches = []
    for piece in range(case.pieces):
        rows = case.rows[piece :: case.pieces]
        read: dict[str, pa.Array] = {}
        for i, name in enumerate(view.entity_columns):
            read[name] = pa.array([row[0][i] for row in rows], pa.string() if i in texts else pa.int16())
        read['ts'] = pa.array([row[1] for row in rows], STAMP)
        if view.layout == 'long':
            read['name'] = pa.array([row[2] for row in rows], pa.string())
        columns_of = ['value'] if view.layout == 'long' else [feature.name for feature in FEATURES]
        for name in columns_of:
            read[name] = pa.array([row[3][name][0] for row in rows], TYPES.get(name, pa.float64()))
            stamps = pa.array([row[3][name][1] for row in rows], pa.int64())
            if view.created_column:
                read['made'] = pa.array([s and s // MS for s in stamps.to_pylist()], STAMP)
            else:
                read[writetime_name(name)] = stamps
        batch = pa.RecordBatch.from_arrays(list(read.values()), names=list(read))
        batches.append(facts(batch, view))
    return spine, pa.Table.from_batches(batches)


def brute(case: Case, feature: Feature, entity: tuple, time: int) -> tuple[object, str, int | None]:
    """Returns (value, status, age in us) by looking at every row, one at a time."""
    view, now = case.view, time * MS
    happened, alive, known = [], [], []
    for other, event, name, cells in case.rows:
        value, created = cells['value' if view.layout == 'long' else feature.name]
        if other != entity or value is None or (view.layout == 'long' and name != feature.name):
            continue
        moment = -math.inf if view.timestamp_column is None else event * MS
        if moment <= now:
            happened.append(moment)
            if view.ttl is None or moment > now - view.ttl.total_seconds() * 1e6:
                alive.append(moment)
                if not case.cut_off or created is None or created <= now:
                    known.append((moment, -1 if created is None else created, str(value), value))
    if known:
        moment, _, _, value = max(known, key=lambda fact: fact[:3])
        return value, 'found', None if view.timestamp_column is None else int(now - moment)
    return feature.default, 'cut_off' if alive else 'expired' if happened else 'missing', None


def brute_history(case: Case, feature: Feature, entity: tuple, time: int) -> list:
    """Returns the last values known at a time, oldest first, by looking at every row, one at a time."""
    at_event: dict[int, tuple] = {}
    for other, event, name, cells in case.rows:
        value, created = cells['value' if case.view.layout == 'long' else feature.name]
        wanted = other == entity and value is not None and name in (None, feature.name)
        too_old = case.view.ttl is not None and event <= time - case.view.ttl / MILLISECOND
        unknown = case.cut_off and created is not None and created > time * MS
        if wanted and event <= time and not too_old and not unknown:
            fact = (-1 if created is None else created, str(value), value)
            at_event[event] = max(at_event.get(event, fact), fact, key=lambda candidate: candidate[:2])
    return [at_event[event][2] for event in sorted(at_event)][-case.history :]


def by_pandas(case: Case, feature: Feature) -> list:
    """Returns the values by pandas.merge_asof, for cases without cut-off and with times."""
    column = 'value' if case.view.layout == 'long' else feature.name
    keys = list(case.view.spine_columns)
    right = pd.DataFrame(
        [
            (*entity, event, -1 if cells[column][1] is None else cells[column][1], str(cells[column][0]), i)
            for i, (entity, event, name, cells) in enumerate(case.rows)
            if cells[column][0] is not None and (case.view.layout == 'wide' or name == feature.name)
        ],
        columns=[*keys, 'event', 'created', 'text', 'i'],
    )
    if right.empty:
        return [feature.default] * len(case.spine)
    right = right.sort_values(['event', 'created', 'text'], kind='stable').drop_duplicates(
        [*keys, 'event'], keep='last'
    )
    left = pd.DataFrame(
        [(*entity, time, row) for row, (entity, time) in enumerate(case.spine)], columns=[*keys, 'event', 'row']
    )
    right = right.astype({key: left[key].dtype for key in keys})
    # pandas' tolerance is inclusive and ours is not, in whole milliseconds.
    tolerance = None if case.view.ttl is None else int(case.view.ttl / MILLISECOND) - 1
    merged = pd.merge_asof(left.sort_values('event', kind='stable'), right, on='event', by=keys, tolerance=tolerance)
    merged = merged.sort_values('row')
    return [feature.default if math.isnan(i) else case.rows[int(i)][3][column][0] for i in merged['i']]


def check(case: Case) -> None:
    spine, held = tables(case)
    joined, outcomes = join.join(spine, 'at', held, case.view, case.cut_off)
    assert joined.select(spine.schema.names).equals(spine)  # every row, once, in its order
    assert joined.schema.names == [*spine.schema.names, *case.view.example_names]
    CHECKED['cases'] += 1
    for feature, outcome in zip(case.view.full_features, outcomes, strict=True):
        got = joined.column(case.view.example_name(feature)).to_pylist()
        expected = [brute(case, feature, entity, time) for entity, time in case.spine]
        assert got == [value for value, _, _ in expected]
        assert [join.STATUSES[status] for status in outcome.status] == [status for _, status, _ in expected]
        assert outcome.age.tolist() == [age for _, _, age in expected if age is not None]
        CHECKED['cells'] += len(got)
        if not case.cut_off and case.view.timestamp_column is not None:
            assert got == by_pandas(case, feature)
            CHECKED['pandas cells'] += len(got)
    for shard_rows in (2, 7):
        assert sharded(case, spine, held, shard_rows) == sorted(zip(*by_row(joined, outcomes), strict=True))
    if case.view.layout == 'long':
        # A shard with many features is joined in several parts.
        with unittest.mock.patch.object(parts, '_MAX_CELLS', len(case.spine)):
            parted, again = join.join(spine, 'at', held, case.view, case.cut_off)
        assert parted.equals(joined)
        assert by_row(parted, again) == by_row(joined, outcomes)
    if case.view.timestamp_column is not None:
        check_history(case, spine, held)


def check_history(case: Case, spine: pa.Table, held: pa.Table) -> None:
    joined, outcomes = join.join(spine, 'at', held, case.view, case.cut_off, case.history)
    for feature in case.view.full_features:
        got = joined.column(case.view.example_name(feature)).to_pylist()
        assert got == [brute_history(case, feature, entity, time) for entity, time in case.spine]
        CHECKED['histories'] += len(got)
    for shard_rows in (2, 7):
        pieces = sharded(case, spine, held, shard_rows, case.history)
        assert pieces == sorted(zip(*by_row(joined, outcomes), strict=True))


WINDOW = TimeWindow.parse('1970-01-01T00:00Z/1970-01-01T00:00:00.010Z')


def by_row(joined: pa.Table, outcomes: list[join.FeatureOutcome]) -> list:
    columns = [list(map(str, joined.column(i).to_pylist())) for i in range(joined.num_columns)]
    return [joined.column('row').to_pylist(), *columns, *(outcome.status.tolist() for outcome in outcomes)]


def sharded(case: Case, spine: pa.Table, held: pa.Table, shard_rows: int, history: int | None = None) -> list[tuple]:
    """Joins shard by shard, as Beam does; returns the rows as `by_row` has them, sorted by their number."""
    spines, facts_ = spine.to_batches(max_chunksize=3), [b for b in held.to_batches(max_chunksize=5) if b.num_rows]
    counts = sum(shards.count_spine(batch, case.view, 'at', WINDOW) for batch in spines)
    counts = counts + sum(shards.count_facts(batch, case.view, WINDOW) for batch in facts_)
    assert counts.sum() == spine.num_rows + held.num_rows
    plan = shards.plan(counts, WINDOW, shard_rows)
    rows: dict = {}
    for batch in spines:
        for shard, part in shards.route_spine(batch, case.view, 'at', plan):
            rows.setdefault(shard, ([], []))[0].append(part)
    for batch in facts_:
        for shard, part in shards.route_facts(batch, case.view, plan, case.cut_off, history):
            rows.setdefault(shard, ([], []))[1].append(part)
    CHECKED['shards'] += len(rows)
    got = []
    for events, known in rows.values():
        if events:
            table = pa.Table.from_batches(known, held.schema)
            joined, outcomes = join.join(pa.Table.from_batches(events), 'at', table, case.view, case.cut_off, history)
            got += zip(*by_row(joined, outcomes), strict=True)
    return sorted(got)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(cases())
def test_equals_both_oracles(case: Case) -> None:
    check(case)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, suppress_health_check=QUIET)
@given(cases())
def test_equals_both_oracles_in_thousands_of_cases(case: Case) -> None:
    check(case)


@pytest.mark.slow
def test_thousands_of_cases_were_compared() -> None:
    assert CHECKED['cases'] >= 2000
    print(CHECKED)  # noqa: T201


SPINE = pa.table({'e': ['x'], 'at': pa.array([10], STAMP)})


def joined_value(rows: list[tuple], view: FeatureView, cut_off: bool = True) -> tuple[object, str]:
    """Joins one row at 10 ms to (event ms, created us, value) of its entity."""
    read = {
        'e': pa.array(['x'] * len(rows)),
        'ts': pa.array([row[0] for row in rows], STAMP),
        writetime_name('a'): pa.array([row[1] for row in rows], pa.int64()),
        'a': pa.array([row[2] for row in rows], pa.int64()),
    }
    held = pa.Table.from_batches([facts(pa.RecordBatch.from_arrays(list(read.values()), names=list(read)), view)])
    joined, outcomes = join.join(SPINE, 'at', held, view, cut_off)
    return joined.column('a')[0].as_py(), join.STATUSES[outcomes[0].status[0]]


VIEW = FeatureView('v', 't', ('e',), 'ts', ('a',))
BRIEF = dataclasses.replace(VIEW, ttl=2 * MILLISECOND)


@pytest.mark.parametrize(
    ('rows', 'view', 'cut_off', 'value', 'status'),
    [
        ([], VIEW, True, None, 'missing'),
        ([(10, 10_000, 1)], VIEW, True, 1, 'found'),  # at the very time
        ([(11, 0, 1)], VIEW, True, None, 'missing'),  # after it
        ([(9, 0, 1)], BRIEF, True, 1, 'found'),
        ([(8, 0, 1)], BRIEF, True, None, 'expired'),  # exactly as old as the ttl
        ([(10, 10_001, 1)], VIEW, True, None, 'cut_off'),  # one microsecond too late
        ([(10, 10_001, 1)], VIEW, False, 1, 'found'),
        ([(5, 5_000, 1), (9, 11_000, 2)], VIEW, True, 1, 'found'),  # the newer one was not known yet
        ([(5, 9_000, 1), (9, 8_000, 2)], VIEW, True, 2, 'found'),  # a late correction of the past is not newer
        ([(9, 2, 1), (9, 3, 2), (9, 1, 3)], VIEW, True, 2, 'found'),  # equal events: created last
        ([(9, 2, 1), (9, 11_000, 2)], VIEW, True, 1, 'found'),  # but not after the row's time
        ([(9, 2, 1), (9, 11_000, 2)], VIEW, False, 2, 'found'),
        ([(9, 5, None), (8, 5, 7)], VIEW, True, 7, 'found'),  # a null is no value
        ([(7, 5, 1), (8, 11_000, 2)], BRIEF, True, None, 'expired'),
        ([(9, None, 1)], VIEW, True, 1, 'found'),  # not told when written: taken as known at its event
    ],
)  # fmt: skip
def test_ends_ties_and_the_cut_off(
    rows: list[tuple], view: FeatureView, cut_off: bool, value: object, status: str
) -> None:
    assert joined_value(rows, view, cut_off) == (value, status)


def test_each_fact_is_taken_once_however_many_features_a_long_view_has(monkeypatch: pytest.MonkeyPatch) -> None:
    features, entities, at = [f'f{i}' for i in range(300)], ['x', 'y'], 10
    view = FeatureView(
        'v', 't', ('e',), 'ts', tuple(features), layout='long', feature_name_column='name', value_column='value'
    )
    keys = [(entity, feature, ts) for ts in (1, 2, 11) for entity in entities for feature in features]
    columns = {
        'e': pa.array([entity for entity, _, _ in keys]),
        'name': pa.array([feature for _, feature, _ in keys]),
        'ts': pa.array([ts for _, _, ts in keys], STAMP),
        'value': pa.array(range(len(keys)), pa.int64()),
    }
    held = pa.Table.from_batches([facts(pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), view)])
    taken: collections.Counter[str] = collections.Counter()

    def watched(module: Any, name: str, rows: Callable) -> None:
        real = getattr(module, name)

        def count(*given: Any) -> Any:
            taken[name] += len(rows(*given))
            return real(*given)

        monkeypatch.setattr(module, name, count)

    watched(parts, '_candidates', lambda held, *_: held.row)
    watched(join, '_as_of', lambda rows, keys, key, group: key)
    monkeypatch.setattr(parts, '_MAX_CELLS', 20)  # ten features at a time
    joined, _ = join.join(pa.table({'e': entities, 'at': pa.array([at, at], STAMP)}), 'at', held, view)
    last = {(entity, feature): i for i, (entity, feature, ts) in enumerate(keys) if ts <= at}
    assert joined.to_pydict() | {'at': None} == {'e': entities, 'at': None} | {
        feature: [last[entity, feature] for entity in entities] for feature in features
    }
    assert taken['_candidates'] == len(keys)
    assert taken['_as_of'] <= len(keys)


@pytest.mark.parametrize('again', [False, True])
def test_columns_that_were_written_together_are_joined_once(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    names = [f'f{i}' for i in range(20)]
    view = FeatureView('v', 't', ('e',), 'ts', tuple(names))
    times = [1, 2, 2] if again else [1, 2, 3]  # equal neighbours are ordered by their values' texts, for each column
    read = {'e': pa.array(['x'] * 3), 'ts': pa.array(times, STAMP)}
    read |= {name: pa.array([0, 30 - number, 11 + number]) for number, name in enumerate(names)}
    read |= {writetime_name(name): pa.array([1, 2, 2]) for name in names}
    held = pa.Table.from_batches([facts(pa.RecordBatch.from_arrays(list(read.values()), names=list(read)), view)])
    searched = unittest.mock.Mock(wraps=join._as_of)
    monkeypatch.setattr(join, '_as_of', searched)
    joined, _ = join.join(pa.table({'e': ['x'], 'at': pa.array([10], STAMP)}), 'at', held, view)
    newest = {name: [max(30 - i, 11 + i) if again else 11 + i] for i, name in enumerate(names)}
    assert joined.select(names).to_pydict() == newest
    assert searched.call_count == 1


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(cases())
def test_keys_of_times_too_far_apart_for_64_bits_are_made_of_ranks(case: Case) -> None:
    spine, held = tables(case)
    plain = join.join(spine, 'at', held, case.view, case.cut_off)
    with unittest.mock.patch.object(keys, '_MAX_KEY', 0):
        ranked = join.join(spine, 'at', held, case.view, case.cut_off)
    assert ranked[0].equals(plain[0])
    assert by_row(*ranked) == by_row(*plain)


def test_times_at_both_ends_of_their_range() -> None:
    far = 2**62 // 1000
    made = keys.Keys(3, [np.array([-far, far]), np.array([0])])
    pairs = [(group, time) for group in range(3) for time in (-far, 0, far)]
    got = [int(made.of(np.array([group]), np.array([time]))[0]) for group, time in pairs]
    assert got == sorted(set(got))
    rows = [('x', -far, -1.0, 5), ('x', far, 1.0, 5)]
    read = {'e': pa.array([row[0] for row in rows]), 'ts': pa.array([row[1] for row in rows], STAMP)}
    read |= {'a': pa.array([row[2] for row in rows]), writetime_name('a'): pa.array([row[3] for row in rows])}
    held = pa.Table.from_batches([facts(pa.RecordBatch.from_arrays(list(read.values()), names=list(read)), VIEW)])
    spine = pa.table({'e': ['y', 'x', 'x', 'x'], 'at': pa.array([far, 4, far, -far], STAMP)})
    joined, (outcome,) = join.join(spine, 'at', held, VIEW, cut_off=False)
    assert joined.column('a').to_pylist() == [None, -1.0, 1.0, -1.0]
    assert outcome.age.tolist() == [(4 + far) * MS, 0, 0]


def test_entities_of_other_types_are_an_error() -> None:
    spine = pa.table({'e': pa.array([1]), 'at': pa.array([10], STAMP)})
    read = {'e': pa.array(['x']), 'ts': pa.array([1], STAMP), 'a': pa.array([1])}
    held = pa.Table.from_batches([facts(pa.RecordBatch.from_arrays(list(read.values()), names=list(read)), VIEW)])
    with pytest.raises(DatasetError, match=r'^view v: got e: string and int64, rule: entities of the same type'):
        join.join(spine, 'at', held, VIEW)


def test_a_default_of_another_type_is_an_error() -> None:
    view = dataclasses.replace(VIEW, features=(Feature('a', default='none'),))
    with pytest.raises(DatasetError, match=r"^default of a: got 'none', rule: a value of type int64"):
        joined_value([], view)
