"""How the point-in-time join grows: doubles spine and facts, joins them as the shards of a Beam job are, and by pandas.

    .venv/bin/python benchmarks/join.py                    # up to 4 M feature rows and 1 M events; minutes
    .venv/bin/python benchmarks/join.py --largest 500000   # of feature rows; smaller

Each size runs in a process of its own, once for each way:

    shards   gather, count, plan, route and join of pages of 5,000 rows, shard after shard, as one worker does them:
             what the joins of CassandraExampleGen do, without Beam and Cassandra
    pandas   one merge_asof(by=entity) of the two tables in memory, without availability cut-off and ttl

The peak is that of the process's resident memory: of `shards` while shards are joined, less what it was before (until
then the batches wait in files, as they would in a runner's shuffle); of `pandas` less what it was before the first row
was made. Of the entities one is hot: half the rows are its own. The
exponent is the slope of log(seconds of all processors) over log(rows), by least squares: 1 is linear.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

PAGE = 5000
STAMP = pa.timestamp('ms', 'UTC')
START, SPAN = 1_577_836_800_000, 30 * 86_400_000  # 2020-01-01, thirty days, in ms


def generated(rows: int, seed: int, entities: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (entity numbers, times in ms) of rows, half of them of entity 0."""
    rng = np.random.default_rng(seed)
    entity = np.where(rng.random(rows) < 0.5, 0, rng.integers(1, entities, rows))
    return entity, START + rng.integers(0, SPAN, rows)


def names(entity: np.ndarray) -> pa.Array:
    # By Arrow: millions of numpy's texts come as several chunks.
    return pc.binary_join_element_wise('user-', pa.array(entity).cast(pa.string()), '')


def by_shards(facts_rows: int, spine_rows: int) -> dict[str, float]:
    from tfx_cassandra.components.dataset.files.gather import gathered
    from tfx_cassandra.components.dataset.join import shards
    from tfx_cassandra.components.dataset.join.facts import facts
    from tfx_cassandra.components.dataset.join.join import join
    from tfx_cassandra.components.dataset.spec.view import FeatureView
    from tfx_cassandra.components.window import TimeWindow

    view = FeatureView('v', 't', ('user',), 'ts', ('a', 'b'))
    window = TimeWindow.parse('2020-01-01T00:00Z/2020-01-31T00:00Z')
    read, at = [], []
    entity, moment = generated(facts_rows, 1, facts_rows // 40)
    user = names(entity)
    for start in range(0, facts_rows, PAGE):
        page = slice(start, start + PAGE)
        time_ = pa.array(moment[page], pa.int64())
        created = pa.array(moment[page] * 1000 + 1_000_000, pa.int64())
        values = pa.array(moment[page] % 97 / 4)
        arrays = [user[page], time_.cast(STAMP), values, values, created, created]
        read.append(pa.RecordBatch.from_arrays(arrays, ['user', 'ts', 'a', 'b', 'writetime(a)', 'writetime(b)']))
    entity, moment = generated(spine_rows, 2, facts_rows // 40)
    user = names(entity)
    for start in range(0, spine_rows, PAGE):
        page = slice(start, start + PAGE)
        at.append(pa.RecordBatch.from_arrays([user[page], pa.array(moment[page]).cast(STAMP)], ['user', 'at']))
    del user, entity, moment
    begun, cpu = time.perf_counter(), time.process_time()
    at = list(gathered(at))
    read = [facts(batch, view) for batch in gathered(read)]
    counts = sum(shards.count_spine(batch, view, 'at', window) for batch in at)
    counts = counts + sum(shards.count_facts(batch, view, window) for batch in read)
    plan = shards.plan(counts, window)
    with tempfile.TemporaryDirectory() as folder:
        files: dict = {}

        def spill(kind: str, shard: tuple, batch: pa.RecordBatch) -> None:
            key = (kind, shard)
            if key not in files:
                sink = pa.OSFile(f'{folder}/{len(files)}', 'wb')
                files[key] = (sink, pa.ipc.new_stream(sink, batch.schema), f'{folder}/{len(files)}')
            files[key][1].write_batch(batch)

        for batch in at:
            for shard, part in shards.route_spine(batch, view, 'at', plan):
                spill('spine', shard, part)
        for batch in read:
            for shard, part in shards.route_facts(batch, view, plan, True):
                spill('facts', shard, part)
        for sink, writer, _ in files.values():
            writer.close()
            sink.close()
        del read, at
        # What the pages took goes back first: else a shard would seem to take nothing.
        pa.default_memory_pool().release_unused()
        ctypes.CDLL(None).malloc_trim(0)
        pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak starts again
        base, joined, found = rss(), 0, 0
        for shard in plan.all:
            if ('spine', shard) not in files:
                continue
            tables = [pa.ipc.open_stream(pa.OSFile(files[kind, shard][2])).read_all() for kind in ('spine', 'facts')]
            rows, outcomes = join(tables[0], 'at', tables[1], view)
            joined, found = joined + rows.num_rows, found + int((outcomes[0].status == 0).sum())
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if joined != spine_rows:
        raise SystemExit(f'rows joined: got {joined}, rule: {spine_rows}')
    return {
        'seconds': seconds,
        'cpu': cpu,
        'peak_mb': peak_rss() - base,
        'shards': len(plan.all),
        'found': found / joined,
    }


def by_pandas(facts_rows: int, spine_rows: int) -> dict[str, float]:
    tables = []
    for rows, seed in ((facts_rows, 1), (spine_rows, 2)):
        entity, moment = generated(rows, seed, facts_rows // 40)
        tables.append(pd.DataFrame({'user': names(entity).to_pandas(), 'at': moment}))
    right, left = tables
    right['a'] = right['b'] = right['at'] % 97 / 4
    begun, cpu = time.perf_counter(), time.process_time()
    merged = pd.merge_asof(left.sort_values('at'), right.sort_values('at'), on='at', by='user')
    cpu = time.process_time() - cpu
    return {'seconds': time.perf_counter() - begun, 'cpu': cpu, 'found': float(merged['a'].notna().mean())}


def rss() -> float:
    """Returns the resident memory now, in MB."""
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_rss() -> float:
    """Returns the greatest resident memory since the start, or since it was reset, in MB."""
    (line,) = (line for line in pathlib.Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) * 1024 / 1e6


def measure(way: str, facts_rows: int, spine_rows: int) -> None:
    base = rss()
    result = {'by_shards': by_shards, 'by_pandas': by_pandas}[f'by_{way}'](facts_rows, spine_rows)
    result.setdefault('peak_mb', peak_rss() - base)
    print(json.dumps(result))


def exponent(rows: list[int], seconds: list[float]) -> float:
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--largest', type=int, default=4_000_000, help='feature rows of the largest size')
    parser.add_argument('--doublings', type=int, default=5, help='sizes before it, each half of the next')
    parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], int(options.one[1]), int(options.one[2]))
        return
    sizes = [options.largest >> i for i in reversed(range(options.doublings + 1))]
    seconds: dict[str, list[float]] = {'shards': [], 'pandas': []}
    heads = ('way', 'facts', 'events', 's', 'CPU s', 'k rows/s', 'peak MB', 'shards')
    print(' '.join(f'{head:>9}' for head in heads))
    for size in sizes:
        for way in seconds:
            command = [sys.executable, __file__, '--one', way, str(size), str(size // 4)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            got = json.loads(run.stdout.splitlines()[-1])
            seconds[way].append(got['cpu'])
            rate = (size + size // 4) / got['seconds'] / 1000
            cells = [way, f'{size:,}', f'{size // 4:,}', f'{got["seconds"]:.2f}', f'{got["cpu"]:.2f}', f'{rate:.0f}']
            cells += [f'{got["peak_mb"]:.0f}', str(got.get('shards', ''))]
            line = ' '.join(f'{cell:>9}' for cell in cells)
            print(line, flush=True)
    for way, took in seconds.items():
        print(f'{way}: grows with the power {exponent(sizes, took):.2f} of the rows')


if __name__ == '__main__':
    main()
