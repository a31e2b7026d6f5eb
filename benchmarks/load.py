"""Writes and reads features without a pause for some minutes, and says whether anything grows.

One thread writes frames of rows, and others read the newest values of ten features of a key and compare each with what
was written, all as fast as the machine lets them. The rows are the same from round to round, so that the table does not
grow. Of each sample the process's resources and the latency of its calls are kept.

A series grows if a straight line through the samples behind the first fifth rises, over the length of the run, by more
than 5 % of its mean and by more than three standard errors of that line, and so does the one through the last half:
what rises once, as when the driver starts the second of its two threads, has not grown.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from tfx_cassandra.components import FeatureStore, schema, svg
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError

MODELS, FEATURES, MOMENTS = 200, 10, 50
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
NAMES = [f'feature-{number}' for number in range(FEATURES)]
READERS = 2
SAMPLES = 60
WARM, HALF = 0.2, 0.5  # shares of the samples that are left out
LEAST, ERRORS = 0.05, 3  # growth that counts: share of the mean, and standard errors
UNITS = {
    'rows written/s': 'rows', 'reads/s': 'calls of ten features', 'read p99 ms': 'ms', 'write p99 ms': 'ms of a frame',
    'memory MB': 'MB', 'threads': '', 'sessions': '', 'connections': '', 'file descriptors': '',
}  # fmt: skip
KEPT_FLAT = ('read p99 ms', 'write p99 ms', 'memory MB', 'threads', 'sessions', 'connections', 'file descriptors')


class Calls:
    """Seconds of the calls since the last sample, the rows or calls, and the errors of all."""

    def __init__(self) -> None:
        self._lock, self._seconds, self._count, self.errors = threading.Lock(), list[float](), 0, list[str]()

    def add(self, seconds: float, count: int) -> None:
        with self._lock:
            self._seconds.append(seconds)
            self._count += count

    def failed(self, error: object) -> None:
        with self._lock:
            self.errors.append(str(error))

    def taken(self) -> tuple[int, float]:
        """Returns the rows or calls and the 99th percentile of a call, in ms, since it was last asked."""
        with self._lock:
            seconds, count = self._seconds, self._count
            self._seconds, self._count = [], 0
        return count, float(np.percentile(seconds, 99) * 1000) if seconds else float('nan')


def value_of(model: int, feature: int, moment: int) -> float:
    return model * 1e6 + feature * 1e3 + moment


def frames() -> list[pa.Table]:
    """Returns all rows, in frames of the moments of some models."""
    made = []
    for first in range(0, MODELS, 20):
        keys = [(m, f, t) for m in range(first, first + 20) for f in range(FEATURES) for t in range(MOMENTS)]
        columns = {
            'model_id': [f'model-{m}' for m, _, _ in keys],
            'feature_name': [NAMES[f] for _, f, _ in keys],
            'timestamp': pa.array(
                [START + datetime.timedelta(minutes=t) for _, _, t in keys], pa.timestamp('ms', 'UTC')
            ),
            'value': [value_of(*key) for key in keys],
        }
        made.append(pa.table(columns))
    return made


def write(store: FeatureStore, tables: list[pa.Table], calls: Calls, ended: threading.Event) -> None:
    number = 0
    while not ended.is_set():
        table, begun = tables[number % len(tables)], time.perf_counter()
        try:
            results = store.write_features(table)
            if results.failed:
                calls.failed(results.failed[0])
        except TfxCassandraError as error:
            calls.failed(error)
        calls.add(time.perf_counter() - begun, table.num_rows)
        number += 1


def read(store: FeatureStore, calls: Calls, ended: threading.Event, seed: int) -> None:
    chance = np.random.default_rng(seed)
    while not ended.is_set():
        model, begun = int(chance.integers(MODELS)), time.perf_counter()
        try:
            found = store.get_latest_features(f'model-{model}', NAMES)
            values = [one.value if one else None for one in map(found.get, NAMES)]
            if values != [value_of(model, feature, MOMENTS - 1) for feature in range(FEATURES)]:
                calls.failed(f'model-{model}: got {values}')
        except TfxCassandraError as error:
            calls.failed(error)
        calls.add(time.perf_counter() - begun, 1)


def resources() -> dict[str, float]:
    """Returns what this process holds now."""
    from tfx_cassandra.components.driver import connection

    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return {
        'memory MB': int(status['VmRSS'].split()[0]) / 1024,
        'threads': int(status['Threads']),
        'sessions': len(connection._sessions),
        'connections': sum(state['open_count'] for state in connection._states()),
        'file descriptors': len(os.listdir('/proc/self/fd')),
    }


def measured(minutes: float) -> tuple[dict[str, list[float]], list[str]]:
    """Runs the load; returns the samples of each series, and the errors."""
    connection = CassandraConnection.from_env()
    connection = type(connection)(**{**vars(connection), 'keyspace': 'load'})
    schema.apply(connection, schema.SimpleReplication(1))
    tables, writes, reads, ended = frames(), Calls(), Calls(), threading.Event()
    found: dict[str, list[float]] = {name: [] for name in UNITS}
    with FeatureStore(connection) as store:
        for table in tables:
            store.write_features(table)
        threads = [threading.Thread(target=write, args=(store, tables, writes, ended))]
        threads += [threading.Thread(target=read, args=(store, reads, ended, seed)) for seed in range(READERS)]
        for thread in threads:
            thread.start()
        seconds, before = minutes * 60 / SAMPLES, time.perf_counter()
        for _ in range(SAMPLES):
            time.sleep(seconds)
            passed, before = time.perf_counter() - before, time.perf_counter()
            (rows, write_p99), (calls, read_p99) = writes.taken(), reads.taken()
            rates = (rows / passed, calls / passed, read_p99, write_p99)
            sample = dict(zip(UNITS, rates, strict=False)) | resources()
            for name, value in sample.items():
                found[name].append(value)
        ended.set()
        for thread in threads:
            thread.join()
    return found, writes.errors + reads.errors


def growth(values: list[float], left_out: float = WARM) -> tuple[float, float]:
    """Returns by how much a line through the later samples rises over the run, and the standard error of that."""
    first = int(len(values) * left_out)
    kept, at = np.array(values[first:]), np.arange(first, len(values)) / (len(values) - 1)  # 1: the end of the run
    kept, at = kept[np.isfinite(kept)], at[np.isfinite(kept)]  # a short sample may have no call
    if len(kept) < 10:
        raise SystemExit(f'error: {len(kept)} samples with calls, rule: ten or more; let it run for longer')
    centred = at - at.mean()
    slope = float(centred @ (kept - kept.mean()) / (centred @ centred))
    rest = kept - kept.mean() - slope * centred
    return slope, float(np.sqrt(rest @ rest / max(len(kept) - 2, 1) / (centred @ centred)))


def grows(values: list[float]) -> bool:
    lines = [growth(values, share) for share in (WARM, HALF)]
    return all(slope > max(LEAST * float(np.nanmean(values)), ERRORS * error) for slope, error in lines)


def plot(found: dict[str, list[float]], minutes: float) -> str:
    """Draws each series from 0 to its greatest value."""
    width, height, left = 860, 64, 170
    shapes: list[Markup] = []
    for row, (name, values) in enumerate(found.items()):
        top, bottom = row * height + 12, (row + 1) * height - 8
        y = svg.scale(0, float(np.nanmax(values)), bottom, top)
        x = svg.scale(0, len(values) - 1, left, width - 90)
        shapes += [
            svg.label(4, (top + bottom) / 2, name, color='#444'),
            svg.line(left, bottom, width - 90, bottom, '#bbb', 1),
        ]
        shapes += [svg.line(x(i), y(values[i]), x(i + 1), y(values[i + 1]), '#1f5fbf') for i in range(len(values) - 1)]
        shapes.append(svg.label(width - 84, y(values[-1]) + 4, f'{values[-1]:,.4g}', color='#444'))
    title = f'Load for {minutes:g} minutes'
    text = str(svg.svg(width, len(found) * height, shapes, title))
    return text.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" ', 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('minutes', type=float, nargs='?', default=10.0)
    parser.add_argument('--plot', type=Path, help='SVG file of the samples')
    parser.add_argument('--json', type=Path, help='file of the samples')
    arguments = parser.parse_args()
    found, errors = measured(arguments.minutes)
    print(f'{"":18}{"median":>12}{"first warm":>12}{"last":>12}{"growth":>12}{"+-":>10}')
    bad: list[Any] = []
    for name, values in found.items():
        slope, error = growth(values)
        warm = values[int(len(values) * WARM)]
        print(f'{name:18}{np.nanmedian(values):12,.1f}{warm:12,.1f}{values[-1]:12,.1f}{slope:12,.2f}{error:10,.2f}')
        if name in KEPT_FLAT and grows(values):
            bad.append(name)
    print(f'errors: {len(errors)}' + (f', the first: {errors[0]}' if errors else ''))
    print('grows: ' + (', '.join(bad) or 'nothing'))
    if arguments.plot:
        arguments.plot.write_text(plot(found, arguments.minutes) + '\n')
    if arguments.json:
        arguments.json.write_text(
            json.dumps({'minutes': arguments.minutes, 'errors': len(errors), 'samples': found}) + '\n'
        )
    return 1 if bad or errors else 0


if __name__ == '__main__':
    raise SystemExit(main())
