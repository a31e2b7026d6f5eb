"""What a scan and a join cost beside their rows, as clusters and tables grow: simulated, as no such cluster is at hand.

    .venv/bin/python benchmarks/scaling.py                           # prints the tables
    .venv/bin/python benchmarks/scaling.py --write docs/scaling.md   # and puts them into the page; a minute

The package's own functions run on rings, sizes and ledgers of the sizes stated: planning, Beam's encoding of what goes
through it, and the proof of coverage. Each is timed in a process of its own, in CPU seconds; its memory is the growth
of the process's peak. What takes a real cluster, such as hours of reading, is multiplied out from ROWS_A_SECOND.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import multiprocessing
import pathlib
import random
import re
import resource
import time
from collections.abc import Callable
from typing import Any

ROW_BYTES = 75  # of feature_store on the wire (docs/benchmarks.md)
ROWS_A_SECOND = (
    350_000  # that one process decodes with the server on the same machine (docs/benchmarks.md, half of two)
)
WORKERS = 500
GB = 1e9
PAGE = 5000  # rows
SIZES = [(3, 10**7), (30, 10**9), (300, 10**11), (1000, 10**12)]  # (nodes, rows)


def planned(nodes: int, rows: int, tokens: int = 16, giants: tuple = ()) -> Any:
    """Plans a scan of a table on a ring of random tokens, three replicas on consecutive nodes."""
    from tfx_cassandra.components.cql.table import Table
    from tfx_cassandra.components.scan import plan, ring
    from tfx_cassandra.components.scan.query import plan_scan

    kinds = (('model_id', 'text'), ('feature_name', 'text'), ('timestamp', 'timestamp'), ('value', 'double'))
    table = Table('ml_features', 'feature_store', ('model_id', 'feature_name'), ('timestamp',), kinds)
    draw = random.Random(nodes)
    owner = {draw.randrange(ring.MIN_TOKEN + 1, ring.MAX_TOKEN): n for n in range(nodes) for _ in range(tokens)}
    names = [f'10.{n >> 16}.{n >> 8 & 255}.{n & 255}:9042' for n in range(nodes)]
    owned = []
    for between in ring.ring_ranges(owner):
        first = owner.get(between.end, 0)
        owned.append(plan.OwnedRange(between, tuple(names[(first + k) % nodes] for k in range(min(3, nodes)))))
    mean = 5000 * ROW_BYTES  # a partition of 5,000 rows
    estimates = [
        plan.SizeEstimate(own.tokens, max(1, int(rows / 5000 * own.tokens.width / ring.RING.width)), mean)
        for own in owned
    ]
    sample = plan.Sample(40_000, 40_000 * ROW_BYTES, min(1.0, 40_000 / rows), giants, 8, ROW_BYTES)
    return plan.plan(plan_scan(table), owned, estimates, sample)


def scanned(nodes: int, rows: int) -> dict[str, Any]:
    """What a scan costs beside reading its rows."""
    from apache_beam.coders import registry

    from tfx_cassandra.components.scan import ledger

    coder = registry.get_coder(object)
    made, planning = timed(lambda: planned(nodes, rows))
    sizes = [len(coder.encode((made.scan, made.page_rows, group))) for group in made.groups]
    splits = made.splits
    each = rows // len(splits)
    reads = [
        ledger.RangeRead(s.area, each, each * ROW_BYTES, each // 5000, 0, i * 2**40 % 2**64, s.replicas[0])
        for i, s in enumerate(splits)
    ]
    random.Random(1).shuffle(reads)
    entries = sum(len(coder.encode(read)) for read in reads)
    coverage, verifying = timed(lambda: ledger.verified(reads, made.wanted))
    return {
        'nodes': nodes, 'rows': rows, 'splits': len(splits), 'groups': len(made.groups),
        'split bytes': rows * ROW_BYTES / len(splits), 'plan s': planning, 'group bytes': sum(sizes),
        'largest group': max(sizes), 'plan bytes': len(coder.encode(made)), 'ledger bytes': entries,
        'verify s': verifying, 'coverage': len(coverage.reads),
    }  # fmt: skip


def joined(rows: int) -> dict[str, Any]:
    """How a join of so many facts is cut into shards, evenly spread and with half of them in one entity."""
    import numpy as np

    from tfx_cassandra.components.dataset.join import shards
    from tfx_cassandra.components.window import TimeWindow

    window = TimeWindow.parse('2020-01-01T00:00Z/2020-01-31T00:00Z')
    even = np.full((shards.BUCKETS, shards.BINS), rows // (shards.BUCKETS * shards.BINS), np.int64)
    hot = even // 2
    hot[0] += rows // 2 // shards.BINS
    result: dict[str, Any] = {'rows': rows, 'counts bytes': even.nbytes}
    for name, counts in (('even', even), ('hot', hot)):
        plan = shards.plan(counts, window)
        edges = dict.fromkeys(plan.all, 0)
        starts = shards._edges(window)
        for bucket, of_bucket in enumerate(plan.of_bucket):
            bounds = np.array([shard.start for shard in of_bucket])
            at = np.searchsorted(bounds, starts, side='right') - 1
            for number, count in zip(at, counts[bucket], strict=True):
                edges[of_bucket[number]] += int(count)
        result |= {f'{name} shards': len(edges), f'{name} largest': max(edges.values())}
    return result


def giant(gigabytes: int) -> dict[str, Any]:
    """How a partition that is larger than others is cut, in a table of 10^9 rows."""
    from tfx_cassandra.components.scan.plan import Giant

    whole = gigabytes * 10**9
    made = planned(30, 10**9, giants=(Giant(12345, 1_577_836_800_000, 1_580_428_800_000, whole),))
    mine = [split for split in made.splits if split.area.tokens.end == 12345]
    return {'gigabytes': gigabytes, 'slices': len(mine), 'nodes': len({n for split in mine for n in split.replicas})}


def shuffled(rows: int) -> list[tuple[str, int, int, int]]:
    """What the steps after a scan give to the runner's shuffle: (step, elements, bytes shuffled, bytes spooled).

    Counted on one page of PAGE rows of a partition whose times are spread over a month, and multiplied out.
    """
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from apache_beam.coders import registry

    from tfx_cassandra.components.dataset.files import encode, examples, spool, tfrecord
    from tfx_cassandra.components.dataset.join import facts, pivot, shards
    from tfx_cassandra.components.dataset.spec.view import FeatureView
    from tfx_cassandra.components.experiment import evaluate
    from tfx_cassandra.components.window import TimeWindow

    def element(key: Any) -> int:
        return len(registry.get_coder(object).encode((key, ('table', spool.Spooled((place,))))))

    def grouped(parts: list[tuple[Any, Any]], pages: float) -> tuple[int, int, int]:
        sizes = [(element(key), len(spool.serialized(part))) for key, part in parts]
        return tuple(round(pages * count) for count in (len(sizes), *map(sum, zip(*sizes, strict=True))))

    place = spool.Place(f's3://bucket/pipelines/flights/CassandraExampleGen/examples/12/spool/{"0" * 32}', 2**30, 2**20)
    month, pages = TimeWindow.parse('2020-01-01T00:00Z/2020-01-31T00:00Z'), rows / PAGE
    page, requests = sampled(30, PAGE), sampled(30, 100_000)  # so many a worker gathers of an A/B test
    wide = FeatureView('f', 'feature_store', ('model_id', 'feature_name'), 'timestamp', ('value',))
    long = FeatureView('f', 'feature_store', ('model_id',), 'timestamp', ('x',), layout='long',
                       feature_name_column='feature_name', value_column='value')  # fmt: skip
    known = facts.facts(page, wide)
    even = np.full((shards.BUCKETS, shards.BINS), rows // (shards.BUCKETS * shards.BINS), np.int64)
    plan = shards.plan(even, month)
    joined = grouped(list(shards.route_facts(known, wide, plan, cut_off=True)), pages)
    waiting = round(pages * len(spool.serialized(known)))
    kinds = {'model_id': 'bytes_list', 'feature_name': 'bytes_list', 'timestamp': 'int64_list', 'value': 'float_list'}
    framed = encode.encode(pa.RecordBatch.from_pydict({name: page[name] for name in kinds}), kinds)
    chunk = len(examples.compressed(framed.parts_by(pa.array(np.zeros(PAGE, np.int32)), 1)[0]))
    piece = len(registry.get_coder(object).encode(tfrecord.Piece('train', 2**63, place, PAGE, 'f' * 16)))
    by_request = grouped(list(evaluate._sharded(pl.from_arrow(requests), 'value', 64)), rows / len(requests))
    return [
        ('join in time', *joined[:2], joined[2] + waiting),
        ('pivot of a long view', *grouped(list(pivot.shard(page, long, 64)), pages)),
        ('examples to files, two splits', round(2 * pages), round(2 * pages * piece), round(2 * pages * chunk)),
        ('A/B reduction', *(2 * count for count in by_request)),  # by request, and once more by unit
    ]


def sampled(days: int, rows: int) -> Any:
    """Makes rows of one partition of `feature_store`, evenly spread over the days from 2020-01-01."""
    import numpy as np
    import pyarrow as pa

    step = days * 86_400_000 // rows  # milliseconds
    times = pa.array(1_577_836_800_000 + step * np.arange(rows), pa.timestamp('ms', 'UTC'))
    values = pa.array(np.random.default_rng(1).random(rows))
    written = pa.array(times.cast(pa.int64()).to_numpy() * 1000)
    text = {name: pa.array([name]).take(pa.array(np.zeros(rows, int))) for name in ('model_id', 'feature_name')}
    return pa.RecordBatch.from_pydict({**text, 'timestamp': times, 'value': values, 'writetime(value)': written})


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def apart(call: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Calls a function in a process of its own; adds the growth of its memory in bytes."""
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growing, call, arguments).result()


def _growing(call: Callable[..., dict[str, Any]], arguments: tuple) -> dict[str, Any]:
    import apache_beam  # noqa: F401
    import polars  # noqa: F401

    from tfx_cassandra.components.scan import read  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = call(*arguments)
    return result | {'memory': (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


def size(count: float) -> str:
    for unit, scale in (('TB', 1e12), ('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= scale:
            return f'{count / scale:.3g} {unit}'
    return f'{count:.0f} B'


def duration(hours: float) -> str:
    if hours >= 10:
        return f'{hours:,.0f} h'
    return f'{hours:.1f} h' if hours >= 1 else f'{60 * hours:.1f} min' if hours >= 1 / 60 else f'{3600 * hours:.0f} s'


def power(count: int) -> str:
    return f'10^{len(str(count)) - 1}' if str(count).strip('0') == '1' else f'{count:,}'


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ['---', *['---:'] * (len(head) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def scan_table(sizes: list[tuple[int, int]]) -> str:
    rows = []
    for nodes, count in sizes:
        got = apart(scanned, nodes, count)
        rows.append([
            f'{nodes:,}', power(count), size(count * ROW_BYTES), f'{got["splits"]:,}', f'{got["groups"]:,}',
            size(got['split bytes']), f'{got["plan s"]:.2f}', size(got['group bytes'] + got['plan bytes']),
            size(got['ledger bytes']), f'{got["verify s"]:.2f}', size(got['memory']),
        ])  # fmt: skip
    return table(
        ['nodes', 'rows', 'results', 'splits', 'groups', 'a split', 'planning, CPU s', 'plan through Beam',
         'ledger through Beam', 'proof, CPU s', 'memory'],
        rows,
    )  # fmt: skip


def time_table(sizes: list[tuple[int, int]], workers: tuple[int, ...] = (2, 20, WORKERS)) -> str:
    rows = []
    for _, count in sizes:
        hours = [count / ROWS_A_SECOND / w / 3600 for w in workers]
        rows.append([power(count), *map(duration, hours)])
    return table(['rows', *[f'{w:,} processes' for w in workers]], rows)


def connection_table() -> str:
    """Per session the driver opens one connection to each node of its data center, and one for the control."""
    rows = []
    for workers, nodes in itertools.product((10, 100, WORKERS), (3, 30, 300, 1000)):
        rows.append(
            [f'{workers:,}', f'{nodes:,}', f'{workers * (nodes + 1):,}', f'{workers:,} + {-(-workers // nodes)}']
        )
    return table(['processes', 'nodes of the data center', 'connections', 'of them at one node'], rows)


def join_table(counts: tuple[int, ...] = (10**7, 10**8, 10**9, 4 * 10**9, 10**12)) -> str:
    rows = []
    for count in counts:
        got = apart(joined, count)
        rows.append([
            power(count), size(got['counts bytes']), f'{got["even shards"]:,}', f'{got["even largest"]:,}',
            f'{got["hot shards"]:,}', f'{got["hot largest"]:,}',
        ])  # fmt: skip
    return table(
        ['rows of spine and facts', 'counts of a bundle', 'shards', 'rows of the largest', 'shards, half in one entity',
         'rows of the largest '],
        rows,
    )  # fmt: skip


def giant_table() -> str:
    rows = []
    for gigabytes in (1, 10, 100, 1000):
        got = apart(giant, gigabytes)
        seconds = gigabytes * GB / ROW_BYTES / ROWS_A_SECOND
        rows.append([
            f'{gigabytes:,} GB', f'{got["slices"]}', size(gigabytes * GB / got['slices']), f'{got["nodes"]}',
            duration(seconds / 3600), duration(seconds / got['nodes'] / 3600),
        ])  # fmt: skip
    return table(
        ['partition', 'slices', 'a slice', 'nodes that have it', 'one process', 'a process for each node'], rows
    )


def shuffle_table(counts: tuple[int, ...] = (10**7, 10**9, 10**12)) -> str:
    rows = []
    for of_step in zip(*map(shuffled, counts), strict=True):
        for count, (step, elements, through, spooled) in zip(counts, of_step, strict=True):
            rows.append([step, power(count), f'{elements:,}', size(through), size(spooled)])
    return table(['step', 'rows', 'elements', "through the runner's shuffle", 'through the spool'], rows)


TABLES: dict[str, Callable[[], str]] = {
    'scan': lambda: scan_table(SIZES), 'time': lambda: time_table(SIZES), 'connections': connection_table,
    'join': join_table, 'giant': giant_table, 'shuffle': shuffle_table,
}  # fmt: skip


def placed(page: str, name: str, content: str) -> str:
    """Puts a table between its marks in a page."""
    marked = re.compile(rf'(<!-- {name}: .*? -->\n).*?(\n<!-- /{name} -->)', re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f'error: no marks of {name} in the page')
    return marked.sub(lambda found: f'{found[1]}\n{content}\n{found[2]}', page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tables', nargs='*', help=f'of {", ".join(TABLES)}; all by default')
    parser.add_argument('--write', type=pathlib.Path, help='the page to put the tables into')
    given = parser.parse_args()
    page = given.write.read_text() if given.write else ''
    for name in given.tables or TABLES:
        content = TABLES[name]()
        print(f'{name}\n\n{content}\n', flush=True)
        page = placed(page, name, content) if given.write else page
    if given.write:
        given.write.write_text(page)


if __name__ == '__main__':
    main()
