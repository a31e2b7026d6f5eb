"""CassandraExampleGen, the whole component, run by TFX's LocalDagRunner on the DirectRunner.

Its clock is that of the executor, from its first check to the described artifact. The seconds of every stage of the
process, from the start of Python on, come along.
"""

import time

START = time.perf_counter()

import json  # noqa: E402
from pathlib import Path  # noqa: E402

import clock  # noqa: E402
import ours  # noqa: E402
from tfx.orchestration import metadata, pipeline  # noqa: E402
from tfx.orchestration.local.local_dag_runner import LocalDagRunner  # noqa: E402

if __name__ == '__main__':
    chosen = clock.parser().parse_args()
    connection = ours.connection_to(chosen.host, chosen.port, chosen.datacenter, chosen.keyspace)
    component = ours.example_gen(connection, chosen.table)
    ours.TIMES.moments.append(('start-up', START))
    ours.TIMES.watch()
    ours.TIMES.begins('launcher')
    database = metadata.sqlite_metadata_connection_config(f'{chosen.out}/metadata.sqlite')
    used = clock.cpu_seconds()
    LocalDagRunner().run(
        pipeline.Pipeline('bench', chosen.out, components=[component], metadata_connection_config=database)
    )
    used = clock.cpu_seconds() - used
    ours.TIMES.begins('end')
    stages = ours.TIMES.stages()
    coverage = next(Path(chosen.out).glob('CassandraExampleGen/examples/*/coverage.json'))
    rows = sum(json.loads(coverage.read_text())['examples'].values())
    work = sum(stages[stage] for stage in ('checks', 'planning', 'Beam', 'artifact'))
    clock.say(rows, work, used, stages=stages, examples=str(coverage.parent))
