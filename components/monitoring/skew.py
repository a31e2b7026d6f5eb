"""Training-serving skew: features as they were served, beside what the training set holds for entity and time.

    logged requests of the window -> (entity, time in ms) and features served
    views: the point-in-time join of CassandraFeatureRetrieval and CassandraExampleGen, at that entity and time
    or a written training set: the example of the same entity and time

A value differs if both are there and unequal, or if only one is. A feature that no request logged is not compared.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cassandra.cluster import Session

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.lookup.latest import plan_lookup
from tfx_cassandra.components.lookup.reader import Reader
from tfx_cassandra.components.monitoring.config import UNIT, SkewCheck
from tfx_cassandra.components.monitoring.windows import Load, scanned
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.window import TimeWindow

_BATCH = 200  # requests whose training values are held at once


class Served(NamedTuple):
    """A logged request: its entity in the order of SkewCheck.entity, its time in ms since 1970, its features."""

    entity: tuple[Any, ...]
    time: int
    features: Mapping[str, float]


@dataclasses.dataclass
class Skew:
    """How the served values of a feature differ.

    Attributes:
      served: Requests with a served value.
      compared: Requests where the served value, the training set's or both are there.
      differing: Of these, requests where they differ.
      both: Requests where both are there.
      difference: Sum of the absolute differences, over `both`.
    """

    served: int = 0
    compared: int = 0
    differing: int = 0
    both: int = 0
    difference: float = 0.0

    def add(self, served: float | None, trained: float | None, tolerance: float) -> None:
        """Compares the values of one request; None for one that is not there."""
        if served is None and trained is None:
            return
        self.compared += 1
        self.served += served is not None
        if served is None or trained is None:
            self.differing += 1
            return
        self.both += 1
        if not _equal(served, trained, tolerance):
            self.differing += 1
            self.difference += abs(served - trained)


def compare(
    connection: CassandraConnection, check: SkewCheck, views: Sequence[FeatureView], window: TimeWindow, load: Load
) -> dict[str, Skew]:
    """Compares the requests of a window; returns the skew of each feature that was served.

    Raises:
      SchemaError, ReadError, DatasetError: A table or the training set could not be read.
    """
    joined = [view for view in views if set(view.spine_columns) <= set(check.entity)]
    if check.training_set is None and not joined:
        raise invalid('skew.entity', dict(check.entity), 'the entity columns of a view')
    found: dict[str, Skew] = {}
    batches = _chunks(served(connection, check, window, load))
    with connections.session(connection, RawHandler) as session:
        readers = [] if check.training_set else [_reader(session, connection, view) for view in joined]
        for requests in batches:
            if load.rows_per_second and readers:
                time.sleep(len(requests) * len(readers) / load.rows_per_second)
            trained = _written(check, requests) if check.training_set else _joined(readers, check, requests)
            for request, values in zip(requests, trained, strict=True):
                for name, value in values.items():
                    found.setdefault(name, Skew()).add(request.features.get(name), value, check.tolerance)
    return {name: skew for name, skew in found.items() if skew.served}


def served(connection: CassandraConnection, check: SkewCheck, window: TimeWindow, load: Load) -> Iterator[Served]:
    """Yields the logged requests of a window that have an entity."""
    options = ReadOptions('LOCAL_ONE', rows_per_second=load.rows_per_second)
    columns = ('timestamp', 'unit', 'features')
    where = (('model_id', (check.model_id,)),)
    request = ReadRequest(connection, check.table, columns, window, 'timestamp', where, options)
    for batch in scanned(request, load.max_rows):
        times = batch.column(0).cast('int64').to_pylist()
        for moment, unit, maps in zip(times, batch.column(1).to_pylist(), batch.column(2).to_pylist(), strict=True):
            features = dict(itertools.chain.from_iterable(maps or ()))
            entity = tuple(unit if place == UNIT else features.get(place) for place in check.entity.values())
            if None not in entity:
                yield Served(entity, moment, features)


def _chunks(requests: Iterator[Served]) -> Iterator[list[Served]]:
    while chunk := list(itertools.islice(requests, _BATCH)):
        yield chunk


def _reader(session: Session, connection: CassandraConnection, view: FeatureView) -> Reader:
    lookup = plan_lookup(view, describe(session, connection.keyspace, view.table), by_time=True)
    return Reader(session, lookup, 'LOCAL_ONE')


def _joined(readers: Sequence[Reader], check: SkewCheck, requests: Sequence[Served]) -> list[dict[str, float | None]]:
    """Returns what the views join to each request."""
    names = list(check.entity)
    rows: list[dict[str, float | None]] = [{} for _ in requests]
    for reader in readers:
        places = [names.index(column) for column in reader.lookup.view.spine_columns]
        keys = [(*(request.entity[i] for i in places), request.time) for request in requests]
        for name, values in reader.read(keys, use_cache=False).items():
            for row, value in zip(rows, values.to_pylist(), strict=True):
                row[name] = _number(value)
    return rows


def _written(check: SkewCheck, requests: Sequence[Served]) -> list[dict[str, float | None]]:
    """Returns what a written training set holds for each request; nothing for one without an example."""
    # Only here: TensorFlow takes seconds to import.
    from tfx.dsl.io import fileio

    from tfx_cassandra.components.dataset.files.decode import decode, records

    paths = sorted(map(str, fileio.glob(os.path.join(str(check.training_set), 'Split-*', '*'))))
    if not paths:
        raise invalid('skew.training_set', check.training_set, 'a folder of examples, with Split-... folders in it')
    wanted: dict[tuple[str, ...], dict[str, float | None]] = {_key(r.entity, r.time): {} for r in requests}
    for examples in itertools.chain.from_iterable(map(records, paths)):
        batch, _ = decode(examples)
        none: list[Any] = [None] * batch.num_rows
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        keys = [columns[name].to_pylist() if name in columns else none for name in (*check.entity, check.time)]
        for i, (*entity, moment) in enumerate(zip(*keys, strict=True)):
            if not moment or not all(entity):
                continue
            row = wanted.get(_key([part[0] for part in entity], moment[0]))
            if row is not None:
                row.update({name: _number((column[i].as_py() or [None])[0]) for name, column in columns.items()})
    return [wanted[_key(request.entity, request.time)] for request in requests]


def _key(entity: Sequence[Any], time: int) -> tuple[str, ...]:
    """Returns entity and time as texts, since a log and an example may hold a number in another type."""
    return (*(_text(part) for part in entity), str(time))


def _text(part: Any) -> str:
    if isinstance(part, bytes):
        return part.decode(errors='replace')
    return str(int(part)) if isinstance(part, float) and part.is_integer() else str(part)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (bool, int, float)) else None


def _equal(served_value: float, trained: float, tolerance: float) -> bool:
    both_nan = math.isnan(served_value) and math.isnan(trained)
    return both_nan or math.isclose(served_value, trained, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
