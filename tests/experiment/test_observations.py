"""The join of requests and outcomes against loops over tuples, with few ids so that each comes up several times."""

from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.experiment import observations, reduced
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.window import TimeWindow

STAMP = pa.timestamp('ms', 'UTC')
WINDOW = TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z')
DELAY = datetime.timedelta(hours=6)
DESIGN = Design(
    'e', Arm('a', 'm', '1', 0.5), (Arm('b', 'm', '2', 0.5),), WINDOW, (Metric('late', 'outcome:late'),),
    outcome_delay=DELAY,
)  # fmt: skip
HOUR = datetime.timedelta(hours=1)
# Ids have one or both of their halves in common; the second one is smaller than the first as a signed number.
HALVES = [b'\x7f' * 8, b'\x80' + b'\0' * 7]


def case(draw: random.Random) -> tuple[list[tuple], list[tuple]]:
    """Makes (id, time, unit, arm) of requests, and (id, time, value) of outcomes."""

    def identity() -> bytes:
        return draw.choice(HALVES) + draw.choice(HALVES)

    def time() -> datetime.datetime:
        return WINDOW.start + draw.randrange(-4, 9) * HOUR

    requests = [
        (identity(), time(), draw.choice([None, 'u', 'u', 'u', 'v']), draw.choice([-3, -2, -1, 0, 0, 1]))
        for _ in range(draw.randrange(9))
    ]
    return requests, [(identity(), time(), draw.choice([0.0, 0.5, 1.0])) for _ in range(draw.randrange(9))]


def batch(rows: list[tuple], **columns: pa.DataType) -> pa.RecordBatch:
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(list(held), kind) for held, kind in zip(values, columns.values(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def slow(requests: list[tuple], outcomes: list[tuple]) -> tuple[list[tuple], tuple]:
    """Returns (id, arm, unit, time, value) of each request, and the counts, by loops."""
    earliest: dict[tuple, Any] = {}
    for identity, time, unit, arm in requests:
        if arm not in (-1, -3):
            key = identity, arm, unit
            earliest[key] = min(time, earliest.get(key, time))
    units: dict[bytes, set] = {}
    for identity, arm, unit in earliest:
        if arm >= 0:
            units.setdefault(identity, set()).add(unit)
    ambiguous = {identity for identity, of_id in units.items() if len(of_id) > 1}
    rows = []
    for (identity, arm, unit), time in earliest.items():
        due = time + DELAY if arm >= 0 else min(time + DELAY, WINDOW.start)
        values = [
            (known, value)
            for other, known, value in outcomes
            if other == identity and time - observations.CLOCK_SKEW <= known < due
        ]
        if identity not in ambiguous:
            rows.append(
                (identity, arm if arm >= 0 else None, unit, time.timestamp(), max(values)[1] if values else None)
            )
    known = {identity for identity, _, _ in earliest}
    orphans = sum(identity not in known for identity, _, _ in outcomes)
    matched = sum(identity in units for identity, _, _ in outcomes)
    arms = [arm for _, _, _, arm in requests]
    return rows, (arms.count(-1), arms.count(-3), matched + orphans, orphans, len(ambiguous))


@pytest.mark.parametrize('seed', range(6))
def test_joins_as_loops_do(seed: int) -> None:
    draw = random.Random(seed)
    for pieces in (1, 2, 3) * 10:
        check(*case(draw), pieces)


def check(requests: list[tuple], outcomes: list[tuple], pieces: int) -> None:
    asked = [
        batch(requests[i::pieces], request_id=pa.binary(), timestamp=STAMP, unit=pa.string(), arm=pa.int16())
        for i in range(pieces)
    ]
    told = [
        batch([(i, 0, time, value) for i, time, value in outcomes[i::pieces]], request_id=pa.binary(),
              outcome=pa.int16(), timestamp=STAMP, value=pa.float64())
        for i in range(pieces)
    ]  # fmt: skip
    joined, counts = observations.join_outcomes(asked, told, DESIGN)
    expected, counted = slow(requests, outcomes)
    seconds = pl.col('timestamp').dt.epoch('ms') / 1000
    got = joined.select('request_id', 'arm', 'unit', seconds, 'late.y').rows()
    assert sorted(map(repr, got)) == sorted(map(repr, expected))
    assert [row[0] for row in got] == sorted(row[0] for row in got)
    assert joined['late.k'].to_list() == [row[4] is not None for row in got]
    assert (counts.unattributed, counts.exposed, counts.outcomes, counts.orphans, counts.ambiguous) == counted


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.uuids(), max_size=9), st.integers(0, 3), st.booleans())
def test_the_bytes_of_ids(ids: list[uuid.UUID], start: int, upper: bool) -> None:
    texts = pa.array([str(each).upper() if upper else str(each) for each in ids], pa.string())
    part = pa.RecordBatch.from_arrays([texts], ['request_id']).slice(start)
    got = reduced._request_id_bytes(part)
    assert got.dtype == pl.Binary
    assert got.to_list() == [each.bytes for each in ids[start:]]


def test_only_requests_that_came_several_times_are_sorted_by_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, sorted_rows, sort = np.random.default_rng(1), [], pl.DataFrame.sort
    ids = [draw.bytes(16) for _ in range(1000)]
    requests = [(i, WINDOW.start, None, 0) for i in [*ids, ids[7]]]

    def counted(frame: pl.DataFrame, *by: Any, **options: Any) -> pl.DataFrame:
        sorted_rows.append((by, frame.height))
        return sort(frame, *by, **options)

    monkeypatch.setattr(pl.DataFrame, 'sort', counted)
    asked = batch(requests, request_id=pa.binary(), timestamp=STAMP, unit=pa.string(), arm=pa.int16())
    joined, _ = observations.join_outcomes([asked], [], DESIGN)
    assert joined['request_id'].to_list() == sorted(ids)
    assert [height for by, height in sorted_rows if len(by) > 2] == [2]
