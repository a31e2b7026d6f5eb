"""CassandraExampleGen from a snapshot beside the same by CQL: seconds, CPU seconds and rows a second.

    .venv/bin/python benchmarks/read/backup.py                  # 2 M rows of feature_store, three rounds, two processes
    .venv/bin/python benchmarks/read/backup.py --rows 500000 --table wide_features --rounds 1 --workers 1

On the development cluster of one node, into which the table is imported as one SSTable. Each run is a process of its
own, and CQL and files take turns; both write gzipped TFRecords with hash splits, whose fingerprints must be equal. CPU
seconds are those of the process and its workers; those of the node, which has work to do for CQL alone, are not among
them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import load
import ours

sys.path.append(str(pathlib.Path(__file__).parents[1] / 'sstable'))

import tables

from tfx_cassandra.components import CassandraBackup, CassandraExampleGen, FeatureView
from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections

KEYSPACE = 'bench_sstable'  # of make bench-sstable, whose tables are used where they are


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=2_000_000)
    parser.add_argument('--table', choices=sorted(load.LAYOUTS), default='feature_store')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--one', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(**json.loads(options.one))))
        return 0
    cluster = DevCluster.saved(default_directory())
    if cluster is None or cluster.nodes != 1:
        sys.exit('backup: error: needs the development cluster of one node: tfx-cassandra cluster start')
    table = tables.Table(load.LAYOUTS[options.table], options.rows)
    connection = ours.connection_to(cluster.contact_points[0], cluster.port, 'dc1', KEYSPACE)
    with connections.session(connection) as session, tempfile.TemporaryDirectory(dir=cluster.directory) as scratch:
        tables.make(cluster, session, KEYSPACE, table, pathlib.Path(scratch))
    common = {'table': table.name, 'workers': options.workers, 'host': cluster.contact_points[0], 'port': cluster.port}
    found: dict[str, list[dict[str, float]]] = {'by CQL': [], 'from files': []}
    for _ in range(options.rounds):
        for name, uri in (('by CQL', None), ('from files', str(cluster.directory))):
            one = json.dumps({**common, 'uri': uri})
            answer = subprocess.run([sys.executable, __file__, '--one', one], stdout=subprocess.PIPE, check=True)
            found[name].append(json.loads(answer.stdout.splitlines()[-1]))
    report(found, options.rows)
    return 0


def run(table: str, workers: int, host: str, port: int, uri: str | None) -> dict[str, object]:
    """Makes the examples once; returns the seconds of Beam's part, CPU seconds of it and the fingerprint."""
    from tfx.dsl.components.base import base_beam_executor
    from tfx.types import standard_artifacts

    from tfx_cassandra.components.example_gen import executor

    layout = load.layout_of(table)
    view = FeatureView('bench', table, layout.entity, layout.timestamp, layout.features)
    connection = ours.connection_to(host, port, 'dc1', KEYSPACE)
    source = None if uri is None else CassandraBackup(uri, tables.TAG, keyspace=KEYSPACE)
    component = CassandraExampleGen(None if source else connection, view, window=ours.WINDOW, source=source)
    artifact = standard_artifacts.Examples()
    beam_args = [f'--direct_num_workers={workers}']
    beam_args += ['--direct_running_mode=multi_processing'] if workers > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        artifact.uri = folder
        context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=beam_args, tmp_dir=folder)
        began, before = time.perf_counter(), cpu()
        executor.Executor(context).Do({}, {'examples': [artifact]}, dict(component.exec_properties))
        seconds, used = time.perf_counter() - began, cpu() - before
        fingerprint = json.loads(pathlib.Path(folder, 'coverage.json').read_text())['fingerprint']
    return {'seconds': seconds, 'cpu': used, 'fingerprint': fingerprint}


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def report(found: dict[str, list[dict[str, float]]], rows: int) -> None:
    if len({run['fingerprint'] for runs in found.values() for run in runs}) != 1:
        sys.exit('backup: error: the fingerprints of CQL and files differ')
    medians = {
        name: [statistics.median(run[figure] for run in runs) for figure in ('seconds', 'cpu')]
        for name, runs in found.items()
    }
    for name, (seconds, used) in medians.items():
        print(
            f'{name:10}  {seconds:7.2f} s  {rows / seconds / 1e6:6.3f} M rows/s  {used / rows * 1e6:6.2f} CPU s/M rows'
        )
    (slow, busy), (fast, idle) = medians['by CQL'], medians['from files']
    print(f'files / CQL: {slow / fast:.2f} x as fast, {busy / idle:.2f} x less CPU time; the same fingerprint')


if __name__ == '__main__':
    sys.exit(main())
